// Package postgres is the read store for several nodes: projections.Store and
// projections.Reader on one PostgreSQL database (15 or newer), through pgx.
//
// The schema "keyledger" says which sets of tables there are (builds) and when
// keys were used: last (usage), by day (usage_days), and up to where reports of it were
// merged (usage_position, usage_runs). Each set is a schema of its own, keyledger_<id>:
// one is live, one may be being built. Every read looks up the live set in its own
// transaction, so that a swap is seen by all nodes at once and by no read halfway.
//
// One node writes: the one whose connection holds an advisory lock. It writes
// through that very connection, so that the lock and its writes end together.
// Advisory locks belong to sessions: a pooler before the database must keep to
// sessions too (pgbouncer: pool_mode = session).
//
// A build is one transaction of COPY, with the rows that may still change kept in
// memory, so that every version is written once; keys and indexes follow when that has
// committed, over two sessions. What a node that dies leaves of it, the next build or
// lead removes.
//
// Rows in the past stay: the live set is replaced, not changed, by a rebuild, and
// the set before it is dropped a minute later. Sets of other schema versions
// belong to other releases, and are dropped when this release's has been live for
// a week.
//
// The package may import projections and domain. cmd/keyledger opens it.
package postgres
