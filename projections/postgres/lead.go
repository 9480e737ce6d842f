package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyledger/keyledger/projections"
)

// lead is the connection that holds the lock of the writer, and writes.
type lead struct {
	store *Store
	conn  *session
	set   int64 // that Checkpoint told of; 0 before
	swept time.Time
}

// Lead implements projections.Store.
func (s *Store) Lead(ctx context.Context) (projections.Lead, error) {
	const doing = "take the lead"
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, s.explain(doing, err)
	}
	l := &lead{store: s, conn: conn}
	if err := l.begin(ctx); err != nil {
		conn.end(ctx)
		return nil, s.explain(doing, err)
	}
	return l, nil
}

func (l *lead) begin(ctx context.Context) error {
	answer, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	taken, err := l.conn.tryLock(answer, leadLock)
	if err != nil {
		return err
	}
	if !taken {
		return projections.ErrFollower()
	}
	l.store.made.Store(false) // it may have been dropped since
	if err := l.store.ensureControl(answer, l.conn.begin); err != nil {
		return err
	}
	if _, err := l.conn.Exec(answer, "SET synchronous_commit = off; SET idle_in_transaction_session_timeout = "+millis(idleWithin)+
		"; SET lock_timeout = "+millis(leadLockWithin), pgx.QueryExecModeSimpleProtocol); err != nil {
		return err
	}
	l.swept = time.Now()
	ctx, cancel = context.WithTimeout(ctx, writeWithin)
	defer cancel()
	return l.sweep(ctx)
}

// sweep drops what nobody uses any more, and builds whose builder has died. Its lock
// is only asked for when there is a build: whoever begins one must find it free.
func (l *lead) sweep(ctx context.Context) error {
	var building, dead bool
	const look = "SELECT EXISTS (SELECT FROM keyledger.builds WHERE state = 'building' AND schema_version = " + schemaVersionText + ")"
	err := l.conn.QueryRow(ctx, look).Scan(&building)
	if err == nil && building {
		dead, err = l.conn.tryLock(ctx, buildLock)
	}
	if err != nil {
		return err
	}
	err = l.conn.sweep(ctx, dead)
	if dead {
		_, unlocked := l.conn.Exec(ctx, "SELECT pg_advisory_unlock($1, $2)", lockClass, buildLock)
		err = errors.Join(err, unlocked)
	}
	return err
}

// liveSet and wholeSet are conditions of builds: the set that readers see, and that
// its tables are there, for a hand may have dropped them.
const (
	liveSet  = "state = 'live' AND schema_version = " + schemaVersionText
	wholeSet = "(SELECT bool_and(to_regclass('keyledger_' || id || '.' || t) IS NOT NULL) FROM unnest('{keys,key_versions,audit,macs,voids}'::text[]) t)"
)

// Checkpoint implements projections.Writer.
func (l *lead) Checkpoint(ctx context.Context) (projections.Checkpoint, error) {
	if err := ctx.Err(); err != nil { // which would cost the connection, and with it the lead
		return projections.Checkpoint{}, l.store.explain("read the checkpoint", err)
	}
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	id, at, err := liveSetOf(ctx, l.conn)
	if err == nil {
		l.set = id
	}
	return at, l.explain("read the checkpoint", err)
}

// written returns the condition of the set that is written to: the one that
// Checkpoint told of. Another one may be at the same event, and hold other rows than
// those that the caller knows.
func (l *lead) written() string {
	if l.set == 0 {
		return liveSet
	}
	return fmt.Sprintf("%s AND id = %d", liveSet, l.set)
}

// explain is Store.explain for calls that need the tables: without them, the caller
// is to begin anew.
func (l *lead) explain(doing string, err error) error {
	if missing(err) {
		err = fmt.Errorf("%w: %w", projections.ErrNoTables, err)
	}
	return l.store.explain(doing, err)
}

// liveSetOf returns the live set and where it is.
func liveSetOf(ctx context.Context, conn interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}) (id int64, at projections.Checkpoint, err error) {
	var clock *time.Time
	err = conn.QueryRow(ctx, "SELECT id, seq, event_id, clock FROM keyledger.builds WHERE "+liveSet+" AND "+wholeSet).Scan(&id, &at.Seq, &at.EventID, &clock)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, at, projections.ErrNoTables
	}
	if clock != nil {
		at.Clock = projections.Micros(*clock)
	}
	return id, at, err
}

// Load implements projections.Writer.
func (l *lead) Load(ctx context.Context, lookup projections.Lookup) (projections.Known, error) {
	if err := ctx.Err(); err != nil {
		return projections.Known{}, l.store.explain("load keys", err)
	}
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	var known projections.Known
	id, _, err := liveSetOf(ctx, l.conn)
	if err == nil && l.set != 0 && id != l.set {
		err = projections.ErrCheckpointMoved
	}
	if err == nil {
		known, err = loadFrom(ctx, l.conn.Conn, schemaName(id), lookup)
	}
	return known, l.explain("load keys", err)
}

// Write implements projections.Writer.
func (l *lead) Write(ctx context.Context, b projections.Batch) error {
	if err := ctx.Err(); err != nil {
		return l.store.explain("write a batch", err)
	}
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	err := writeBatch(ctx, l.conn.Conn, l.written(), &b)
	if err == nil && time.Since(l.swept) > retiredFor {
		l.swept = time.Now()
		err = l.sweep(ctx)
	}
	if err != nil {
		return l.explain(fmt.Sprintf("write events %d to %d", b.From.Seq+1, b.To.Seq), err)
	}
	return nil
}

// Close implements projections.Lead.
func (l *lead) Close(ctx context.Context) error {
	l.conn.end(ctx)
	return nil
}
