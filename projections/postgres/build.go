package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyledger/keyledger/projections"
)

// copyAt is how many bytes of rows are sent at once.
const copyAt = 1 << 20

// discardWithin bounds removing a build that was complete.
const discardWithin = 10 * time.Second

// swapWithin bounds a swap, which takes over the uses that the build missed.
const swapWithin = 2 * time.Minute

// build writes a set of tables that nobody reads. Its rows are written in one
// transaction, the one that makes the tables: they are frozen as they are written (no
// vacuum comes to them later), and as nothing is ever updated every version waits in
// memory, encoded, until its end is known. One batch is sent while the next is made.
// A crash leaves nothing, or a set that is marked as being built: whoever builds or
// leads next removes it.
type build struct {
	store  *Store
	conn   *session
	id     int64
	schema string
	at     projections.Checkpoint // after the last batch that it was given
	failed error                  // why it is of no use any more

	memory  memory
	rows    copyBuffers // to be sent
	spare   copyBuffers // being sent, or free
	sending chan error  // gives how sending ended; nil when that was asked for
	stop    func()      // ends sending

	complete, indexed, swapped bool
}

// Build implements projections.Store.
func (s *Store) Build(ctx context.Context) (projections.Build, error) {
	const doing = "begin a build"
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, s.explain(doing, err)
	}
	b := &build{store: s, conn: conn, memory: newMemory()}
	if err := b.begin(ctx); err != nil {
		conn.end(ctx)
		return nil, s.explain(doing, err)
	}
	return b, nil
}

func (b *build) begin(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	taken, err := b.conn.tryLock(ctx, buildLock)
	if err != nil {
		return err
	}
	if !taken {
		return projections.ErrBuildRunning()
	}
	b.store.made.Store(false) // it may have been dropped since
	if err := b.store.ensureControl(ctx, b.conn.begin); err != nil {
		return err
	}
	// A live set without tables would stand in the way of the new one.
	const retire = "UPDATE keyledger.builds SET state = 'retired', finished_at = now() WHERE " + liveSet + " AND NOT " + wholeSet
	if _, err := b.conn.Exec(ctx, retire); err != nil {
		return err
	}
	if err := b.conn.sweep(ctx, true); err != nil {
		return err
	}
	const enter = "INSERT INTO keyledger.builds (schema_version, state, node) VALUES (" + schemaVersionText + ", 'building', $1) RETURNING id"
	if err := b.conn.QueryRow(ctx, enter, b.store.cfg.Name).Scan(&b.id); err != nil {
		return err
	}
	b.schema = schemaName(b.id)
	_, err = b.conn.Exec(ctx, "BEGIN; "+tables(b.schema), pgx.QueryExecModeSimpleProtocol)
	return err
}

// Checkpoint implements projections.Writer.
func (b *build) Checkpoint(ctx context.Context) (projections.Checkpoint, error) {
	if err := b.settle(ctx); err != nil {
		return projections.Checkpoint{}, b.store.explain("read the checkpoint of the build", err)
	}
	return b.at, nil
}

// Load implements projections.Writer.
func (b *build) Load(ctx context.Context, l projections.Lookup) (projections.Known, error) {
	const doing = "load keys of the build"
	if b.failed != nil {
		return projections.Known{}, b.store.explain(doing, b.failed)
	}
	if b.complete {
		ctx, cancel := context.WithTimeout(ctx, writeWithin)
		defer cancel()
		known, err := loadFrom(ctx, b.conn.Conn, b.schema, l)
		return known, b.store.explain(doing, err)
	}
	known, err := b.memory.recall(l)
	return known, b.store.explain(doing, err)
}

// Write implements projections.Writer.
func (b *build) Write(ctx context.Context, batch projections.Batch) error {
	err := b.write(ctx, &batch)
	if err != nil {
		return b.store.explain(fmt.Sprintf("build events %d to %d", batch.From.Seq+1, batch.To.Seq), err)
	}
	return nil
}

func (b *build) write(ctx context.Context, batch *projections.Batch) error {
	switch {
	case b.failed != nil:
		return b.failed
	case batch.From != b.at:
		return projections.ErrCheckpointMoved
	case b.complete:
		ctx, cancel := context.WithTimeout(ctx, writeWithin)
		defer cancel()
		if err := writeBatch(ctx, b.conn.Conn, fmt.Sprintf("state = 'building' AND id = %d", b.id), batch); err != nil {
			return err
		}
		b.at = batch.To
		return nil
	}
	if b.failed = b.memory.learn(batch, &b.rows); b.failed != nil {
		return b.failed
	}
	b.rows.add(batch)
	b.at = batch.To
	if b.memory.size > b.store.cfg.BuildMemory {
		return b.finish(ctx, true) // and go on by indexes
	}
	if b.rows.size() < copyAt {
		return nil
	}
	return b.send(ctx)
}

// send begins to send the rows, when those before are sent.
func (b *build) send(ctx context.Context) error {
	if err := b.sent(ctx); err != nil {
		return err
	}
	b.rows, b.spare = b.spare, b.rows
	b.rows.reset()
	rows, sending := b.spare, make(chan error, 1)
	// The call that began it ends before it does; Discard and Close cut it off.
	own, stop := context.WithTimeout(context.WithoutCancel(ctx), writeWithin)
	b.sending, b.stop = sending, stop
	go func() {
		defer stop()
		sending <- copyIn(own, b.conn.Conn, b.schema, &rows, ", FREEZE")
	}()
	return nil
}

// sent waits for what is being sent, no longer than the caller does.
func (b *build) sent(ctx context.Context) error {
	if b.sending != nil {
		select {
		case err := <-b.sending:
			b.failed, b.sending = cmp.Or(b.failed, err), nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return b.failed
}

// settle sends all that is left, and waits for it.
func (b *build) settle(ctx context.Context) error {
	if b.rows.size() > 0 && b.failed == nil {
		if err := b.send(ctx); err != nil {
			return err
		}
	}
	return b.sent(ctx)
}

// Complete implements projections.Finisher.
func (b *build) Complete(ctx context.Context) error {
	return b.store.explain("complete the build", b.finish(ctx, true))
}

// Swap implements projections.Finisher.
func (b *build) Swap(ctx context.Context) error {
	const doing = "swap the build in"
	switch {
	case b.failed != nil:
		return b.store.explain(doing, b.failed)
	case !b.complete || !b.indexed:
		return b.store.explain(doing, errors.New("the build is not complete"))
	}
	ctx, cancel := context.WithTimeout(ctx, swapWithin)
	defer cancel()
	err := pgx.BeginFunc(ctx, b.conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1, $2)", lockClass, usageLock); err != nil {
			return err
		}
		var seq uint64
		var live int64 // sets: one, or none
		err := tx.QueryRow(ctx, "SELECT seq FROM keyledger.builds WHERE "+liveSet+" FOR UPDATE").Scan(&seq)
		switch {
		case err == nil:
			live = 1
		case !errors.Is(err, pgx.ErrNoRows):
			return err
		}
		if seq > b.at.Seq {
			return projections.ErrBehind
		}
		// Keys that were used while the build ran.
		const use = "UPDATE SCHEMA.keys k SET last_used_at = u.last_used_at FROM keyledger.usage u WHERE u.key_id = k.key_id AND k.last_used_at IS DISTINCT FROM u.last_used_at"
		if _, err := tx.Exec(ctx, inSchema(b.schema, use)[0]); err != nil {
			return err
		}
		for _, change := range [...]struct {
			statement string
			rows      int64
		}{
			{"UPDATE keyledger.builds SET state = 'retired', finished_at = now() WHERE " + liveSet, live},
			{fmt.Sprintf("UPDATE keyledger.builds SET state = 'live', finished_at = now() WHERE id = %d AND state = 'building'", b.id), 1},
		} {
			done, err := tx.Exec(ctx, change.statement)
			if err != nil {
				return err
			}
			if done.RowsAffected() != change.rows {
				return errBuildGone
			}
		}
		return nil
	})
	b.swapped = err == nil
	return b.store.explain(doing, err)
}

// Discard implements projections.Finisher.
func (b *build) Discard(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discardWithin)
	defer cancel()
	// What is being sent may end by itself soon, and leave a connection to clean up with.
	soon, give := context.WithTimeout(ctx, closeWithin)
	_ = b.sent(soon)
	give()
	if b.sending != nil {
		b.stop()
		b.failed = cmp.Or(b.failed, <-b.sending)
		b.sending = nil
	}
	b.failed = cmp.Or(b.failed, errors.New("the build is over"))
	b.memory, b.rows, b.spare = memory{}, copyBuffers{}, copyBuffers{}
	if !b.conn.IsClosed() {
		// What is not removed here is removed when the next build begins. A swap whose
		// answer was lost may have happened: the state tells.
		_, _ = b.conn.Exec(ctx, "ROLLBACK")
		var state string
		if b.conn.QueryRow(ctx, "SELECT state FROM keyledger.builds WHERE id = $1", b.id).Scan(&state) == nil && state == "building" {
			_ = b.conn.drop(ctx, b.id)
		}
	}
	b.conn.end(ctx)
	return nil
}
