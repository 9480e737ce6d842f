package postgres

import (
	"context"
	"errors"
	"sync"

	"github.com/jackc/pgx/v5"
)

// completeSessions is how many connections make indexes at the same time. None has
// workers of the server's: two that make an index each take two thirds of the
// processor time of one with workers, which share one sort.
const completeSessions = 2

// sortMemory is what each may take to sort an index.
const sortMemory = "256MB"

// finish writes what is in memory, and commits: the rows are frozen only in the
// transaction that made the tables. Then it makes keys and, if asked, the indexes that
// only readers need. Each commit waits for the disk.
func (b *build) finish(ctx context.Context, indexed bool) error {
	switch {
	case b.failed != nil || b.indexed || b.complete && !indexed:
		return b.failed
	case b.complete:
		b.failed = b.runStages(ctx, [][]string{indexes(b.schema)})
	default:
		b.failed = b.finishTables(ctx, indexed)
	}
	if b.failed == nil {
		b.complete, b.indexed = true, indexed
	}
	return b.failed
}

func (b *build) finishTables(ctx context.Context, indexed bool) error {
	for row := range b.memory.current {
		b.rows.version(row, 0)
		if b.rows.size() >= copyAt {
			if err := b.send(ctx); err != nil {
				return err
			}
		}
	}
	if err := b.settle(ctx); err != nil {
		return err
	}
	b.memory, b.rows, b.spare = memory{}, copyBuffers{}, copyBuffers{}
	const note = "UPDATE keyledger.builds SET seq = $1, event_id = $2, clock = $3, finished_at = now() WHERE id = $4"
	if _, err := b.conn.Exec(ctx, note, signed(b.at.Seq), b.at.EventID, nullTime(b.at.Clock), b.id); err != nil {
		return err
	}
	if _, err := b.conn.Exec(ctx, "COMMIT"); err != nil {
		return err
	}
	return b.runStages(ctx, completion(b.schema, indexed))
}

// runStages runs statements over several sessions: those of a stage at the same time,
// in no order. One session is enough where the server has no connection left.
func (b *build) runStages(ctx context.Context, stages [][]string) error {
	sessions := []*session{b.conn}
	for len(sessions) < completeSessions {
		more, err := b.store.connect(ctx)
		if err != nil {
			break
		}
		defer more.end(ctx)
		sessions = append(sessions, more)
	}
	for _, c := range sessions {
		const settings = "SET maintenance_work_mem = '" + sortMemory + "'; SET max_parallel_maintenance_workers = 0"
		if _, err := c.Exec(ctx, settings, pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
	}
	for _, statements := range stages {
		if err := runTogether(ctx, sessions, statements); err != nil {
			return err
		}
	}
	return nil
}

// runTogether hands the statements out to the sessions. After an error no other is
// begun; it returns when all that were begun have ended.
func runTogether(ctx context.Context, sessions []*session, statements []string) error {
	var (
		running sync.WaitGroup
		mu      sync.Mutex
		failed  error
	)
	next := func() (statement string, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		if failed != nil || len(statements) == 0 {
			return "", false
		}
		statement, statements = statements[0], statements[1:]
		return statement, true
	}
	for _, c := range sessions {
		running.Go(func() {
			for {
				statement, ok := next()
				if !ok {
					return
				}
				if _, err := c.Exec(ctx, statement); err != nil {
					mu.Lock()
					failed = errors.Join(failed, err)
					mu.Unlock()
					return
				}
			}
		})
	}
	running.Wait()
	return failed
}
