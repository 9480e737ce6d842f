package verify

import (
	"slices"

	"github.com/keyledger/keyledger/domain"
)

// scopeSet is what a key holds, worked out against the catalogue once, so that a
// check is a test of bits. Keys with equal lists share one set.
type scopeSet struct {
	// held is the key's own list without what the catalogue no longer has.
	held domain.Scopes
	// bits has a bit for each scope of the catalogue that the list covers, by index.
	bits []uint64
}

func (s *scopeSet) has(i int) bool { return s.bits[i/64]>>(i%64)&1 == 1 }

// compiler makes scope sets. It is not safe for concurrent use.
type compiler struct {
	catalogue []domain.ScopeInfo
	interned  map[string]*scopeSet
	key       []byte // reused to look up in interned
}

func newCompiler(c *domain.Catalogue) *compiler {
	return &compiler{catalogue: c.All(), interned: map[string]*scopeSet{}}
}

// compile returns the set of a key's list. "*" and "resource:*" cover what the
// catalogue has; a scope that it does not have grants nothing.
func (c *compiler) compile(scopes domain.Scopes) *scopeSet {
	c.key = c.key[:0]
	for _, s := range scopes {
		c.key = append(append(c.key, s...), '\n')
	}
	if set, ok := c.interned[string(c.key)]; ok {
		return set
	}
	set := &scopeSet{held: domain.Scopes{}, bits: make([]uint64, (len(c.catalogue)+63)/64)}
	for _, s := range scopes {
		if c.cover(set, domain.Scopes{s}) {
			set.held = append(set.held, s)
		}
	}
	set.held = slices.Clip(set.held)
	c.interned[string(c.key)] = set
	return set
}

// cover adds to the set what the list covers, and reports whether it is anything.
func (c *compiler) cover(set *scopeSet, list domain.Scopes) (something bool) {
	for i, listed := range c.catalogue {
		if list.Cover(listed.Scope) {
			set.bits[i/64] |= 1 << (i % 64)
			something = true
		}
	}
	return something
}
