package postgres

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// memory is what a build knows of what it has written: everything, since it began
// empty. What grows with the keys holds as few pointers as it can, for the garbage
// collector goes through all of them again and again.
type memory struct {
	ids    map[domain.KeyID]int32 // index in keys
	keys   []heldKey              // in the order of creation
	voids  map[domain.KeyID][]projections.VoidKey
	macs   map[projections.MacHash]int32 // index in keys
	chunks [][]byte                      // of rows
	size   int64                         // of what the chunks hold
	row    []byte                        // scratch space
}

// heldKey is the current version of a key.
type heldKey struct {
	from, created   uint64 // from is 0 between the end of a version and the next
	chunk, at, size int32  // the row, encoded by appendKey
	room            int32  // bytes at that place
}

// chunkSize is how much memory for rows is taken at a time.
const chunkSize = 1 << 20

func newMemory() memory {
	return memory{ids: make(map[domain.KeyID]int32), voids: make(map[domain.KeyID][]projections.VoidKey), macs: make(map[projections.MacHash]int32)}
}

// learn takes in a batch, and hands over the versions whose end is known.
func (m *memory) learn(batch *projections.Batch, out *copyBuffers) error {
	for _, e := range batch.Ended {
		i, ok := m.ids[e.Key]
		if !ok || m.keys[i].from != e.FromSeq || m.keys[i].created != e.CreatedSeq {
			return errNoVersion
		}
		out.version(m.rowOf(i), e.ToSeq)
		m.keys[i].from = 0
	}
	for i := range batch.Versions {
		v := &batch.Versions[i]
		m.row = appendKey(m.row[:0], &v.KeyRecord)
		if v.ToSeq != 0 {
			out.version(m.row, v.ToSeq)
		} else if err := m.hold(&v.KeyRecord); err != nil {
			return err
		}
	}
	for _, claim := range batch.Macs {
		i, ok := m.ids[claim.Key]
		if !ok {
			return errNoVersion
		}
		if _, twice := m.macs[claim.Hash]; twice {
			return errTwice
		}
		m.macs[claim.Hash] = i
	}
	for _, v := range batch.Voids {
		m.voids[v.Key] = append(m.voids[v.Key], v)
	}
	return nil
}

// hold keeps the row of a current version, in the place of the one before if there
// is room.
func (m *memory) hold(r *projections.KeyRecord) error {
	i, known := m.ids[r.ID]
	if !known {
		i = int32(len(m.keys)) //nolint:gosec // keys in memory
		m.ids[r.ID] = i
		m.keys = append(m.keys, heldKey{})
	}
	k := &m.keys[i]
	if k.from != 0 {
		return errTwice
	}
	k.from, k.created = r.Seq, r.CreatedSeq
	if size := len(m.row); size > int(k.room) {
		room := size + size/8 + 32 // most changes add a time or a word
		last := len(m.chunks) - 1
		if last < 0 || cap(m.chunks[last])-len(m.chunks[last]) < room {
			m.chunks = append(m.chunks, make([]byte, 0, max(chunkSize, room)))
			last++
		}
		k.chunk, k.at, k.room = int32(last), int32(len(m.chunks[last])), int32(room) //nolint:gosec // far below
		m.chunks[last] = m.chunks[last][:len(m.chunks[last])+room]
		m.size += int64(room)
	}
	k.size = int32(copy(m.chunks[k.chunk][k.at:], m.row)) //nolint:gosec // far below
	return nil
}

func (m *memory) rowOf(i int32) []byte {
	k := &m.keys[i]
	return m.chunks[k.chunk][k.at : k.at+k.size]
}

// recall answers a lookup.
func (m *memory) recall(l projections.Lookup) (projections.Known, error) {
	known := projections.Known{Keys: make(map[domain.KeyID]projections.KeyRecord, len(l.Keys))}
	for _, id := range l.Keys {
		if i, ok := m.ids[id]; ok && m.keys[i].from != 0 {
			record, err := decodeKey(m.rowOf(i))
			if err != nil {
				return known, fmt.Errorf("read key %s: %w", id, err)
			}
			known.Keys[id] = record
		}
		if voids := m.voids[id]; voids != nil {
			set(&known.Voids, id, slices.Clone(voids))
		}
	}
	for _, hash := range l.Macs {
		if i, ok := m.macs[hash]; ok {
			record, err := decodeKey(m.rowOf(i))
			if err != nil {
				return known, err
			}
			set(&known.Macs, hash, record.ID)
		}
	}
	return known, nil
}

// current yields the rows of current versions, in the order of their seq.
func (m *memory) current(yield func(row []byte) bool) {
	order := make([]int32, 0, len(m.keys))
	for i := range m.keys {
		if m.keys[i].from != 0 {
			order = append(order, int32(i))
		}
	}
	slices.SortFunc(order, func(x, y int32) int { return cmp.Compare(m.keys[x].from, m.keys[y].from) })
	for _, i := range order {
		if !yield(m.rowOf(i)) {
			return
		}
	}
}
