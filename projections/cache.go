package projections

import (
	"slices"

	"github.com/keyledger/keyledger/domain"
)

// entry is all that is known of a key id: the key's current version (Seq 0 if
// there is no such key) and the accounts whose claim of the id is void. Entries
// are never changed.
type entry struct {
	record KeyRecord
	voids  []VoidKey // nearly always none
}

// void returns why the account's claim of the id is void, or "".
func (e *entry) void(account domain.AccountID) VoidReason {
	for i := range e.voids {
		if e.voids[i].Account == account {
			return e.voids[i].Reason
		}
	}
	return ""
}

func (e *entry) withVoid(v VoidKey) *entry {
	return &entry{record: e.record, voids: append(slices.Clip(e.voids), v)}
}

// cache keeps the ids that were used last, in two generations: when the young one
// is full it becomes the old one, and what is used again moves back. That is close
// to "least recently used" without a list.
type cache struct {
	size       int
	young, old map[domain.KeyID]*entry
}

// newCache makes a cache of about size entries.
func newCache(size int) *cache {
	return &cache{size: size, young: make(map[domain.KeyID]*entry)}
}

func (c *cache) get(id domain.KeyID) *entry {
	if e := c.young[id]; e != nil {
		return e
	}
	e := c.old[id]
	if e != nil {
		c.young[id] = e
	}
	return e
}

func (c *cache) put(id domain.KeyID, e *entry) { c.young[id] = e }

// learn enters what the store answered about the ids it was asked for.
func (c *cache) learn(asked []domain.KeyID, k Known) {
	for _, id := range asked {
		c.young[id] = &entry{record: k.Keys[id], voids: k.Voids[id]}
	}
}

// trim forgets the old generation when the young one is full. It is not done on
// the way, since a batch relies on what it has loaded.
func (c *cache) trim() {
	if len(c.young) >= c.size/2 {
		c.old, c.young = c.young, make(map[domain.KeyID]*entry)
	}
}
