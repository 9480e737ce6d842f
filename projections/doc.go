// Package projections keeps the tables that people query: keys and the audit
// log. It holds the contract of the read store (what is asked of it and what is
// written to it) and the [Projector], which follows the event log, folds events
// with domain.Evolve, and writes rows and its checkpoint in one transaction, so
// that every event takes effect once.
//
// Stores only store and query: every rule (what an event changes, which claim of
// a key id or mac is void, what an audit entry says, what a page token means)
// is here, once, whatever database stands below. Package projections/sqlite is
// the embedded store; projectionstest is the suite that every store passes.
//
// The log is the truth. A store that is lost, or has another schema, is built
// again from it; nothing is migrated by hand. Rows are versioned, valid over
// [from_seq, to_seq), so that the past can be asked as well.
//
// The package may import domain and eventstore. The server reads from a store
// and waits on the projector; cmd/keyledger wires them.
package projections
