package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// buildCache is 16 MiB. More is slower: most pages are written once and never read
// again, and taking memory for them costs more than leaving them to the
// operating system's cache.
const buildCache = "cache_size(-16384)"

// builder builds the tables in a file that nobody reads yet. Without indexes it
// cannot look anything up there, so it remembers where the current row of each
// key is and which macs are taken: about 150 bytes a key. It began empty, so it
// knows all of them.
//
// It writes one batch while the next is made.
type builder struct {
	path    string
	writer  *writer                // nil when the file is complete and closed
	at      projections.Checkpoint // after the last batch that it was given
	writing chan error             // gives how writing that batch ended; nil when that was asked for

	rows  map[domain.KeyID]int64
	voids map[domain.KeyID][]projections.VoidKey
	macs  map[projections.MacHash]domain.KeyID
}

// newBuilder begins a file, in the place of one that was begun before.
func newBuilder(ctx context.Context, path string) (*builder, error) {
	if err := remove(path); err != nil {
		return nil, err
	}
	// One transaction without a journal, nothing synced until the end: a page is
	// written once where the cache holds it. An error or a crash loses the file, and
	// with it nothing that the log does not have.
	db, err := openDB(path, "rwc", 1, "page_size(8192)", "journal_mode(OFF)", "synchronous(OFF)",
		"locking_mode(EXCLUSIVE)", "temp_store(MEMORY)", buildCache)
	if err != nil {
		return nil, err
	}
	w, err := newBuildWriter(ctx, db)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &builder{
		path: path, writer: w, rows: make(map[domain.KeyID]int64),
		voids: make(map[domain.KeyID][]projections.VoidKey), macs: make(map[projections.MacHash]domain.KeyID),
	}, nil
}

func newBuildWriter(ctx context.Context, db *sql.DB) (*writer, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	begin := fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d; BEGIN EXCLUSIVE;", applicationID, schemaVersion)
	if _, err := conn.ExecContext(ctx, begin+tables); err != nil {
		return nil, fmt.Errorf("make the tables: %w", err)
	}
	return newWriter(ctx, db, conn)
}

// write begins to write a batch, the rows of which are r. The one before must be
// settled.
func (b *builder) write(ctx context.Context, batch *projections.Batch, r *rows) error {
	if batch.From != b.at {
		return projections.ErrCheckpointMoved
	}
	b.at = batch.To
	b.learn(batch)
	w, ended := b.writer, make(chan error, 1)
	b.writing = ended
	go func() { ended <- w.writeRows(ctx, r) }()
	return nil
}

// settle waits for the batch that is being written.
func (b *builder) settle() error {
	if b.writing == nil {
		return nil
	}
	err := <-b.writing
	b.writing = nil
	return err
}

// learn remembers what the batch holds.
func (b *builder) learn(batch *projections.Batch) {
	for i := range batch.Versions {
		if v := &batch.Versions[i]; v.ToSeq == 0 {
			b.rows[v.ID] = signed(v.Seq)
		}
	}
	for _, m := range batch.Macs {
		b.macs[m.Hash] = m.Key
	}
	for _, v := range batch.Voids {
		b.voids[v.Key] = append(b.voids[v.Key], v)
	}
}

// recall answers what it remembers, and names the rows that hold the keys asked for.
func (b *builder) recall(l projections.Lookup) (known projections.Known, rows []int64) {
	for _, id := range l.Keys {
		if row, ok := b.rows[id]; ok {
			rows = append(rows, row)
		}
		if voids := b.voids[id]; voids != nil {
			set(&known.Voids, id, voids)
		}
	}
	for _, hash := range l.Macs {
		if id, ok := b.macs[hash]; ok {
			set(&known.Macs, hash, id)
		}
	}
	return known, rows
}

// finish completes the file, when all is settled, and moves it to its place. It may be called again
// after an error and goes on where it was.
func (b *builder) finish(ctx context.Context, path string) error {
	if b.writer != nil {
		for _, step := range append(indexes(), "COMMIT") {
			if _, err := b.writer.conn.ExecContext(ctx, step); err != nil {
				return fmt.Errorf("%s: %w", step, err)
			}
		}
		err := b.writer.close()
		b.writer = nil
		if err != nil {
			return fmt.Errorf("close the new file: %w", err)
		}
	}
	if err := sync(b.path); err != nil {
		if errors.Is(err, fs.ErrNotExist) && exists(path) {
			return nil // it was moved before
		}
		return err
	}
	// An old -wal beside a new file would be taken for its own.
	if err := remove(path, path+"-wal", path+"-shm"); err != nil {
		return err
	}
	if err := os.Rename(b.path, path); err != nil {
		return err
	}
	return sync(filepath.Dir(path))
}

// abandon closes and removes the file.
func (b *builder) abandon() error {
	_ = b.settle() // whatever it is, the file goes
	var err error
	if b.writer != nil {
		err = b.writer.close()
		b.writer = nil
	}
	return errors.Join(err, remove(b.path))
}

// sync writes a file or directory to the disk.
func sync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func remove(paths ...string) error {
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// set puts a value into a map that is made when it is needed.
func set[K comparable, V any](m *map[K]V, key K, value V) {
	if *m == nil {
		*m = make(map[K]V)
	}
	(*m)[key] = value
}
