// Package sqlite is the embedded read store: projections.Store and
// projections.Reader on SQLite files, without cgo.
//
// Every build of the tables has a file of its own: Path <dir>/keys.db stands for
// keys.1.db, keys.2.db and so on. A build is keys.<n>.db.build while it is filled,
// in one transaction without a journal, with what is current in memory and the
// indexes made last. Complete, it has its name and can be opened, and a mark in its
// header that nobody sees it yet; swapping it in is one commit that changes the mark.
// The file before it is removed when its last reader has ended. So there is one
// instant before which a start finds the old tables, and after which it finds the
// new ones; what else lies there is removed.
//
// The live file is in WAL mode, with one connection that writes and a pool that
// reads. It runs with synchronous=NORMAL: a commit does not wait for the disk. A
// power cut may take the last batches back, never tear one, and the projector
// reads them from the log again, which did wait.
//
// When and how often keys were used is not in the log. It is in usage.db, which no
// build touches, with the position in the stream of reports that it was merged up to;
// last use is copied to the rows of keys, to sort and filter by.
//
// Nothing here is for two processes: the data directory's lock keeps them apart, and
// a file that is locked nevertheless is an error.
//
// The package may import projections and domain. cmd/keyledger opens it.
package sqlite
