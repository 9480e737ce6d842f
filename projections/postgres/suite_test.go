package postgres

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/keyledger/keyledger/projections/postgres/postgrestest"
	"github.com/keyledger/keyledger/projections/projectionstest"
)

func TestStore(t *testing.T) {
	projectionstest.Run(t, projectionstest.Suite{
		NewPlace: postgrestest.MustDatabases(t).MustCreate,
		Open: func(tb testing.TB, place string) projectionstest.Store {
			tb.Helper()
			return mustOpen(tb, place)
		},
		Shared: true,
		Tampers: []projectionstest.Tamper{
			tamper("name", "UPDATE SCHEMA.keys SET name = 'forged' WHERE key_id = 'key_0000000000000004'", "keys", "name", "key_0000000000000004"),
			tamper("status", "UPDATE SCHEMA.keys SET revoked_at = NULL WHERE key_id = 'key_0000000000000005'", "keys", "revoked_at", "key_0000000000000005"),
			tamper("scopes", "UPDATE SCHEMA.keys SET scopes = '{*}' WHERE key_id = 'key_0000000000000000'", "keys", "scopes", "key_0000000000000000"),
			tamper("use", "UPDATE SCHEMA.keys SET last_used_at = now() WHERE key_id = 'key_0000000000000002'", "keys", "last_used_at", "key_0000000000000002"),
			tamper("missing key", "DELETE FROM SCHEMA.keys WHERE key_id = 'key_0000000000000006'", "keys", "", "key_0000000000000006"),
			tamper("past", "UPDATE SCHEMA.key_versions SET description = 'forged' WHERE from_seq = 4", "key_versions", "description", "key_0000000000000003"),
			tamper("end", "UPDATE SCHEMA.key_versions SET to_seq = 12 WHERE from_seq = 4", "key_versions", "to_seq", "4"),
			tamper("actor", "UPDATE SCHEMA.audit SET actor = 'somebody' WHERE seq = 12", "audit", "actor", "12"),
			tamper("missing entry", "DELETE FROM SCHEMA.audit WHERE seq = 12", "audit", "", "12"),
			tamper("missing mac", "DELETE FROM SCHEMA.macs WHERE key_id = 'key_0000000000000007'", "macs", "", "key_0000000000000007"),
			tamper("clock", "UPDATE keyledger.builds SET clock = clock + interval '1 second' WHERE state = 'live'", "builds", "clock", "1"),
			tamper("added void", "INSERT INTO SCHEMA.voids VALUES ('key_none', 'acme', 3, 'mac_taken')", "voids", "", "key_none"),
			tamper("void", "UPDATE SCHEMA.voids SET reason = 'mac_taken'", "voids", "reason", "key_0000000000000001"),
		},
	})
}

func tamper(name, statement, table, column, row string) projectionstest.Tamper {
	return projectionstest.Tamper{Name: name, Table: table, Column: column, Row: row, Do: func(tb testing.TB, place string) {
		tb.Helper()
		conn, err := pgx.Connect(tb.Context(), place)
		if err != nil {
			tb.Fatal(err)
		}
		defer func() { _ = conn.Close(tb.Context()) }()
		id, _, err := liveSetOf(tb.Context(), conn)
		if err != nil {
			tb.Fatal(err)
		}
		done, err := conn.Exec(tb.Context(), strings.ReplaceAll(statement, "SCHEMA.", schemaName(id)+"."))
		if err != nil || done.RowsAffected() != 1 {
			tb.Fatalf("%s: %v, %v", statement, done, err)
		}
	}}
}
