// Package sqlite is the embedded read store: projections.Store and
// projections.Reader on one SQLite file, without cgo.
//
// Live, the file is in WAL mode, with one connection that writes and a pool that
// reads. It runs with synchronous=NORMAL: a commit does not wait for the disk. A
// power cut may take the last batches back, never tear one, and the projector
// reads them from the log again, which did wait.
//
// A store that begins empty is built first: in a second file beside the live
// one (<path>.build), without syncing, with the indexes made last. FinishBuild
// syncs it and renames it into place. A build that was interrupted begins again
// from nothing, and so does a file of another schema version, which stays in place
// until the new one takes it.
//
// The package may import projections and domain. cmd/keyledger opens it.
package sqlite
