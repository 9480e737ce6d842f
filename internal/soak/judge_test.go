package soak

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/domain"
)

// script writes a log: each step is one command and the events that it led to.
type script struct {
	t       *testing.T
	history History
	seq     uint64
	raws    [][]byte
}

type step struct {
	key  domain.KeyID
	data domain.KeyEvent
}

func (s *script) command(name domain.CommandName, id, request string, steps ...step) {
	s.t.Helper()
	for _, st := range steps {
		s.seq++
		data, err := json.Marshal(st.data)
		if err != nil {
			s.t.Fatal(err)
		}
		raw, err := json.Marshal(map[string]any{
			"type": st.data.Type(), "subject": st.key, "account": "default", "time": time.Unix(1, 0).UTC(),
			"actor": "key_op", "command": name, "commandid": id, "requestid": request, "data": json.RawMessage(data),
		})
		if err != nil {
			s.t.Fatal(err)
		}
		s.raws = append(s.raws, raw)
		e, err := Decode(s.seq, raw)
		if err != nil {
			s.t.Fatal(err)
		}
		if err := s.history.Add(e); err != nil {
			s.t.Fatal(err)
		}
	}
}

func created(id, from domain.KeyID) step {
	return step{id, domain.KeyCreated{KeySpec: domain.KeySpec{ID: id, RotatedFrom: from}, CreatedAt: time.Unix(1, 0)}}
}

func updated(id domain.KeyID, name string) step {
	return step{id, domain.KeyUpdated{Name: &name, UpdatedAt: time.Unix(1, 0)}}
}

func rotated(id, to domain.KeyID) step {
	return step{id, domain.KeyRotated{ReplacedBy: to, EndsAt: time.Unix(9, 0), RotatedAt: time.Unix(1, 0)}}
}

func revoked(id domain.KeyID) step {
	return step{id, domain.KeyRevoked{Reason: "r", RevokedAt: time.Unix(1, 0)}}
}

func ref(name domain.CommandName, id string) Ref { return Ref{"key_op", name, id} }

// write makes a log of every command once: a created, renamed and rotated to b
// (with an overlap), b rotated to c (without), c revoked.
func write(t *testing.T) *script {
	t.Helper()
	s := &script{t: t}
	s.command(domain.CommandCreateKey, "c", "q1", created("a", ""))
	s.command(domain.CommandUpdateKey, "u", "q2", updated("a", "n"))
	s.command(domain.CommandRotateKey, "r", "q3", rotated("a", "b"), created("b", "a"))
	s.command(domain.CommandRotateKey, "s", "q4", rotated("b", "c"), revoked("b"), created("c", "b"))
	s.command(domain.CommandRevokeKey, "x", "q5", revoked("c"))
	return s
}

func truth() []Told {
	return []Told{
		{Ref: ref(domain.CommandCreateKey, "c"), RequestID: "q1", Key: "a", Seq: 1, Token: true},
		{Ref: ref(domain.CommandUpdateKey, "u"), RequestID: "q2", Target: "a", Key: "a", Seq: 2},
		{Ref: ref(domain.CommandRotateKey, "r"), RequestID: "q3", Target: "a", Key: "b", Seq: 4, Token: true},
		{Ref: ref(domain.CommandRotateKey, "s"), RequestID: "q4", Target: "b", Key: "c", Seq: 7, Token: true},
		{Ref: ref(domain.CommandRotateKey, "s"), RequestID: "q9", Target: "b", Key: "c", Seq: 7, Replayed: true, Repeat: true},
		{Ref: ref(domain.CommandRevokeKey, "x"), RequestID: "q5", Target: "c", Key: "c", Seq: 8},
		{Ref: ref(domain.CommandRevokeKey, "y"), RequestID: "q6", Target: "b", Key: "b", Seq: 6}, // it was revoked already
		{Ref: ref(domain.CommandUpdateKey, "z"), RequestID: "q7", Target: "b", Refused: true},
	}
}

func all(Ref) bool { return true }

func TestJudgeAcceptsTheTruth(t *testing.T) {
	s := write(t)
	for _, err := range s.history.Judge(truth(), all) {
		t.Error(err)
	}
	if key, ok := s.history.At("a", 2); !ok || key.Name != "n" || key.Rotated() {
		t.Errorf("a at 2: %+v, %t", key, ok)
	}
	if last := s.history.Last("a"); last.Seq != 3 || last.Key.ReplacedBy != "b" || last.Key.Version != 3 {
		t.Errorf("a: %+v", last)
	}
	if !s.history.Holds(2, s.raws[1]) || s.history.Holds(3, s.raws[1]) || s.history.Holds(9, nil) || s.history.Holds(0, nil) {
		t.Error("it does not know what it holds")
	}
	if _, ok := s.history.At("a", 4); ok {
		t.Error("event 4 is not one of a")
	}
}

// A judge that could not say no would show nothing.
func TestJudgeFinds(t *testing.T) {
	tests := map[string]struct {
		told  func(*Told) // changes one answer
		which int
		log   func(*script) // adds to the log
		sent  func(Ref) bool
		want  string
	}{
		"a lost create":              {told: func(a *Told) { a.Ref.ID = "gone" }, which: 0, want: "lost"},
		"a lost update":              {told: func(a *Told) { a.Ref.ID = "gone" }, which: 1, want: "lost"},
		"a lost revocation":          {told: func(a *Told) { a.Ref.ID, a.Target, a.Key, a.Seq = "gone", "a", "a", 2 }, which: 5, want: "not revoked: lost"},
		"a revocation of nothing":    {told: func(a *Told) { a.Ref.ID, a.Seq = "gone", 2 }, which: 5, want: "not an event of"},
		"an answer with another seq": {told: func(a *Told) { a.Seq = 2 }, which: 0, want: "the log has it at 1"},
		"an answer with another key": {told: func(a *Told) { a.Key = "b" }, which: 0, want: "the log says a"},
		"another target":             {told: func(a *Told) { a.Target = "c" }, which: 2, want: "but changed a"},
		"a refusal that took effect": {told: func(a *Told) { *a = Told{Ref: a.Ref, Refused: true} }, which: 1, want: "refused, yet event 2"},
		"two who did it":             {told: func(a *Told) { a.RequestID = "q0" }, which: 1, want: "but request q2 did"},
		"a repeat with a token":      {told: func(a *Told) { a.Token = true }, which: 4, want: "shown a token"},
		"a repeat that hides it":     {told: func(a *Told) { a.Replayed, a.RequestID = false, "q4" }, which: 4, want: "does not say that it is one"},
		"a stranger's command":       {sent: func(r Ref) bool { return r.ID != "u" }, want: "nobody sent update_key \"u\""},
		"a create done twice": {log: func(s *script) {
			s.command(domain.CommandCreateKey, "c", "q1", created("d", ""))
		}, want: "applied twice, or torn"},
		"an update done twice in a row": {log: func(s *script) {
			s.command(domain.CommandUpdateKey, "v", "q8", updated("a", "x"), updated("a", "x"))
		}, want: "applied twice, or in part"},
		"half a rotation": {log: func(s *script) {
			s.command(domain.CommandRotateKey, "t", "q8", rotated("a", "d"))
		}, want: "applied twice, or in part"},
		"a rotation to another key": {log: func(s *script) {
			s.command(domain.CommandRotateKey, "t", "q8", rotated("a", "d"), created("e", "a"))
		}, want: "do not name each other"},
		"events of two requests": {log: func(s *script) {
			s.command(domain.CommandRotateKey, "t", "q8", rotated("a", "d"))
			s.command(domain.CommandRotateKey, "t", "q9", created("d", "a"))
		}, want: "of two requests"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s, told, sent := write(t), truth(), all
			if tc.told != nil {
				tc.told(&told[tc.which])
			}
			if tc.log != nil {
				tc.log(s)
			}
			if tc.sent != nil {
				sent = tc.sent
			}
			wrong := s.history.Judge(told, sent)
			if len(wrong) == 0 || !strings.Contains(wrong[0].Error(), tc.want) {
				t.Errorf("found %v, want %q", wrong, tc.want)
			}
		})
	}
}

func TestTokensAreShownOnce(t *testing.T) {
	s, told := write(t), truth()
	told = append(told, told[0])
	if wrong := s.history.Judge(told, all); len(wrong) != 1 || !strings.Contains(wrong[0].Error(), "shown 2 times") {
		t.Errorf("found %v", wrong)
	}
}

func TestHistoryRefuses(t *testing.T) {
	for name, e := range map[string]Event{
		"a gap":                       {Seq: 10, Key: "a", Type: domain.TypeKeyUpdated, Data: domain.KeyUpdated{}},
		"a repeat":                    {Seq: 8, Key: "a", Type: domain.TypeKeyUpdated, Data: domain.KeyUpdated{}},
		"a key that exists":           {Seq: 9, Key: "a", Type: domain.TypeKeyCreated, Data: domain.KeyCreated{}},
		"a key that was never made":   {Seq: 9, Key: "zz", Type: domain.TypeKeyUpdated, Data: domain.KeyUpdated{}},
		"a log that begins in medias": {Seq: 0, Key: "zz", Type: domain.TypeKeyCreated, Data: domain.KeyCreated{}},
	} {
		t.Run(name, func(t *testing.T) {
			s := write(t)
			if err := s.history.Add(e); err == nil {
				t.Error("taken")
			}
		})
	}
	if _, err := Decode(1, []byte(`{"type":"keyledger.key.other.v1","data":{}}`)); err == nil {
		t.Error("an event of an unknown type was taken")
	}
}
