package soak

import (
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/domain"
)

// TestJudgeChecksTheClock accepts the end of an overlap that nobody sent, and only
// one that was promised, was not early and comes once.
func TestJudgeChecksTheClock(t *testing.T) {
	ends := time.Unix(1, 0).UTC() // when the script's events are written
	for name, tt := range map[string]struct {
		promised time.Time
		ends     []domain.KeyRevoked
		want     string
	}{
		"the truth":            {ends, []domain.KeyRevoked{{Reason: "rotated", RevokedAt: ends}}, ""},
		"twice":                {ends, []domain.KeyRevoked{{Reason: "rotated", RevokedAt: ends}, {Reason: "rotated", RevokedAt: ends}}, "once more"},
		"another reason":       {ends, []domain.KeyRevoked{{Reason: "r", RevokedAt: ends}}, "ends no overlap"},
		"another time":         {ends, []domain.KeyRevoked{{Reason: "rotated", RevokedAt: ends.Add(-1)}}, "not promised"},
		"before its time came": {ends.Add(1), []domain.KeyRevoked{{Reason: "rotated", RevokedAt: ends.Add(1)}}, "too early"},
	} {
		s := &script{t: t}
		s.command(domain.CommandCreateKey, "c", "q1", created("a", ""))
		s.command(domain.CommandRotateKey, "r", "q2", step{"a", domain.KeyRotated{ReplacedBy: "b", EndsAt: tt.promised, RotatedAt: ends}}, created("b", "a"))
		for i, end := range tt.ends {
			event := Event{
				Seq: s.history.Head() + 1, Ref: Ref{domain.SystemActor, domain.CommandEndOverlap, string(rune('x' + i))},
				Key: "a", Type: domain.TypeKeyRevoked, Time: ends, Data: end,
			}
			if err := s.history.Add(event); err != nil {
				t.Fatal(err)
			}
		}
		wrong := s.history.Judge(nil, func(r Ref) bool { return r.Actor != domain.SystemActor })
		if tt.want == "" && len(wrong) > 0 || tt.want != "" && (len(wrong) != 1 || !strings.Contains(wrong[0].Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", name, wrong, tt.want)
		}
	}
}
