// Package natsclient sends commands to keyledger over NATS, where they wait in a
// stream while no server is up. It takes the requests of package client and gives the
// same refusals ([client.Error]); use that package for everything that is not a
// command.
//
// A command is durable once the stream has it, and is carried out once, however often
// it is sent under the same id. So every command has an id: a fresh one unless the
// caller gives its own, and the same over all attempts of a call.
//
// A call that makes a key makes the token here, and sends its hash only: the answer
// can be lost without the token being lost, and no message on the way ever holds it.
// See [Producer.CreateKey] for what that asks of callers that choose the command's id.
//
// Nothing is kept in memory to be sent later: while there is no connection, calls wait
// until their context or [Config].Timeout ends, and then say so.
//
// Of keyledger it imports client and domain. Producers' programs import it.
package natsclient
