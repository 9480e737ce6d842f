package sqlite

import (
	"context"
	"encoding/hex"
	"errors"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// load answers a lookup by the indexes. Lists go in as one JSON parameter.
func (w *writer) load(ctx context.Context, l projections.Lookup) (projections.Known, error) {
	var known projections.Known
	if len(l.Keys) > 0 {
		if err := w.loadKeys(ctx, l.Keys, &known); err != nil {
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

const (
	loadKeysQuery  = "SELECT " + keyColumns + " FROM json_each(?) CROSS JOIN keys ON key_id = value"
	loadVoidsQuery = "SELECT key_id, account, seq, reason FROM json_each(?) CROSS JOIN voids ON key_id = value"
	loadMacsQuery  = "SELECT hash, key_id FROM json_each(?) CROSS JOIN macs ON hash = unhex(value)"
)

func (w *writer) loadKeys(ctx context.Context, ids []domain.KeyID, known *projections.Known) error {
	return each(ctx, w.conn, loadKeysQuery, []any{list(ids)}, func(v *values) (bool, error) {
		record, err := scanKey(v)
		if err == nil {
			set(&known.Keys, record.ID, record)
		}
		return true, err
	})
}

func (w *writer) loadVoids(ctx context.Context, ids []domain.KeyID, known *projections.Known) error {
	return each(ctx, w.conn, loadVoidsQuery, []any{list(ids)}, func(v *values) (bool, error) {
		void := projections.VoidKey{
			Key: domain.KeyID(v.text()), Account: domain.AccountID(v.text()), Seq: v.seq(), Reason: projections.VoidReason(v.text()),
		}
		set(&known.Voids, void.Key, append(known.Voids[void.Key], void))
		return true, nil
	})
}

func (w *writer) loadMacs(ctx context.Context, hashes []projections.MacHash, known *projections.Known) error {
	texts := make([]string, len(hashes))
	for i, h := range hashes {
		texts[i] = hex.EncodeToString(h[:])
	}
	return each(ctx, w.conn, loadMacsQuery, []any{list(texts)}, func(v *values) (bool, error) {
		hash, id := v.blob(), domain.KeyID(v.text())
		if len(hash) != len(projections.MacHash{}) {
			return false, errors.New("the hash of a mac has another length")
		}
		set(&known.Macs, projections.MacHash(hash), id)
		return true, nil
	})
}

// list turns texts into a parameter for json_each.
func list[S ~string](texts []S) string { return string(projections.AppendList(nil, texts)) }

// set puts a value into a map that is made when it is needed.
func set[K comparable, V any](m *map[K]V, key K, value V) {
	if *m == nil {
		*m = make(map[K]V)
	}
	(*m)[key] = value
}
