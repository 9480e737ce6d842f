package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// schemaVersion is the version of the tables of a set and of what their rows are
// made of. Raise it with every change of either: the new tables are built from the log.
const (
	schemaVersion     = 1
	schemaVersionText = "1"
)

// Advisory locks of the database (pg_advisory_lock(class, key)). The keys differ by
// schema version, so that releases side by side do not wait for each other.
const (
	lockClass = 0x6b6c7273 // "klrs"
	leadLock  = 16*schemaVersion + 1
	buildLock = 16*schemaVersion + 2
	// usageLock is held shared while uses are noted and alone while rows of keys come
	// into being, so that none misses a use.
	usageLock = 16*schemaVersion + 3
	makeLock  = 0 // of the control schema
)

// openEnd is the to_seq of current rows. It is a number, not NULL, so that "valid
// at seq" is one comparison.
const openEnd = 1<<63 - 1

// retiredFor is how long a set that was swapped out stays for reads under way;
// obsoleteAfter, how long this version's set is live before those of others go.
const (
	retiredFor    = time.Minute
	obsoleteAfter = 7 * 24 * time.Hour
)

func schemaName(id int64) string { return "keyledger_" + strconv.FormatInt(id, 10) }

const control = `
CREATE SCHEMA IF NOT EXISTS keyledger;
CREATE TABLE IF NOT EXISTS keyledger.builds (
	id             bigserial PRIMARY KEY,
	schema_version int NOT NULL,
	state          text NOT NULL CHECK (state IN ('building', 'live', 'retired')),
	seq            bigint NOT NULL DEFAULT 0,
	event_id       text NOT NULL DEFAULT '',
	clock          timestamptz,
	started_at     timestamptz NOT NULL DEFAULT now(),
	finished_at    timestamptz, -- of a live set, since when; of a retired one, until when
	node           text NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX IF NOT EXISTS builds_live ON keyledger.builds (schema_version) WHERE state = 'live';
CREATE TABLE IF NOT EXISTS keyledger.usage (
	key_id       text COLLATE "C" PRIMARY KEY,
	last_used_at timestamptz NOT NULL
);
CREATE TABLE IF NOT EXISTS keyledger.usage_days (
	day    date NOT NULL,
	key_id text COLLATE "C" NOT NULL,
	count  bigint NOT NULL,
	PRIMARY KEY (day, key_id) -- they are written and removed day by day
);
CREATE TABLE IF NOT EXISTS keyledger.usage_position (
	one    boolean PRIMARY KEY DEFAULT true CHECK (one),
	stream bigint NOT NULL, -- when it was made, nanoseconds since 1970
	seq    bigint NOT NULL
);
CREATE TABLE IF NOT EXISTS keyledger.usage_runs (
	run     text COLLATE "C" PRIMARY KEY,
	number  bigint NOT NULL, -- of its last report that was merged
	seen_at timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS usage_runs_seen ON keyledger.usage_runs (seen_at);
`

// controlTables are what the control schema must have.
const controlTables = "'{keyledger.usage,keyledger.builds,keyledger.usage_days,keyledger.usage_position,keyledger.usage_runs}'::text[]"

// ensureControl makes the control schema where it is missing, in a transaction of
// its own: it is there when that has committed. Nodes that start at the same time take turns.
func (s *Store) ensureControl(ctx context.Context, transact func(context.Context, func(context.Context, pgx.Tx) error) error) error {
	if s.made.Load() {
		return nil
	}
	err := transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var there bool
		const look = "SELECT bool_and(to_regclass(t) IS NOT NULL) FROM unnest(" + controlTables + ") t"
		if err := tx.QueryRow(ctx, look).Scan(&there); err != nil || there {
			return err
		}
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1, $2)", lockClass, makeLock); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, control)
		return err
	})
	if err != nil {
		return fmt.Errorf("make the schema keyledger: %w", err)
	}
	s.made.Store(true)
	return nil
}

// tables are what a build writes to. TEXT is text compared byte by byte, whatever
// language the database sorts by. NULL times are "not so".
func tables(schema string) string {
	columns := make([]string, 0, len(keyColumns))
	for _, c := range keyColumns {
		columns = append(columns, c.name+" "+c.sql)
	}
	ddl := `CREATE SCHEMA SCHEMA;
CREATE TABLE SCHEMA.keys (
	` + strings.Join(columns, ",\n\t") + `,
	last_used_at timestamptz,
	name_fold TEXT GENERATED ALWAYS AS (left(search, char_length(name))) STORED
);
CREATE TABLE SCHEMA.key_versions (
	` + strings.Join(columns, ",\n\t") + `,
	to_seq bigint NOT NULL
);
CREATE TABLE SCHEMA.audit (
	seq bigint NOT NULL, time timestamptz, clock timestamptz, account TEXT NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL,
	command TEXT NOT NULL, subject TEXT NOT NULL, changes json NOT NULL, reason TEXT NOT NULL, void TEXT NOT NULL,
	command_id TEXT NOT NULL, request_id TEXT NOT NULL, event_id TEXT NOT NULL
);
CREATE TABLE SCHEMA.macs (hash bytea NOT NULL, key_id TEXT NOT NULL, seq bigint NOT NULL);
CREATE TABLE SCHEMA.voids (key_id TEXT NOT NULL, account TEXT NOT NULL, seq bigint NOT NULL, reason TEXT NOT NULL);`
	return strings.NewReplacer("SCHEMA.", schema+".", "SCHEMA SCHEMA", "SCHEMA "+schema, "TEXT", `text COLLATE "C"`).Replace(ddl)
}

// What keys are sorted by where it may be unset; the indexes and queries say it in
// the same words.
const (
	expiryOrder = "coalesce(expires_at, 'infinity'::timestamptz)"
	useOrder    = "coalesce(last_used_at, '-infinity'::timestamptz)"
)

// completion returns the statements that make filled tables whole, in stages: those
// of one may run at the same time. The longest come first, so that they end at about
// the same time. Without the indexes that only readers need it is what a check needs.
func completion(schema string, indexed bool) [][]string {
	whole := inSchema(schema,
		fillKeys,
		"ALTER TABLE SCHEMA.audit ADD PRIMARY KEY (seq)",
		"ALTER TABLE SCHEMA.macs ADD PRIMARY KEY (hash)",
		"ALTER TABLE SCHEMA.voids ADD PRIMARY KEY (key_id, account)",
		"ALTER TABLE SCHEMA.key_versions ADD PRIMARY KEY (from_seq)", // waits for keys, which is filled from it
	)
	more := inSchema(schema, "ALTER TABLE SCHEMA.keys ADD PRIMARY KEY (created_seq), ADD UNIQUE (key_id)")
	if indexed {
		more = append(more, indexes(schema)...)
	}
	// The expressions of indexes are analyzed too, once these are there.
	analyze := inSchema(schema, "ANALYZE SCHEMA.keys", "ANALYZE SCHEMA.audit", "ANALYZE SCHEMA.key_versions", "ANALYZE SCHEMA.macs", "ANALYZE SCHEMA.voids")
	return [][]string{whole, more, analyze}
}

// fillKeys makes the current rows from the versions.
var fillKeys = fmt.Sprintf("INSERT INTO SCHEMA.keys (%s, last_used_at) SELECT %s, u.last_used_at "+ //nolint:gochecknoglobals // a constant
	"FROM SCHEMA.key_versions v LEFT JOIN keyledger.usage u USING (key_id) WHERE v.to_seq = %d ORDER BY v.created_seq",
	keyNames(""), keyNames("v."), int64(openEnd))

// indexes are made when the rows are there. Each has a name of its own: of two that
// are made at the same time the server may name both alike.
func indexes(schema string) []string {
	return inSchema(schema,
		"CREATE INDEX versions_of_created ON SCHEMA.key_versions (created_seq, from_seq)",
		"CREATE INDEX versions_of_account ON SCHEMA.key_versions (account, created_seq, from_seq)",
		"CREATE INDEX versions_of_key ON SCHEMA.key_versions (key_id, from_seq)",
		"CREATE INDEX audit_of_account ON SCHEMA.audit (account, seq)",
		"CREATE INDEX audit_of_subject ON SCHEMA.audit (subject, seq)",
		"CREATE INDEX audit_of_actor ON SCHEMA.audit (actor, seq)",
		"CREATE INDEX audit_of_command_id ON SCHEMA.audit (command_id, seq)",
		"CREATE INDEX audit_of_request_id ON SCHEMA.audit (request_id, seq)",
		"CREATE INDEX audit_by_clock ON SCHEMA.audit (clock, seq)",
		"CREATE INDEX keys_of_account ON SCHEMA.keys (account, created_seq)",
		"CREATE INDEX keys_by_name ON SCHEMA.keys (name_fold, created_seq)",
		"CREATE INDEX keys_of_account_by_name ON SCHEMA.keys (account, name_fold, created_seq)",
		"CREATE INDEX keys_by_expiry ON SCHEMA.keys ("+expiryOrder+", created_seq)",
		"CREATE INDEX keys_of_account_by_expiry ON SCHEMA.keys (account, "+expiryOrder+", created_seq)",
		"CREATE INDEX keys_by_use ON SCHEMA.keys ("+useOrder+", created_seq)",
		"CREATE INDEX keys_of_account_by_use ON SCHEMA.keys (account, "+useOrder+", created_seq)",
	)
}

func inSchema(schema string, statements ...string) []string {
	for i := range statements {
		statements[i] = strings.ReplaceAll(statements[i], "SCHEMA.", schema+".")
	}
	return statements
}
