package postgres

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

const (
	acquireWithin = 2 * time.Second
	connectWithin = 5 * time.Second
	// writeWithin bounds one transaction to the live tables.
	writeWithin = 30 * time.Second
	// idleWithin is when the server ends the transaction of a reader or the lead that
	// says nothing; lockWithin, how long either waits for a lock: the lead for longer,
	// so that it outlasts those that stand still.
	idleWithin, lockWithin, leadLockWithin = 5 * time.Second, 3 * time.Second, 10 * time.Second
	// answerWithin bounds statements that only wait for the server.
	answerWithin = 5 * time.Second
	// overdue is how much later than the server a client gives up a read: a server that
	// stands still does not end it.
	overdue = time.Second
	// closeWithin bounds saying goodbye to a server that may be gone.
	closeWithin = 2 * time.Second
	// goneWithin is when the server takes a client that vanished from the network for
	// dead: its lead is free then.
	goneWithin = 4 * time.Second
)

// Config is what [Open] needs.
type Config struct {
	// URL is the connection string, a URL or key=value pairs; required unless Pool
	// is set. What it leaves out comes from the PG* variables and files of libpq.
	URL string
	// Pool configures everything about connections, in the place of URL; it must come
	// from pgxpool.ParseConfig.
	Pool *pgxpool.Config
	// Readers is how many reads run at once; 0 means 8.
	Readers int
	// StatementTimeout ends reads that take longer; 0 means 5 s.
	StatementTimeout time.Duration
	// BuildMemory is how many bytes of current rows a build keeps before it goes on by
	// indexes, which is slower; 0 means 1 GiB.
	BuildMemory int64
	// Name is who this node is, for State.Leader of all nodes; "" means keyledger.
	Name string
	// Logger; nil discards.
	Logger *slog.Logger
}

// Store is a read store on a PostgreSQL database. It is safe for concurrent use.
type Store struct {
	cfg    Config
	place  string
	log    *slog.Logger
	pool   *pgxpool.Pool
	watch  *pgxpool.Pool   // one connection, for State: slow reads must not cost the lead
	direct *pgx.ConnConfig // of the connections that lead, build and compare
	made   atomic.Bool     // the control schema was made or found

	mu     sync.Mutex
	closed bool
	owned  map[*session]struct{} // direct connections that are open
}

var (
	_ projections.Store       = (*Store)(nil)
	_ projections.Reader      = (*Store)(nil)
	_ projections.UsageWriter = (*Store)(nil)
	_ projections.UsageReader = (*Store)(nil)
	_ projections.Describer   = (*Store)(nil)
)

// Open makes a store. It does not wait for the database: while that is away,
// calls are errors of KindUnavailable. A malformed connection string is an error.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Readers <= 0 {
		cfg.Readers = 8
	}
	if cfg.StatementTimeout <= 0 {
		cfg.StatementTimeout = 5 * time.Second
	}
	if cfg.BuildMemory <= 0 {
		cfg.BuildMemory = 1 << 30
	}
	if cfg.Name == "" {
		cfg.Name = "keyledger"
	}
	pool := cfg.Pool
	if pool == nil {
		var err error
		if pool, err = pgxpool.ParseConfig(cfg.URL); err != nil {
			// The cause may quote the string, and with it a password.
			return nil, errors.New("open the read store: the connection string of PostgreSQL is malformed: " +
				"use postgres://user:password@host:port/database, or key=value pairs")
		}
	} else {
		pool = pool.Copy()
	}
	conn := pool.ConnConfig
	if conn.ConnectTimeout == 0 {
		conn.ConnectTimeout = connectWithin
	}
	conn.RuntimeParams["application_name"] = cfg.Name
	conn.RuntimeParams["timezone"] = "UTC"
	// What another role puts into its schemas, operators included, is never ours.
	conn.RuntimeParams["search_path"] = "pg_catalog"
	liveliness(conn)
	direct := conn.Copy()
	// Uses are noted under a lock that the lead waits for: a node that stands still
	// must not hold it.
	conn.RuntimeParams["idle_in_transaction_session_timeout"] = millis(idleWithin)
	conn.RuntimeParams["lock_timeout"] = millis(lockWithin)
	conn.RuntimeParams["statement_timeout"] = millis(cfg.StatementTimeout)
	// Plans that fit every value would not go by the account that is asked for.
	conn.RuntimeParams["plan_cache_mode"] = "force_custom_plan"
	// Every list has an index that is in its order. Reading all of an account and
	// sorting it may be estimated to be cheaper, but has no bound.
	for _, name := range [...]string{"enable_sort", "enable_seqscan", "enable_bitmapscan", "jit"} {
		conn.RuntimeParams[name] = "off"
	}
	conn.RuntimeParams["max_parallel_workers_per_gather"] = "0"
	pool.MaxConns = int32(min(cfg.Readers, 10_000)) //nolint:gosec // bounded
	watching := pool.Copy()
	watching.MinConns, watching.MinIdleConns, watching.MaxConns = 0, 0, 1
	p, err := pgxpool.NewWithConfig(context.WithoutCancel(ctx), pool)
	if err != nil {
		return nil, errors.New("open the read store: the pool's configuration is not valid")
	}
	w, err := pgxpool.NewWithConfig(context.WithoutCancel(ctx), watching)
	if err != nil {
		p.Close()
		return nil, errors.New("open the read store: the pool's configuration is not valid")
	}
	s := &Store{
		cfg: cfg, log: cfg.Logger, pool: p, watch: w, direct: direct, owned: make(map[*session]struct{}),
		place: net.JoinHostPort(conn.Host, strconv.Itoa(int(conn.Port))) + "/" + conn.Database,
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	return s, nil
}

// liveliness makes both ends notice soon that the other has vanished.
func liveliness(c *pgx.ConnConfig) {
	c.RuntimeParams["tcp_keepalives_idle"] = "2"
	c.RuntimeParams["tcp_keepalives_interval"] = "1"
	c.RuntimeParams["tcp_keepalives_count"] = "2"
	c.RuntimeParams["tcp_user_timeout"] = millis(goneWithin)
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 2 * time.Second, Interval: time.Second, Count: 2}}
	c.DialFunc = dialer.DialContext
}

func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// Close gives up lead and build and closes all connections.
func (s *Store) Close() error {
	s.mu.Lock()
	already := s.closed
	s.closed = true
	sessions := make([]*session, 0, len(s.owned))
	for c := range s.owned {
		sessions = append(sessions, c)
	}
	s.mu.Unlock()
	pids := make([]uint32, 0, len(sessions))
	for _, c := range sessions {
		pids = append(pids, c.PgConn().PID())
		c.cut()
	}
	if already {
		return nil
	}
	s.await(pids)
	s.pool.Close()
	s.watch.Close()
	return nil
}

// await waits until the server has ended the sessions that were cut, so that
// whoever comes next finds their locks free. Where it cannot be asked it finds
// out by itself.
func (s *Store) await(pids []uint32) {
	if len(pids) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	list := make([]int32, len(pids))
	for i, pid := range pids {
		list[i] = int32(pid) //nolint:gosec // the bits
	}
	const query = "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE pid = ANY($1) AND datname = current_database() AND application_name = $2"
	_, _ = s.pool.Exec(ctx, query, list, s.cfg.Name)
}

func (s *Store) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// transact runs do in a transaction of a pool.
func (s *Store) transact(ctx context.Context, pool *pgxpool.Pool, options pgx.TxOptions, do func(context.Context, pgx.Tx) error) error {
	if s.isClosed() {
		return errClosed
	}
	waiting, cancel := context.WithTimeoutCause(ctx, acquireWithin, errAcquire)
	conn, err := pool.Acquire(waiting)
	late := context.Cause(waiting)
	cancel()
	if err != nil {
		if s.isClosed() {
			return errClosed
		}
		if errors.Is(late, errAcquire) {
			return errors.Join(errAcquire, err)
		}
		return err
	}
	defer conn.Release()
	ctx, end := context.WithTimeout(ctx, s.cfg.StatementTimeout+overdue)
	defer end()
	return pgx.BeginTxFunc(ctx, conn, options, func(tx pgx.Tx) error { return do(ctx, tx) })
}

// begin runs do in a transaction that may write.
func (s *Store) begin(ctx context.Context, do func(context.Context, pgx.Tx) error) error {
	return s.transact(ctx, s.pool, pgx.TxOptions{}, do)
}

const liveQuery = "SELECT id FROM keyledger.builds WHERE " + liveSet

// read runs do in a transaction that sees one instant, with the name of the live
// schema. Where that was dropped under it, for it was retired long before, it
// begins again with the new one.
func (s *Store) read(ctx context.Context, doing string, do func(ctx context.Context, tx pgx.Tx, schema string) error) error {
	var err error
	for range 2 {
		var schema string
		err = s.transact(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(ctx context.Context, tx pgx.Tx) error {
			var id int64
			err := tx.QueryRow(ctx, liveQuery).Scan(&id)
			if errors.Is(err, pgx.ErrNoRows) || missing(err) {
				return projections.ErrBuilding()
			}
			if err != nil {
				return err
			}
			schema = schemaName(id)
			return do(ctx, tx, schema)
		})
		if !missing(err) {
			break
		}
	}
	if missing(err) { // by hand: the leader will find out, and build others
		err = errors.Join(projections.ErrBuilding(), err)
	}
	return s.explain(doing, err)
}

// State implements projections.Store.
func (s *Store) State(ctx context.Context) (projections.State, error) {
	var state projections.State
	const query = `SELECT coalesce(b.id, 0), coalesce(b.seq, 0), coalesce(b.event_id, ''), b.clock, coalesce((
		SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
		WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid = $1::bigint::oid AND l.objid = $2::bigint::oid
		AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) LIMIT 1), '')
		FROM (SELECT) AS always LEFT JOIN keyledger.builds b ON ` + liveSet + ` AND ` + wholeSet
	err := s.transact(ctx, s.watch, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		var clock *time.Time
		err := tx.QueryRow(ctx, query, int64(lockClass), int64(leadLock)).
			Scan(&state.Generation, &state.At.Seq, &state.At.EventID, &clock, &state.Leader)
		if clock != nil {
			state.At.Clock = projections.Micros(*clock)
		}
		return err
	})
	if missing(err) {
		s.made.Store(false) // or it was dropped since
		return projections.State{}, nil
	}
	state.Live = state.Generation != 0
	return state, s.explain("read the state", err)
}

// Info implements projections.Describer.
func (s *Store) Info(ctx context.Context) (projections.Info, error) {
	info := projections.Info{Database: "postgresql", SchemaVersion: schemaVersion, Place: s.place}
	err := s.read(ctx, "describe the tables", func(ctx context.Context, tx pgx.Tx, schema string) error {
		const query = `SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint,
			coalesce(max(c.reltuples) FILTER (WHERE c.relname = 'keys'), 0)::bigint,
			(SELECT seq FROM keyledger.builds WHERE state = 'live' AND schema_version = ` + schemaVersionText + `)
			FROM pg_class c WHERE c.relnamespace = $1::regnamespace AND c.relkind = 'r'`
		// Every event has one entry.
		if err := tx.QueryRow(ctx, query, schema).Scan(&info.Bytes, &info.Keys, &info.Entries); err != nil {
			return err
		}
		if info.Keys >= exactBelow {
			return nil
		}
		return tx.QueryRow(ctx, "SELECT count(*) FROM "+schema+".keys").Scan(&info.Keys)
	})
	if domain.CodeOf(err) == projections.CodeBuilding {
		err = nil
	}
	return info, err
}

// exactBelow is where the planner's estimate is good enough to count by.
const exactBelow = 100_000
