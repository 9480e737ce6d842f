package main

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/anishathalye/porcupine"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/verify"
)

// raceInput is what a client asked of the one key.
type raceInput struct {
	what    domain.CommandName // or raceGet, raceVerify
	name    string             // of an update
	reason  string             // of a revocation; each has its own
	ifMatch uint64             // of an update; 0: none
	overlap bool               // of a rotation: the old key goes on working
	id      string             // idempotency key
}

// The reads, beside the commands.
const (
	raceGet    domain.CommandName = "get"
	raceVerify domain.CommandName = "verify"
)

// raceOutput is what the client was told.
type raceOutput struct {
	refused  string     // code; "" if it was done
	key      client.Key // of a command: as it left it (a rotation: the new key); of a get: as it is
	seq      uint64     // of a command
	replayed bool
	code     string // of a verification
	asOf     uint64 // of a verification
}

// did says whether this very sending changed the key. A revocation that finds the
// key revoked is done too, but the reason in its answer is another's.
func did(in raceInput, out raceOutput) bool {
	switch {
	case out.refused != "" || out.replayed || in.what == raceGet || in.what == raceVerify:
		return false
	case in.what == domain.CommandRevokeKey:
		return out.key.RevokeReason == in.reason
	default:
		return true
	}
}

// raceState is the key in the model.
type raceState struct {
	changes    int    // made so far
	seq        uint64 // of the key's last event
	name       string
	revoked    bool
	replacedBy string
	read       int // gets so far
	passed     int // answers so far that only a key that works can give
}

// raceModel says what a key does, one operation at a time.
func raceModel(first raceState, history []porcupine.Operation) porcupine.Model {
	hints := newRaceHints(history)
	return porcupine.Model{
		Init: func() any { return first },
		Step: func(state, input, output any) (bool, any) {
			s, in, out := state.(raceState), input.(raceInput), output.(raceOutput) //nolint:errcheck,forcetypeassert // ours
			if did(in, out) {
				if s.refusal(in) != "" || out.seq <= s.seq || !hints.allow(s, out) {
					return false, s
				}
				return s.change(in, out)
			}
			ok := s.explains(in, out, hints)
			if in.what == raceGet {
				s.read++
			}
			if needsLife(in, out) {
				s.passed++
			}
			return ok, s
		},
		DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
	}
}

// explains says whether an answer that changed nothing is the right one now.
func (s raceState) explains(in raceInput, out raceOutput, hints raceHints) bool {
	switch {
	case in.what == raceGet:
		return out.key.Seq == s.seq && out.key.Name == s.name && out.key.Status == s.status() && out.key.ReplacedBy == s.replacedBy
	case in.what == raceVerify:
		return out.code == s.verdict() && s.changes >= hints.after(out.asOf) // it has seen at least what it says
	case out.refused != "":
		return out.refused == s.refusal(in)
	case out.replayed: // its first sending was done before
		rank, known := hints.ranks[out.seq]
		return known && rank < s.changes
	default: // a revocation of a revoked key
		return in.what == domain.CommandRevokeKey && s.revoked && out.seq == s.seq
	}
}

// raceHints is what the answers say about the order of things, taken together. It
// saves the search from orders that cannot be (it would take hours); which orders
// can be is still for the model to say.
type raceHints struct {
	ranks    map[uint64]int // the changes by the seq of their answers, numbered in order
	versions []uint64       // seq of the key's last event after each change
	reads    []int          // gets that saw the key as it was before each change, or earlier
	ends     int            // number of the change that ends the key
	passes   int            // answers that must have come before that
}

func newRaceHints(history []porcupine.Operation) raceHints {
	var changes []porcupine.Operation
	for _, op := range history {
		if did(op.Input.(raceInput), op.Output.(raceOutput)) { //nolint:errcheck,forcetypeassert // ours
			changes = append(changes, op)
		}
	}
	slices.SortFunc(changes, func(a, b porcupine.Operation) int {
		return cmp.Compare(a.Output.(raceOutput).seq, b.Output.(raceOutput).seq) //nolint:errcheck,forcetypeassert // ours
	})
	h := raceHints{ranks: map[uint64]int{}, reads: make([]int, len(changes)), ends: -1}
	for rank, op := range changes {
		in, out := op.Input.(raceInput), op.Output.(raceOutput) //nolint:errcheck,forcetypeassert // ours
		h.ranks[out.seq] = rank                                 // of two with one seq only one can be in its place: no order will do
		h.versions = append(h.versions, versionAfter(in, out))
		if in.what == domain.CommandRevokeKey || in.what == domain.CommandRotateKey && !in.overlap {
			h.ends = rank
		}
	}
	for _, op := range history {
		in, out := op.Input.(raceInput), op.Output.(raceOutput) //nolint:errcheck,forcetypeassert // ours
		for rank := h.after(out.key.Seq); in.what == raceGet && rank < len(changes); rank++ {
			h.reads[rank]++
		}
		if needsLife(in, out) {
			h.passes++
		}
	}
	return h
}

// allow says whether a change can be next, by what the answers say.
func (h raceHints) allow(s raceState, out raceOutput) bool {
	rank := h.ranks[out.seq]
	return rank == s.changes && s.read == h.reads[rank] && (rank != h.ends || s.passed == h.passes)
}

// needsLife says whether an answer is one that only a key that works can give.
func needsLife(in raceInput, out raceOutput) bool {
	return in.what == raceVerify && out.code == string(verify.CodeValid) || out.refused == domain.CodeKeyRotated
}

// versionAfter returns the seq of the key's last event after a change. The last
// event of a rotation is the new key's.
func versionAfter(in raceInput, out raceOutput) uint64 {
	if in.what == domain.CommandRotateKey {
		return out.seq - 1
	}
	return out.seq
}

// after returns the number of the first change beyond seq.
func (h raceHints) after(seq uint64) int {
	n, found := slices.BinarySearch(h.versions, seq)
	if found {
		n++
	}
	return n
}

func (s raceState) status() string {
	if s.revoked {
		return string(domain.StatusRevoked)
	}
	return string(domain.StatusActive)
}

func (s raceState) verdict() string {
	if s.revoked {
		return string(verify.CodeRevoked)
	}
	return string(verify.CodeValid)
}

// refusal returns the code by which a command is refused now, or "".
func (s raceState) refusal(in raceInput) string {
	switch {
	case in.ifMatch != 0 && in.ifMatch != s.seq:
		return domain.CodeVersionMismatch
	case in.what == domain.CommandRevokeKey:
		return ""
	case s.revoked:
		return domain.CodeKeyRevoked
	case in.what == domain.CommandRotateKey && s.replacedBy != "":
		return domain.CodeKeyRotated
	default:
		return ""
	}
}

// change carries out a command that is not refused.
func (s raceState) change(in raceInput, out raceOutput) (bool, any) {
	s.changes++
	switch in.what {
	case domain.CommandUpdateKey:
		s.seq, s.name = out.seq, in.name
		return out.key.Seq == s.seq && out.key.Name == s.name, s
	case domain.CommandRevokeKey:
		if s.revoked {
			return false, s
		}
		s.seq, s.revoked = out.seq, true
		return out.key.Seq == s.seq && out.key.Status == s.status(), s
	case domain.CommandRotateKey:
		s.seq, s.replacedBy, s.revoked = out.seq-1, out.key.ID, !in.overlap // the new key's event is the last of the append
		return out.key.Seq == out.seq && out.key.Name == s.name, s          // the successor has the name of that moment
	default:
		return false, s
	}
}

// sinceAnswers lets reads take effect as early as the last acknowledged change
// before them, and no earlier. That is what is promised: a read waits until what it
// reads from has applied everything that was acknowledged. A refusal is decided by
// the log and acknowledges nothing, so a read right after one may be older than it.
func sinceAnswers(history []porcupine.Operation) []porcupine.Operation {
	var acknowledged []int64
	for _, op := range history {
		in, out := op.Input.(raceInput), op.Output.(raceOutput) //nolint:errcheck,forcetypeassert // ours
		if in.what != raceGet && in.what != raceVerify && out.refused == "" {
			acknowledged = append(acknowledged, op.Return)
		}
	}
	slices.Sort(acknowledged)
	widened := slices.Clone(history)
	for i, op := range widened {
		in := op.Input.(raceInput) //nolint:errcheck,forcetypeassert // ours
		if in.what != raceGet && in.what != raceVerify {
			continue
		}
		n, _ := slices.BinarySearchFunc(acknowledged, op.Call, cmp.Compare[int64])
		widened[i].Call = 0
		if n > 0 {
			widened[i].Call = acknowledged[n-1] + 1
		}
	}
	return widened
}
