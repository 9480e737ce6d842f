package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/keyledger/keyledger/projections"
)

// bulk is a file that is being filled: one transaction without a journal, nothing
// synced until the end, no index but those of the primary keys. An error or a crash
// loses the file, and with it nothing that the log does not have.
type bulk struct {
	db *sql.DB
	statements
	versions, audit, voids *inserter
}

// bulkCache is 16 MiB. More is slower: most pages are written once and never read
// again, and taking memory for them costs more than leaving them to the
// operating system's cache.
const bulkCache = "cache_size(-16384)"

// sortCache is 64 MiB: what sorting an index may take before it goes to temporary
// files. With temp_store at FILE it is one piece of memory; with MEMORY each entry
// would be allocated and freed alone, which takes as long as all the rest.
const sortCache = "PRAGMA cache_size = -65536"

// newBulk begins a file, in the place of one that was begun before.
func newBulk(ctx context.Context, path string) (*bulk, error) {
	if err := remove(path); err != nil {
		return nil, err
	}
	db, err := openDB(path, "rwc", 1, "page_size(8192)", "journal_mode(OFF)", "synchronous(OFF)",
		"locking_mode(EXCLUSIVE)", bulkCache)
	if err != nil {
		return nil, err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	b := &bulk{db: db, statements: statements{conn: conn}}
	begin := fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d; BEGIN EXCLUSIVE;", buildID, schemaVersion)
	if _, err := conn.ExecContext(ctx, begin+tables); err != nil {
		return nil, errors.Join(fmt.Errorf("make the tables: %w", err), b.close())
	}
	b.versions = b.inserter(ctx, "key_versions", versionColumns, versionRows)
	b.audit = b.inserter(ctx, "audit", auditColumns, auditRows)
	b.voids = b.inserter(ctx, "voids", voidColumns, voidRows)
	if b.err != nil {
		return nil, errors.Join(fmt.Errorf("prepare statements: %w", b.err), b.close())
	}
	return b, nil
}

func (b *bulk) close() error {
	return errors.Join(b.statements.close(), b.conn.Close(), b.db.Close())
}

// write inserts what only grows. Current keys and macs stay in memory until the end.
func (b *bulk) write(ctx context.Context, r *rows) error {
	if err := b.versions.insert(ctx, r.versions); err != nil {
		return fmt.Errorf("insert into key_versions: %w", err)
	}
	if err := b.audit.insert(ctx, r.audit); err != nil {
		return fmt.Errorf("insert into audit: %w", err)
	}
	if err := b.voids.insert(ctx, r.voids); err != nil {
		return fmt.Errorf("insert into voids: %w", err)
	}
	return nil
}

const loadVersionsQuery = "SELECT record FROM json_each(?) CROSS JOIN key_versions ON from_seq = value"

// loadRows loads versions of keys by their seqs, a JSON list.
func (b *bulk) loadRows(ctx context.Context, seqs []uint64, known *projections.Known) error {
	return b.records(ctx, seqs, func(r projections.KeyRecord) { set(&known.Keys, r.ID, r) })
}

func (b *bulk) records(ctx context.Context, seqs []uint64, use func(projections.KeyRecord)) error {
	return each(ctx, b.conn, loadVersionsQuery, []any{seqList(seqs)}, func(v *values) (bool, error) {
		record, err := scanVersion(v)
		if err == nil {
			use(record)
		}
		return true, err
	})
}

// finish writes what is in memory only, does the steps and commits.
func (b *bulk) finish(ctx context.Context, m *memory, at projections.Checkpoint, uses *usage, steps []string) error {
	if err := b.writeKeys(ctx, m, uses); err != nil {
		return err
	}
	macs := b.inserter(ctx, "macs", macColumns, macRows)
	if b.err != nil {
		return b.err
	}
	if err := m.sortedMacs(func(rows []any) error { return macs.insert(ctx, rows) }); err != nil {
		return fmt.Errorf("insert into macs: %w", err)
	}
	if _, err := b.conn.ExecContext(ctx, "UPDATE checkpoint SET seq = ?, event_id = ?, clock = ?", signed(at.Seq), at.EventID, micros(at.Clock)); err != nil {
		return fmt.Errorf("write the checkpoint: %w", err)
	}
	if _, err := b.conn.ExecContext(ctx, sortCache); err != nil {
		return err
	}
	for _, step := range append(steps, "COMMIT") {
		if _, err := b.conn.ExecContext(ctx, step); err != nil {
			return fmt.Errorf("%s: %w", step, err)
		}
	}
	return nil
}

// keysPerChunk is how many keys are written at a time at the end of a build.
const keysPerChunk = 1024

// writeKeys writes the rows of keys, in the order of their creation.
func (b *bulk) writeKeys(ctx context.Context, m *memory, uses *usage) error {
	insert := b.inserter(ctx, "keys", keyInsertColumns, keyRows)
	if b.err != nil {
		return b.err
	}
	args := make([]any, 0, keysPerChunk*columnsOf(keyInsertColumns))
	for from := 0; from < len(m.keys); from += keysPerChunk {
		records, err := b.current(ctx, m, m.keys[from:min(from+keysPerChunk, len(m.keys))])
		if err != nil {
			return err
		}
		if err := markUsed(ctx, uses, records); err != nil {
			return err
		}
		args = args[:0]
		for i := range records {
			args = appendKey(args, &records[i])
		}
		if err := insert.insert(context.WithoutCancel(ctx), args); err != nil {
			return fmt.Errorf("insert into keys: %w", err)
		}
	}
	return nil
}

// current returns the records of keys, from memory or from the file.
func (b *bulk) current(ctx context.Context, m *memory, keys []heldKey) ([]projections.KeyRecord, error) {
	records := make([]projections.KeyRecord, len(keys))
	missing := make(map[uint64]int)
	for i, k := range keys {
		var err error
		if record := m.record(k); record == nil {
			missing[k.seq] = i
		} else if records[i], err = parseRecord(record); err != nil {
			return nil, err
		}
	}
	if len(missing) == 0 {
		return records, nil
	}
	seqs := make([]uint64, 0, len(missing))
	for seq := range missing {
		seqs = append(seqs, seq)
	}
	err := b.records(ctx, seqs, func(r projections.KeyRecord) { records[missing[r.Seq]] = r })
	return records, err
}
