package sqlite

import "slices"

// Marks of a file (PRAGMA application_id): one whose tables readers see, and one
// that is being built. Swapping a build in is writing the other mark.
const (
	applicationID = 0x6b6c7273 // "klrs"
	buildID       = 0x6b6c7262 // "klrb"
)

// schemaVersion is the version of everything in this file and of what the rows
// are made of (PRAGMA user_version). A file of another version is built anew from
// the log. Raise it with every change of either.
const schemaVersion = 2

// tables are what a build writes to. Times are microseconds since 1970, UTC; NULL
// is "not so", and the empty text too where the column may be NULL.
//
// keys holds every key as it is, and all that lists filter and sort by: the past
// is in key_versions, which only grows. Of both the rowid is a seq, by which no
// index is needed: every event makes at most one version and creates at most one key.
const tables = `
CREATE TABLE checkpoint (
	one      INTEGER PRIMARY KEY CHECK (one = 1),
	seq      INTEGER NOT NULL,
	event_id TEXT NOT NULL,
	clock    INTEGER
) STRICT;
INSERT INTO checkpoint VALUES (1, 0, '', NULL);

CREATE TABLE keys (
	created_seq   INTEGER PRIMARY KEY,
	seq           INTEGER NOT NULL, -- of the event that made it what it is
	key_id        TEXT NOT NULL,
	account       TEXT NOT NULL,
	key_type      TEXT NOT NULL,
	environment   TEXT,
	name          TEXT NOT NULL,
	name_fold     TEXT NOT NULL,    -- projections.FoldName
	description   TEXT,
	scopes        TEXT NOT NULL,    -- JSON list
	grants        TEXT,             -- JSON object
	display       TEXT NOT NULL,
	expires_at    INTEGER,
	expires_sort  INTEGER NOT NULL, -- expires_at, or projections.NeverMicros
	allowed_ips   TEXT,             -- JSON list
	metadata      TEXT,             -- JSON object
	rotated_from  TEXT,
	created_at    INTEGER,
	created_by    TEXT NOT NULL,
	updated_at    INTEGER,
	imported      INTEGER NOT NULL,
	replaced_by   TEXT,
	rotated_at    INTEGER,
	ends_at       INTEGER,
	revoked_at    INTEGER,
	revoke_reason TEXT,
	expired_at    INTEGER,
	leaked_at     INTEGER,
	notice_lead   INTEGER NOT NULL, -- microseconds
	version       INTEGER NOT NULL,
	search        TEXT NOT NULL,    -- projections.SearchText
	last_used     INTEGER NOT NULL DEFAULT 0 -- 0: never; the copy of what usage.db says
) STRICT;

CREATE TABLE key_versions (
	from_seq    INTEGER PRIMARY KEY,
	created_seq INTEGER NOT NULL, -- of the key
	record      BLOB NOT NULL     -- see appendRecord
) STRICT;

CREATE TABLE audit (
	seq        INTEGER PRIMARY KEY,
	time       INTEGER,
	clock      INTEGER NOT NULL, -- never less than that of the row before
	account    TEXT NOT NULL,
	actor      TEXT NOT NULL,
	action     TEXT NOT NULL,
	command    TEXT NOT NULL,
	subject    TEXT NOT NULL,
	changes    TEXT,             -- JSON list of {field, before, after}
	reason     TEXT,
	void       TEXT,
	command_id TEXT,
	request_id TEXT,
	event_id   TEXT NOT NULL
) STRICT;

CREATE TABLE macs (
	hash   BLOB PRIMARY KEY, -- projections.MacHash
	seq    INTEGER NOT NULL,
	key_id TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE voids (
	key_id  TEXT NOT NULL,
	account TEXT NOT NULL,
	seq     INTEGER NOT NULL,
	reason  TEXT NOT NULL,
	PRIMARY KEY (key_id, account)
) STRICT, WITHOUT ROWID;
`

// The columns in the order of the arguments and scans of rows.go.
const (
	keyColumns = "created_seq, seq, key_id, account, key_type, environment, name, description, scopes, grants, " +
		"display, expires_at, allowed_ips, metadata, rotated_from, created_at, created_by, updated_at, imported, replaced_by, " +
		"rotated_at, ends_at, revoked_at, revoke_reason, expired_at, leaked_at, notice_lead, version, last_used"
	keyInsertColumns = keyColumns + ", name_fold, expires_sort, search"
	versionColumns   = "from_seq, created_seq, record"
	auditColumns     = "seq, time, clock, account, actor, action, command, subject, changes, reason, void, command_id, request_id, event_id"
	macColumns       = "hash, seq, key_id"
	voidColumns      = "key_id, account, seq, reason"
)

// indexes are made when the rows are there. Every index ends in the primary key of
// its table: those on keys in created_seq, by which equals are ordered, those on
// audit in seq. Two are not needed: the log's clock grows with seq, and the events
// of a key are those that made its versions, and void ones.
func indexes() []string {
	return slices.Concat(
		[]string{`CREATE UNIQUE INDEX keys_by_id ON keys (key_id)`, `CREATE INDEX keys_of_account ON keys (account)`},
		[]string{`CREATE INDEX keys_by_name ON keys (name_fold)`, `CREATE INDEX keys_of_account_by_name ON keys (account, name_fold)`},
		[]string{`CREATE INDEX keys_by_expiry ON keys (expires_sort)`, `CREATE INDEX keys_of_account_by_expiry ON keys (account, expires_sort)`},
		[]string{`CREATE INDEX keys_by_use ON keys (last_used)`, `CREATE INDEX keys_of_account_by_use ON keys (account, last_used)`},
		[]string{`CREATE INDEX versions_of_key ON key_versions (created_seq)`},
		[]string{`CREATE INDEX audit_of_account ON audit (account)`, `CREATE INDEX audit_of_actor ON audit (actor)`},
		[]string{`CREATE INDEX audit_of_void ON audit (subject) WHERE void IS NOT NULL`},
		[]string{`CREATE INDEX audit_of_command_id ON audit (command_id)`, `CREATE INDEX audit_of_request_id ON audit (request_id)`},
	)
}
