// Package eventstore is the log: the one ordered stream of events, kept by NATS
// JetStream, from which everything else is made.
//
// [Log.Append] writes events under an expectation of what its aggregates look
// like, [Log.Load] reads one aggregate, [Log.Tail] hands every event in order to
// a projection for ever, and [Log.Replay] and [Log.Follow] iterate over a part of
// history. [Log.Watch] looks for what must never happen: a stream whose
// configuration was changed or whose history was replaced.
//
// It may import domain, nats.go and prometheus; the server that an instance runs
// for itself is in eventstore/embedded, the suite that holds any NATS
// installation to the promises made here in eventstore/eventstoretest. Called by
// command, projections, verify and the doors that show history.
//
// A stored event is one line of JSON, a CloudEvents 1.0 object. Those bytes
// ([Event.Raw]) are what is exported and proved; they are never marshalled again.
package eventstore
