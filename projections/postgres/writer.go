package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// copyIn sends rows into the tables of a schema.
func copyIn(ctx context.Context, conn *pgx.Conn, schema string, rows *copyBuffers, options string) error {
	for _, t := range [...]struct {
		table, columns string
		rows           []byte
	}{
		{"key_versions", keyNames("") + ", to_seq", rows.versions}, {"audit", auditNames, rows.audit},
		{"macs", macNames, rows.macs}, {"voids", voidNames, rows.voids},
	} {
		if len(t.rows) == 0 {
			continue
		}
		statement := fmt.Sprintf("COPY %s.%s (%s) FROM STDIN (FORMAT binary%s)", schema, t.table, t.columns, options)
		if _, err := conn.PgConn().CopyFrom(ctx, bytes.NewReader(append(t.rows, copyTrailer...)), statement); err != nil {
			return fmt.Errorf("write %s: %w", t.table, err)
		}
	}
	return nil
}

// upsertKeys brings the current rows up to what was just written to the versions.
var upsertKeys = func() string { //nolint:gochecknoglobals // a constant
	var set []string
	for _, c := range keyColumns {
		if c.name != "created_seq" {
			set = append(set, c.name+" = excluded."+c.name)
		}
	}
	return fmt.Sprintf("INSERT INTO SCHEMA.keys (%s, last_used_at) SELECT %s, u.last_used_at FROM SCHEMA.key_versions v "+
		"LEFT JOIN keyledger.usage u USING (key_id) WHERE v.from_seq > $1 AND v.to_seq = %d "+
		"ON CONFLICT (created_seq) DO UPDATE SET %s", keyNames(""), keyNames("v."), int64(openEnd), strings.Join(set, ", "))
}()

const endVersions = `UPDATE SCHEMA.key_versions v SET to_seq = e.to_seq
	FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[]) AS e (from_seq, to_seq, created_seq, key_id)
	WHERE v.from_seq = e.from_seq AND v.created_seq = e.created_seq AND v.key_id = e.key_id AND v.to_seq = 9223372036854775807`

// writeBatch applies a batch in one transaction to the set whose row of builds is
// at the batch's From and meets the condition.
//
// The lead's connection commits without waiting for the disk (synchronous_commit is
// off): a crash of the server may take the last batches back, whole ones, and their
// checkpoint with them, and the log, which did wait, has the events.
func writeBatch(ctx context.Context, conn *pgx.Conn, which string, b *projections.Batch) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1, $2)", lockClass, usageLock); err != nil {
			return err
		}
		var id int64
		err := tx.QueryRow(ctx, "UPDATE keyledger.builds SET seq = $1, event_id = $2, clock = $3 WHERE seq = $4 AND event_id = $5 AND "+which+" RETURNING id",
			signed(b.To.Seq), b.To.EventID, nullTime(b.To.Clock), signed(b.From.Seq), b.From.EventID).Scan(&id)
		if errors.Is(err, pgx.ErrNoRows) {
			return projections.ErrCheckpointMoved
		}
		if err != nil {
			return err
		}
		return writeRows(ctx, tx, schemaName(id), b)
	})
}

func writeRows(ctx context.Context, tx pgx.Tx, schema string, b *projections.Batch) error {
	if n := len(b.Ended); n > 0 {
		from, to, created, ids := make([]int64, n), make([]int64, n), make([]int64, n), make([]string, n)
		for i, e := range b.Ended {
			from[i], to[i], created[i], ids[i] = signed(e.FromSeq), signed(e.ToSeq), signed(e.CreatedSeq), string(e.Key)
		}
		done, err := tx.Exec(ctx, inSchema(schema, endVersions)[0], from, to, created, ids)
		if err != nil {
			return fmt.Errorf("end versions: %w", err)
		}
		if done.RowsAffected() != int64(n) {
			return errNoVersion
		}
	}
	var rows copyBuffers
	var row []byte
	for i := range b.Versions {
		row = appendKey(row[:0], &b.Versions[i].KeyRecord)
		rows.version(row, b.Versions[i].ToSeq)
	}
	rows.add(b)
	if err := copyIn(ctx, tx.Conn(), schema, &rows, ""); err != nil {
		return err
	}
	if len(b.Versions) == 0 {
		return nil
	}
	if _, err := tx.Exec(ctx, inSchema(schema, upsertKeys)[0], signed(b.From.Seq)); err != nil {
		return fmt.Errorf("write keys: %w", err)
	}
	return nil
}

func nullTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// loadFrom answers a lookup from the tables.
func loadFrom(ctx context.Context, conn *pgx.Conn, schema string, l projections.Lookup) (projections.Known, error) {
	var known projections.Known
	if len(l.Keys) > 0 {
		ids := make([]string, len(l.Keys))
		for i, id := range l.Keys {
			ids[i] = string(id)
		}
		err := each(ctx, conn, func(row pgx.Row) error {
			record, err := scanKey(row, false)
			if err == nil {
				set(&known.Keys, record.ID, record)
			}
			return err
		}, "SELECT "+selectNames()+" FROM "+schema+".keys WHERE key_id = ANY($1)", ids)
		if err != nil {
			return known, fmt.Errorf("load keys: %w", err)
		}
		err = each(ctx, conn, func(row pgx.Row) error {
			var v projections.VoidKey
			err := row.Scan((*string)(&v.Key), (*string)(&v.Account), &v.Seq, (*string)(&v.Reason))
			if err == nil {
				set(&known.Voids, v.Key, append(known.Voids[v.Key], v))
			}
			return err
		}, "SELECT "+voidNames+" FROM "+schema+".voids WHERE key_id = ANY($1)", ids)
		if err != nil {
			return known, fmt.Errorf("load void claims: %w", err)
		}
	}
	if len(l.Macs) == 0 {
		return known, nil
	}
	hashes := make([][]byte, len(l.Macs))
	for i := range l.Macs {
		hashes[i] = l.Macs[i][:]
	}
	err := each(ctx, conn, func(row pgx.Row) error {
		var hash []byte
		var id string
		err := row.Scan(&hash, &id)
		if err == nil && len(hash) != len(projections.MacHash{}) {
			err = errors.New("the hash of a mac has another length")
		}
		if err == nil {
			set(&known.Macs, projections.MacHash(hash), domain.KeyID(id))
		}
		return err
	}, "SELECT hash, key_id FROM "+schema+".macs WHERE hash = ANY($1)", hashes)
	if err != nil {
		return known, fmt.Errorf("load macs: %w", err)
	}
	return known, nil
}

// each runs a query and hands over its rows.
func each(ctx context.Context, conn interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}, handle func(pgx.Row) error, query string, args ...any) error {
	rows, err := conn.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := handle(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// set puts a value into a map that is made when it is needed.
func set[K comparable, V any](m *map[K]V, key K, value V) {
	if *m == nil {
		*m = make(map[K]V)
	}
	(*m)[key] = value
}
