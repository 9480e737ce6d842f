package eventstore

import (
	"bytes"
	"strings"
	"time"

	"github.com/keyledger/keyledger/domain"
)

// scanEnvelope reads an envelope of the very form that [encoder] writes: members
// in its order, strings without escapes, all ASCII. It reports false for any
// other, which [json.Unmarshal] then reads; a fuzz test holds the two together.
// The data is not looked at: whoever decodes it finds what is wrong with it.
//
// Every verifier and rebuild reads every event, and json.Unmarshal spends as much
// on the envelope as on the data. The strings it finds share one allocation.
func scanEnvelope(raw []byte) (env envelope, ok bool) {
	// Inside a string the quotes would be escaped, so this is the member.
	const dataMember = `,"data":`
	n := bytes.Index(raw, []byte(dataMember))
	if n < 0 || raw[len(raw)-1] != '}' {
		return envelope{}, false
	}
	s := scanner{rest: string(raw[:n]), ok: true}
	s.literal(`{"specversion":"` + specVersion + `"`)
	env = envelope{
		SpecVersion: specVersion,
		ID:          s.member(`,"id":"`),
		Source:      s.member(`,"source":"`),
		Type:        domain.EventType(s.member(`,"type":"`)),
		Subject:     s.member(`,"subject":"`),
		Time:        s.time(`,"time":"`),
		Account:     domain.AccountID(s.member(`,"account":"`)),
		Actor:       domain.ActorID(s.member(`,"actor":"`)),
		Command:     domain.CommandName(s.member(`,"command":"`)),
		CommandID:   s.member(`,"commandid":"`),
		CommandHash: s.optional(`,"commandhash":"`),
		RequestID:   s.optional(`,"requestid":"`),
		TraceParent: s.optional(`,"traceparent":"`),
		Data:        raw[n+len(dataMember) : len(raw)-1],
	}
	return env, s.ok && s.rest == ""
}

// scanner consumes rest from the front; once something differs from what is
// expected, ok is false and stays so.
type scanner struct {
	rest string
	ok   bool
}

func (s *scanner) literal(text string) {
	var found bool
	s.rest, found = strings.CutPrefix(s.rest, text)
	s.ok = s.ok && found
}

// member consumes a member whose value is a string; start includes the opening quote.
func (s *scanner) member(start string) string {
	s.literal(start)
	text, rest, found := strings.Cut(s.rest, `"`)
	for i := range len(text) {
		if c := text[i]; c < ' ' || c == '\\' || c > '~' {
			found = false
		}
	}
	s.rest, s.ok = rest, s.ok && found
	return text
}

func (s *scanner) optional(start string) string {
	if !strings.HasPrefix(s.rest, start) {
		return ""
	}
	return s.member(start)
}

// time takes only the form that is written; [time.Parse] takes more.
func (s *scanner) time(start string) time.Time {
	text := s.member(start)
	if len(text) < len("2006-01-02T15:04:05Z") || text[10] != 'T' || text[13] != ':' || text[16] != ':' ||
		text[len(text)-1] != 'Z' || strings.IndexByte(text, ',') >= 0 {
		s.ok = false
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	s.ok = s.ok && err == nil
	return t
}
