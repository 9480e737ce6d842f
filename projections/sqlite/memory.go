package sqlite

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// memoryBudget bounds the records that a build keeps in memory, in bytes. Beyond it
// they are read from the file when they are needed.
const memoryBudget = 512 << 20

// memory is what a build knows of the rows that it has written. It began empty, so
// it knows all of them; without it, every batch would wait for the one before
// and then look up its keys in tables without indexes.
//
// A key takes about 100 bytes, its mac 60, and its record some hundreds.
type memory struct {
	ids    map[domain.KeyID]int32 // index in keys
	keys   []heldKey              // in the order of creation
	voids  map[domain.KeyID][]projections.VoidKey
	macs   map[projections.MacHash]heldMac
	chunks [][]byte // of records; without pointers, so that there is nothing to scan
	budget int      // bytes that may still be taken
}

type heldKey struct {
	created, seq uint64
	chunk        int32 // of the record; -1 if it is only in the file
	at, size     int32
	room         int32 // bytes at that place
}

type heldMac struct {
	seq uint64
	key domain.KeyID
}

// chunkSize is how much memory for records is taken at a time.
const chunkSize = 1 << 20

func newMemory() *memory {
	return &memory{
		ids: make(map[domain.KeyID]int32), voids: make(map[domain.KeyID][]projections.VoidKey),
		macs: make(map[projections.MacHash]heldMac), budget: memoryBudget,
	}
}

// learn remembers what the batch holds, and returns the rows to write.
func (m *memory) learn(b *projections.Batch) (*rows, error) {
	r := rowsOf(b)
	for i := range b.Versions {
		record, _ := r.versions[i*columnsOf(versionColumns)+2].([]byte)
		if err := m.learnVersion(&b.Versions[i], record); err != nil {
			return nil, err
		}
	}
	for _, c := range b.Macs {
		if _, taken := m.macs[c.Hash]; taken {
			return nil, fmt.Errorf("the mac of key %s is in the tables already", c.Key)
		}
		m.macs[c.Hash] = heldMac{seq: c.Seq, key: c.Key}
	}
	for _, v := range b.Voids {
		m.voids[v.Key] = append(m.voids[v.Key], v)
	}
	r.macs = nil // written at the end, sorted
	return r, nil
}

func (m *memory) learnVersion(v *projections.KeyVersion, record []byte) error {
	i, known := m.ids[v.ID]
	if !known {
		i = int32(len(m.keys)) //nolint:gosec // keys in memory
		m.ids[v.ID] = i
		m.keys = append(m.keys, heldKey{created: v.CreatedSeq, chunk: -1})
	}
	k := &m.keys[i]
	if k.created != v.CreatedSeq || v.Seq <= k.seq {
		return fmt.Errorf("version %d of key %s does not follow %d of the one created at %d", v.Seq, v.ID, k.seq, k.created)
	}
	k.seq = v.Seq
	if v.ToSeq == 0 {
		m.hold(k, record)
	}
	return nil
}

// hold keeps a record, in the place of the one before if there is room.
func (m *memory) hold(k *heldKey, record []byte) {
	size := len(record)
	if k.chunk < 0 || size > int(k.room) {
		last := len(m.chunks) - 1
		if last < 0 || cap(m.chunks[last])-len(m.chunks[last]) < size {
			if m.budget < chunkSize || size > chunkSize {
				k.chunk = -1
				return
			}
			m.budget -= chunkSize
			m.chunks = append(m.chunks, make([]byte, 0, chunkSize))
			last++
		}
		k.chunk, k.at, k.room = int32(last), int32(len(m.chunks[last])), int32(size) //nolint:gosec // below the budget
		m.chunks[last] = m.chunks[last][:len(m.chunks[last])+size]
	}
	k.size = int32(size) //nolint:gosec // below the budget
	copy(m.chunks[k.chunk][k.at:], record)
}

// record returns the record of a key, nil if it is only in the file.
func (m *memory) record(k heldKey) []byte {
	if k.chunk < 0 {
		return nil
	}
	return m.chunks[k.chunk][k.at : k.at+k.size]
}

// recall answers what it remembers, and names the versions to read from the file.
func (m *memory) recall(l projections.Lookup) (known projections.Known, missing []uint64, err error) {
	known.Keys = make(map[domain.KeyID]projections.KeyRecord, len(l.Keys))
	for _, id := range l.Keys {
		if voids := m.voids[id]; voids != nil {
			set(&known.Voids, id, voids)
		}
		i, ok := m.ids[id]
		if !ok {
			continue
		}
		record := m.record(m.keys[i])
		if record == nil {
			missing = append(missing, m.keys[i].seq)
			continue
		}
		if known.Keys[id], err = parseRecord(record); err != nil {
			return known, nil, err
		}
	}
	for _, hash := range l.Macs {
		if held, ok := m.macs[hash]; ok {
			set(&known.Macs, hash, held.key)
		}
	}
	return known, missing, nil
}

// sortedMacs hands over the rows of macs in the order of their primary key, some
// thousands at a time.
func (m *memory) sortedMacs(use func(rows []any) error) error {
	hashes := make([]projections.MacHash, 0, len(m.macs))
	for hash := range m.macs {
		hashes = append(hashes, hash)
	}
	slices.SortFunc(hashes, func(a, b projections.MacHash) int { return bytes.Compare(a[:], b[:]) })
	var args []any
	for chunk := range slices.Chunk(hashes, 32*macRows) {
		args = args[:0]
		for i := range chunk {
			held := m.macs[chunk[i]]
			args = append(args, chunk[i][:], signed(held.seq), string(held.key))
		}
		if err := use(args); err != nil {
			return err
		}
	}
	return nil
}

func seqList(seqs []uint64) string {
	list := []byte{'['}
	for i, seq := range seqs {
		if i > 0 {
			list = append(list, ',')
		}
		list = strconv.AppendUint(list, seq, 10)
	}
	return string(append(list, ']'))
}
