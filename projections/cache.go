package projections

import "github.com/keyledger/keyledger/domain"

// entry is what is known of a key id: the key's current version, or that the id
// is void. Entries are never changed.
type entry struct {
	record KeyRecord
	void   *VoidKey
}

func (e *entry) account() domain.AccountID {
	if e.void != nil {
		return e.void.Account
	}
	return e.record.Account
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

func (c *cache) learn(k Known) {
	for id, record := range k.Keys {
		c.young[id] = &entry{record: record}
	}
	for id, void := range k.Voids {
		c.young[id] = &entry{void: &void}
	}
}

// trim forgets the old generation when the young one is full. It is not done on
// the way, since a batch relies on what it has loaded.
func (c *cache) trim() {
	if len(c.young) >= c.size/2 {
		c.old, c.young = c.young, make(map[domain.KeyID]*entry)
	}
}
