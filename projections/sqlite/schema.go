package sqlite

import (
	"fmt"
	"math"
)

// applicationID marks the file as ours (PRAGMA application_id): "klrs".
const applicationID = 0x6b6c7273

// schemaVersion is the version of everything in this file and of what the rows
// are made of (PRAGMA user_version). A file of another version is built anew from
// the log. Raise it with every change of either.
const schemaVersion = 1

// openEnd is the to_seq of current rows. It is a number, not NULL, so that "valid
// at seq" is one comparison, and the row does not grow when it ends.
const openEnd = math.MaxInt64

// tables are what a build writes to. Times are microseconds since 1970, UTC; NULL
// is "not so". The rowid of a version is the seq of the event that made it: every
// event makes at most one.
const tables = `
CREATE TABLE checkpoint (
	one      INTEGER PRIMARY KEY CHECK (one = 1),
	seq      INTEGER NOT NULL,
	event_id TEXT NOT NULL
) STRICT;
INSERT INTO checkpoint VALUES (1, 0, '');

CREATE TABLE keys (
	from_seq      INTEGER PRIMARY KEY,
	to_seq        INTEGER NOT NULL,
	created_seq   INTEGER NOT NULL,
	key_id        TEXT NOT NULL,
	account       TEXT NOT NULL,
	key_type      TEXT NOT NULL,
	environment   TEXT NOT NULL,
	name          TEXT NOT NULL,
	description   TEXT NOT NULL,
	scopes        TEXT NOT NULL, -- JSON list
	grants        TEXT,          -- JSON object
	display       TEXT NOT NULL,
	expires_at    INTEGER,
	allowed_ips   TEXT,          -- JSON list
	metadata      TEXT,          -- JSON object
	rotated_from  TEXT NOT NULL,
	created_at    INTEGER,
	created_by    TEXT NOT NULL,
	updated_at    INTEGER,
	imported      INTEGER NOT NULL,
	replaced_by   TEXT NOT NULL,
	rotated_at    INTEGER,
	ends_at       INTEGER,
	revoked_at    INTEGER,
	revoke_reason TEXT NOT NULL,
	expired_at    INTEGER,
	leaked_at     INTEGER,
	notice_lead   INTEGER NOT NULL, -- microseconds
	version       INTEGER NOT NULL,
	search        TEXT NOT NULL  -- projections.SearchText
) STRICT;

CREATE TABLE audit (
	seq        INTEGER PRIMARY KEY,
	time       INTEGER,
	account    TEXT NOT NULL,
	actor      TEXT NOT NULL,
	action     TEXT NOT NULL,
	command    TEXT NOT NULL,
	subject    TEXT NOT NULL,
	changes    TEXT NOT NULL, -- JSON list of {field, before, after}
	reason     TEXT NOT NULL,
	void       TEXT NOT NULL,
	command_id TEXT NOT NULL,
	request_id TEXT NOT NULL,
	event_id   TEXT NOT NULL
) STRICT;

CREATE TABLE macs (
	seq    INTEGER PRIMARY KEY,
	hash   BLOB NOT NULL, -- projections.MacHash
	key_id TEXT NOT NULL
) STRICT;

CREATE TABLE voids (
	key_id  TEXT NOT NULL,
	account TEXT NOT NULL,
	seq     INTEGER NOT NULL,
	reason  TEXT NOT NULL,
	PRIMARY KEY (key_id, account)
) STRICT, WITHOUT ROWID;
`

// indexes are made when the rows are there. An index on a table whose primary
// key is an INTEGER ends in that key, so the audit's are ordered by seq.
func indexes() []string {
	return []string{
		`CREATE INDEX IF NOT EXISTS keys_by_id ON keys (key_id, from_seq)`,
		fmt.Sprintf(`CREATE INDEX IF NOT EXISTS keys_current ON keys (created_seq) WHERE to_seq = %d`, openEnd),
		fmt.Sprintf(`CREATE INDEX IF NOT EXISTS keys_of_account ON keys (account, created_seq) WHERE to_seq = %d`, openEnd),
		`CREATE INDEX IF NOT EXISTS audit_of_account ON audit (account)`,
		`CREATE INDEX IF NOT EXISTS audit_of_subject ON audit (subject)`,
		`CREATE UNIQUE INDEX IF NOT EXISTS macs_by_hash ON macs (hash)`,
	}
}
