package sqlite

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// load answers a lookup by the indexes. Lists go in as one JSON parameter.
func (w *writer) load(ctx context.Context, l projections.Lookup) (projections.Known, error) {
	var known projections.Known
	if len(l.Keys) > 0 {
		from := fmt.Sprintf("FROM json_each(?) CROSS JOIN keys ON key_id = value AND to_seq = %d", openEnd)
		if err := w.loadKeys(ctx, from, l.Keys, &known); err != nil {
			return known, err
		}
		if err := w.loadVoids(ctx, l.Keys, &known); err != nil {
			return known, err
		}
	}
	if len(l.Macs) > 0 {
		if err := w.loadMacs(ctx, l.Macs, &known); err != nil {
			return known, err
		}
	}
	return known, nil
}

// loadRows loads keys by the rows that hold them.
func (w *writer) loadRows(ctx context.Context, rows []int64, known *projections.Known) error {
	return w.loadKeys(ctx, "FROM json_each(?) CROSS JOIN keys ON from_seq = value", rows, known)
}

func (w *writer) loadKeys(ctx context.Context, from string, list any, known *projections.Known) error {
	return w.each(ctx, "SELECT "+keyColumns+" "+from, list, func(rows scanner) error {
		record, err := scanKey(rows)
		if err == nil {
			set(&known.Keys, record.ID, record)
		}
		return err
	})
}

func (w *writer) loadVoids(ctx context.Context, ids []domain.KeyID, known *projections.Known) error {
	const query = "SELECT key_id, account, seq, reason FROM json_each(?) CROSS JOIN voids ON key_id = value"
	return w.each(ctx, query, ids, func(rows scanner) error {
		var v projections.VoidKey
		err := rows.Scan(&v.Key, &v.Account, &v.Seq, &v.Reason)
		if err == nil {
			set(&known.Voids, v.Key, append(known.Voids[v.Key], v))
		}
		return err
	})
}

func (w *writer) loadMacs(ctx context.Context, hashes []projections.MacHash, known *projections.Known) error {
	list := make([]string, len(hashes))
	for i, h := range hashes {
		list[i] = hex.EncodeToString(h[:])
	}
	const query = "SELECT hash, key_id FROM json_each(?) CROSS JOIN macs ON hash = unhex(value)"
	return w.each(ctx, query, list, func(rows scanner) error {
		var hash []byte
		var id domain.KeyID
		if err := rows.Scan(&hash, &id); err != nil {
			return err
		}
		if len(hash) != len(projections.MacHash{}) {
			return errors.New("the hash of a mac has another length")
		}
		set(&known.Macs, projections.MacHash(hash), id)
		return nil
	})
}

// scanner is the part of *sql.Rows that reads a row.
type scanner interface{ Scan(dest ...any) error }

// each runs a query with a list as its one parameter.
func (w *writer) each(ctx context.Context, query string, list any, row func(scanner) error) error {
	param, err := json.Marshal(list)
	if err != nil {
		return err
	}
	rows, err := w.conn.QueryContext(ctx, query, string(param))
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
