package soak

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyledger/keyledger/domain"
)

// Told is what a server told a client about one sending of one command. A command
// that was sent several times was told of several times.
type Told struct {
	Ref       Ref
	RequestID string // of this sending
	// Target is the key that the command was about; "" for a create.
	Target domain.KeyID
	// Refused says that the answer was a refusal that stands; the members below
	// are zero then.
	Refused  bool
	Key      domain.KeyID // the key in the answer
	Seq      uint64
	Token    bool // the answer showed a token
	Replayed bool
	// Repeat says that it was sent after an earlier sending had been answered.
	Repeat bool
	// Came is when the answer was there.
	Came time.Time
}

// Judge returns everything that is wrong: commands that the log lost, that it
// holds twice or in part, that nobody sent, and answers that it does not bear out.
// sent says whether clients ever sent a command.
func (h *History) Judge(told []Told, sent func(Ref) bool) []error {
	var wrong []error
	ended := map[domain.KeyID]bool{}
	for ref, group := range h.groups {
		if ofTheClock(ref) {
			wrong = append(wrong, h.checkEnds(ref, group, ended)...)
			continue
		}
		if !sent(ref) {
			wrong = append(wrong, fmt.Errorf("event %d: nobody sent %s", group[0].Seq, ref))
		}
		if err := checkGroup(ref, group); err != nil {
			wrong = append(wrong, err)
		}
	}
	tokens := map[Ref]int{}
	for _, t := range told {
		if t.Token {
			tokens[t.Ref]++
		}
		if err := h.checkTold(t); err != nil {
			wrong = append(wrong, err)
		}
	}
	for ref, n := range tokens {
		if n > 1 {
			wrong = append(wrong, fmt.Errorf("%s: its token was shown %d times", ref, n))
		}
	}
	return wrong
}

// ofTheClock reports whether it is a command that nobody sends: the end of overlaps.
func ofTheClock(r Ref) bool {
	return r.Actor == domain.SystemActor && r.Command == domain.CommandEndOverlap
}

// checkEnds checks one batch of ends of overlaps: each key was in an overlap, ended
// as was promised and not before, once in the whole log, and in one piece with the
// rest. ended has the keys of other batches.
func (h *History) checkEnds(ref Ref, group []Event, ended map[domain.KeyID]bool) (wrong []error) {
	for i, e := range group {
		data, ok := e.Data.(domain.KeyRevoked)
		before := h.before(e)
		switch {
		case e.Seq != group[0].Seq+uint64(i):
			wrong = append(wrong, fmt.Errorf("%s: its events are at %d and at %d: applied twice, or torn apart", ref, group[0].Seq, e.Seq))
		case !ok || data.Reason != "rotated":
			wrong = append(wrong, fmt.Errorf("%s: at %d it led to %s, which ends no overlap", ref, e.Seq, e.Type))
		case ended[e.Key]:
			wrong = append(wrong, fmt.Errorf("%s: at %d the overlap of %s ends once more", ref, e.Seq, e.Key))
		case before.ReplacedBy == "" || !before.RevokedAt.IsZero() || !data.RevokedAt.Equal(before.EndsAt):
			wrong = append(wrong, fmt.Errorf("%s: at %d %s ends at %s, which was not promised", ref, e.Seq, e.Key, data.RevokedAt))
		case e.Time.Before(before.EndsAt):
			wrong = append(wrong, fmt.Errorf("%s: event %d ends the overlap of %s too early", ref, e.Seq, e.Key))
		}
		ended[e.Key] = true
	}
	return wrong
}

// before returns the key as it was before one of its events.
func (h *History) before(e Event) domain.Key {
	var k domain.Key
	for _, v := range h.keys[e.Key] {
		if v.Seq >= e.Seq {
			break
		}
		k = v.Key
	}
	return k
}

// String names the command for messages.
func (r Ref) String() string { return fmt.Sprintf("%s %q of %s", r.Command, r.ID, r.Actor) }

// checkGroup checks that the events of one command are those of one command:
// applied once, as a whole, and in one piece.
func checkGroup(ref Ref, group []Event) error {
	types := make([]string, len(group))
	for i, e := range group {
		types[i] = string(e.Type)
		if e.Seq != group[0].Seq+uint64(i) {
			return fmt.Errorf("%s: its events are at %d and at %d: applied twice, or torn apart", ref, group[0].Seq, e.Seq)
		}
		if e.RequestID != group[0].RequestID {
			return fmt.Errorf("%s: events %d and %d are of two requests", ref, group[0].Seq, e.Seq)
		}
	}
	whole := slices.ContainsFunc(shapes(ref.Command), func(shape []domain.EventType) bool {
		return slices.EqualFunc(shape, group, func(t domain.EventType, e Event) bool { return t == e.Type })
	})
	if !whole {
		return fmt.Errorf("%s: at %d it led to %s: applied twice, or in part", ref, group[0].Seq, strings.Join(types, ", "))
	}
	if ref.Command == domain.CommandRotateKey {
		return checkRotation(ref, group)
	}
	return nil
}

// shapes returns the events that a command can lead to.
func shapes(name domain.CommandName) [][]domain.EventType {
	switch name {
	case domain.CommandCreateKey:
		return [][]domain.EventType{{domain.TypeKeyCreated}}
	case domain.CommandUpdateKey:
		return [][]domain.EventType{{domain.TypeKeyUpdated}}
	case domain.CommandRevokeKey:
		return [][]domain.EventType{{domain.TypeKeyRevoked}}
	case domain.CommandRotateKey:
		return [][]domain.EventType{
			{domain.TypeKeyRotated, domain.TypeKeyCreated}, // with an overlap
			{domain.TypeKeyRotated, domain.TypeKeyRevoked, domain.TypeKeyCreated},
		}
	default:
		return nil // nobody sends the others here
	}
}

func checkRotation(ref Ref, group []Event) error {
	old, successor := group[0], group[len(group)-1]
	rotated, _ := old.Data.(domain.KeyRotated)
	created, _ := successor.Data.(domain.KeyCreated)
	if rotated.ReplacedBy != successor.Key || created.RotatedFrom != old.Key || group[len(group)-2].Key != old.Key {
		return fmt.Errorf("%s: at %d the old and the new key do not name each other", ref, old.Seq)
	}
	return nil
}

// checkTold holds one answer against the log.
func (h *History) checkTold(t Told) error {
	group := h.groups[t.Ref]
	if t.Refused {
		if len(group) > 0 {
			return fmt.Errorf("%s: refused, yet event %d is in the log", t.Ref, group[0].Seq)
		}
		return nil
	}
	if len(group) == 0 {
		return h.checkUnchanged(t)
	}
	last := group[len(group)-1]
	switch {
	case t.Seq != last.Seq:
		return fmt.Errorf("%s: answered with seq %d, but the log has it at %d", t.Ref, t.Seq, last.Seq)
	case t.Key != last.Key:
		return fmt.Errorf("%s: answered with key %s, but the log says %s", t.Ref, t.Key, last.Key)
	case t.Target != "" && t.Target != group[0].Key:
		return fmt.Errorf("%s: it was about %s, but changed %s", t.Ref, t.Target, group[0].Key)
	case !t.Replayed && t.RequestID != last.RequestID:
		return fmt.Errorf("%s: request %s was told that it did it, but request %s did", t.Ref, t.RequestID, last.RequestID)
	case t.Token && (t.Repeat || t.RequestID != last.RequestID):
		return fmt.Errorf("%s: request %s was shown a token, but is a repeat", t.Ref, t.RequestID)
	case t.Repeat && !t.Replayed:
		return fmt.Errorf("%s: a repeat that does not say that it is one", t.Ref)
	}
	return nil
}

// checkUnchanged checks an acknowledged command that has no events: its target
// must have been what was asked for already. Of the commands sent here only a
// revocation can find that.
func (h *History) checkUnchanged(t Told) error {
	if t.Ref.Command != domain.CommandRevokeKey {
		return fmt.Errorf("%s: acknowledged at %d, but lost", t.Ref, t.Seq)
	}
	key, ok := h.At(t.Target, t.Seq)
	if !ok || t.Key != t.Target {
		return fmt.Errorf("%s: acknowledged at %d, which is not an event of %s", t.Ref, t.Seq, t.Target)
	}
	if key.Status(t.Came) != domain.StatusRevoked {
		return fmt.Errorf("%s: acknowledged at %d, where the key is not revoked: lost", t.Ref, t.Seq)
	}
	return nil
}
