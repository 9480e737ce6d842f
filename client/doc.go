// Package client is the Go SDK of keyledger: the wire types of its HTTP API and a
// client for it.
//
// The wire types are the one definition of the API: the server reads requests
// into them and answers with them, its OpenAPI document is generated from them
// (hence their doc, format and enum tags), and the client sends and returns them.
//
// Producers make tokens with [NewToken] and send their hash only; package natsclient
// sends the same commands over NATS, while no server is up too.
//
// The package stands beside the floors of the house: of keyledger it imports domain
// only, so that a program can use it without pulling in the server. The
// server, the command line and customers' programs import it.
package client
