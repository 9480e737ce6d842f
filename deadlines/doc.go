// Package deadlines writes what time brings about: the notice that a key will
// expire (KeyExpiring), its expiry (KeyExpired) and the end of a rotation's overlap
// (KeyRevoked), once each for a key and a deadline.
//
// Nothing here makes a key invalid: whoever reads a key's status goes by the clock,
// whether or not the event is there yet. The events are for those who read the log.
//
// Every node follows the log with a [Worker] and keeps in memory what is due when.
// One of them holds the lease and appends, in batches, what domain.Decide says; the
// others stand by with an index that is as good. That an event is written once is
// not the lease's doing: each append expects the last event of its key to be the one
// that was decided upon, so that a second writer, a writer that was believed dead
// and a command that comes at the same time lose, look again and decide anew.
//
// It may import domain, eventstore and prometheus. Called by cmd/keyledger.
package deadlines
