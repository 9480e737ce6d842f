// Package intake is the NATS door: it carries out the commands that producers
// publish, and says what became of them.
//
// One message goes this way, through a Watermill router:
//
//	KEYLEDGER_COMMANDS -> feed.Subscriber, a lane for each key
//	  -> read the subject and the CloudEvent    dead if it cannot be read
//	  -> who is the producer, and may it        dead if there is no such producer
//	  -> command.Handler, as for HTTP           done, or refused
//	  -> the outcome into KEYLEDGER_OUTCOMES
//	  -> the reply to the producer's inbox, with the token
//	  -> a dead letter, if it is dead
//	  -> the acknowledgement
//
// A node may die between any two of these. Then the message comes again. An outcome
// that is stored for it is said once more, a refusal too, and nothing is decided anew
// (told.go); if none is, the handler finds in the log whether the command was carried
// out. Only the token is gone if the node died before the reply;
// who fears that makes the token itself and sends its hash.
//
// What fails for now (the log does not answer, the verifier has not read it to its
// end) is tried again for as long as it takes, and holds up what comes after it about
// the same key.
//
// The package may import the floors below, client and wire. cmd/keyledger runs it.
package intake
