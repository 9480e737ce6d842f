// Package feed connects Watermill to JetStream: a publisher that waits until the
// stream has a message, and a subscriber that reads a stream through a durable
// consumer, at least once, with explicit acknowledgements.
//
// What it promises beyond Watermill's interfaces:
//
//   - Messages of one lane are handed over in the order of the stream, one at a time.
//     One that is not acknowledged stays at the head of its lane and is handed over
//     again, later each time; nothing of its lane overtakes it. Lanes do not wait for
//     each other.
//   - A message in hand is not delivered to anybody else, however long its handler
//     takes, while this process and its connection live.
//   - After Close, or the death of the process, what was not acknowledged comes again.
//   - Headers are kept as they are, with several values too, and a connection that
//     was given is never closed.
//
// It exists because both packages of watermill-nats panic on headers with several
// values or on a cancelled context, lose what is in hand at Close, drop the error of
// an acknowledgement, or let a message that failed be overtaken.
//
// The package may import domain; doors and floor 2 call it. Appends to the event log
// and the tails that read it do not go through here: they need expectations, order
// over everything and their own positions.
package feed
