package soak

import (
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/keyledger/keyledger/domain"
)

// Version is a key as one of its events left it.
type Version struct {
	Seq uint64
	Key domain.Key
}

// History is a log that was read from its beginning, with the fold of every key at
// every event. The zero value is an empty log. It is not safe for concurrent use.
type History struct {
	events []Event
	groups map[Ref][]Event
	keys   map[domain.KeyID][]Version
	order  []domain.KeyID // as created
}

// Add takes the next event. It refuses one that does not follow the last without a
// gap, and one of a key that was not created or was created before.
func (h *History) Add(e Event) error {
	if want := h.Head() + 1; e.Seq != want {
		return fmt.Errorf("event %d follows event %d: the log has a gap or a repeat", e.Seq, h.Head())
	}
	if h.groups == nil {
		h.groups, h.keys = map[Ref][]Event{}, map[domain.KeyID][]Version{}
	}
	versions := h.keys[e.Key]
	var before domain.Key
	if len(versions) > 0 {
		before = versions[len(versions)-1].Key
	}
	switch created := e.Type == domain.TypeKeyCreated; {
	case created && before.Exists():
		return fmt.Errorf("event %d creates %s, which exists", e.Seq, e.Key)
	case created:
		h.order = append(h.order, e.Key)
	case !before.Exists():
		return fmt.Errorf("event %d is about %s, which was never created", e.Seq, e.Key)
	}
	h.events = append(h.events, e)
	h.groups[e.Ref] = append(h.groups[e.Ref], e)
	h.keys[e.Key] = append(versions, Version{e.Seq, domain.Evolve(before, e.Data)})
	return nil
}

// Holds reports whether the event at seq is stored as it was when it was added: a log
// never changes what it has said.
func (h *History) Holds(seq uint64, raw []byte) bool {
	return seq > 0 && seq <= h.Head() && h.events[seq-1].Sum == sha256.Sum256(raw)
}

// Head returns the last seq; 0 for an empty log.
func (h *History) Head() uint64 { return uint64(len(h.events)) }

// Keys returns the ids of all keys in order of creation.
func (h *History) Keys() []domain.KeyID { return slices.Clone(h.order) }

// Versions returns all versions of a key, oldest first; none if there is no such key.
func (h *History) Versions(id domain.KeyID) []Version { return h.keys[id] }

// Last returns the present version of a key, the zero Version if there is none.
func (h *History) Last(id domain.KeyID) Version {
	versions := h.keys[id]
	if len(versions) == 0 {
		return Version{}
	}
	return versions[len(versions)-1]
}

// At returns the key as the event with this seq left it; false if that event is
// not one of the key's.
func (h *History) At(id domain.KeyID, seq uint64) (domain.Key, bool) {
	at, found := slices.BinarySearchFunc(h.keys[id], seq, func(v Version, seq uint64) int {
		return int(v.Seq) - int(seq) //nolint:gosec // far from overflow
	})
	if !found {
		return domain.Key{}, false
	}
	return h.keys[id][at].Key, true
}

// From returns the events from seq on.
func (h *History) From(seq uint64) []Event {
	if seq == 0 || seq > h.Head() {
		return nil
	}
	return h.events[seq-1:]
}
