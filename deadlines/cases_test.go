package deadlines

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

// The clock of a bubble begins on 2000-01-01 at midnight UTC.
func TestExpiries(t *testing.T) {
	tests := []struct {
		name    string
		notices string // "" is the default, 7d
		run     func(*world)
		want    []string
	}{
		{
			name: "a date",
			run: func(w *world) {
				w.begin("a")
				w.create("k", at("2000-02-01"))
				w.until(at("2000-03-01"))
			},
			want: []string{
				"2000-01-25 k expiring 2000-02-01 lead 168h0m0s",
				"2000-02-01 k expired 2000-02-01",
			},
		},
		{
			name: "an instant between two microseconds",
			run: func(w *world) {
				w.begin("a")
				w.create("k", at("2000-02-01T10:20:30.123456789"))
				w.until(at("2000-03-01"))
			},
			want: []string{
				"2000-01-25T10:20:30.123457 k expiring 2000-02-01T10:20:30.123456789 lead 168h0m0s",
				"2000-02-01T10:20:30.123457 k expired 2000-02-01T10:20:30.123456789",
			},
		},
		{
			name: "a leap day, and the day after it less 7 days",
			run: func(w *world) {
				w.begin("a")
				w.create("k", at("2000-02-29"))
				w.create("l", at("2000-03-01"))
				w.until(at("2000-04-01"))
			},
			want: []string{
				"2000-02-22 k expiring 2000-02-29 lead 168h0m0s",
				"2000-02-23 l expiring 2000-03-01 lead 168h0m0s",
				"2000-02-29 k expired 2000-02-29",
				"2000-03-01 l expired 2000-03-01",
			},
		},
		{
			name: "for ever",
			run: func(w *world) {
				w.begin("a")
				w.create("k", time.Time{})
				w.until(at("2000-02-01"))
			},
			want: []string{},
		},
		{
			name: "created inside the window",
			run: func(w *world) {
				w.begin("a")
				w.pass(time.Hour)
				w.create("k", at("2000-01-03"))
				w.until(at("2000-02-01"))
			},
			want: []string{
				"2000-01-01T01:00:00 k expiring 2000-01-03 lead 168h0m0s",
				"2000-01-03 k expired 2000-01-03",
			},
		},
		{
			name:    "no notices",
			notices: "none",
			run: func(w *world) {
				w.begin("a")
				w.create("k", at("2000-01-03"))
				w.until(at("2000-02-01"))
			},
			want: []string{"2000-01-03 k expired 2000-01-03"},
		},
		{
			name:    "several notices",
			notices: "1d,30d,7d",
			run: func(w *world) {
				w.begin("a")
				w.create("k", at("2000-04-01"))
				w.until(at("2000-05-01"))
			},
			want: []string{
				"2000-03-02 k expiring 2000-04-01 lead 720h0m0s",
				"2000-03-25 k expiring 2000-04-01 lead 168h0m0s",
				"2000-03-31 k expiring 2000-04-01 lead 24h0m0s",
				"2000-04-01 k expired 2000-04-01",
			},
		},
		{
			name:    "of several that are overdue the most urgent is given",
			notices: "30d,7d,1d",
			run: func(w *world) {
				w.create("k", at("2000-01-20"))
				w.until(at("2000-01-15"))
				w.begin("a")
				w.until(at("2000-02-01"))
			},
			want: []string{
				"2000-01-15 k expiring 2000-01-20 lead 168h0m0s",
				"2000-01-19 k expiring 2000-01-20 lead 24h0m0s",
				"2000-01-20 k expired 2000-01-20",
			},
		},
		{
			name:    "another configuration after a restart",
			notices: "7d",
			run: func(w *world) {
				w.begin("a")
				w.create("k", at("2000-02-01"))
				w.until(at("2000-01-26"))
				w.end("a")
				w.cfg.Notices = []time.Duration{30 * day, 2 * day} // the longer one is past use
				w.begin("a")
				w.until(at("2000-03-01"))
			},
			want: []string{
				"2000-01-25 k expiring 2000-02-01 lead 168h0m0s",
				"2000-01-30 k expiring 2000-02-01 lead 48h0m0s",
				"2000-02-01 k expired 2000-02-01",
			},
		},
		{
			name: "moved later before the notice",
			run: func(w *world) {
				w.begin("a")
				w.create("k", at("2000-02-01"))
				w.until(at("2000-01-20"))
				w.move("k", at("2000-03-01"))
				w.until(at("2000-04-01"))
			},
			want: []string{
				"2000-02-23 k expiring 2000-03-01 lead 168h0m0s",
				"2000-03-01 k expired 2000-03-01",
			},
		},
		{
			name: "moved later after the notice",
			run: func(w *world) {
				w.begin("a")
				w.create("k", at("2000-02-01"))
				w.until(at("2000-01-28"))
				w.move("k", at("2000-03-01"))
				w.until(at("2000-04-01"))
			},
			want: []string{
				"2000-01-25 k expiring 2000-02-01 lead 168h0m0s",
				"2000-02-23 k expiring 2000-03-01 lead 168h0m0s",
				"2000-03-01 k expired 2000-03-01",
			},
		},
		{
			name: "moved earlier, into the window",
			run: func(w *world) {
				w.begin("a")
				w.create("k", at("2000-06-01"))
				w.until(at("2000-01-10T12:00:00"))
				w.move("k", at("2000-01-12"))
				w.until(at("2000-07-01"))
			},
			want: []string{
				"2000-01-10T12:00:00 k expiring 2000-01-12 lead 168h0m0s",
				"2000-01-12 k expired 2000-01-12",
			},
		},
		{
			name: "given one, and taken away again",
			run: func(w *world) {
				w.begin("a")
				w.create("k", time.Time{})
				w.pass(day)
				w.move("k", at("2000-02-01"))
				w.until(at("2000-01-20"))
				w.move("k", time.Time{})
				w.until(at("2000-03-01"))
			},
			want: []string{},
		},
		{
			name: "a change that is no concern of the clock's",
			run: func(w *world) {
				w.begin("a")
				w.create("k", at("2000-02-01"))
				w.until(at("2000-01-28"))
				w.rename("k", "renamed")
				w.command("k", domain.ReportLeak{Source: "scanner"})
				w.until(at("2000-03-01"))
			},
			want: []string{
				"2000-01-25 k expiring 2000-02-01 lead 168h0m0s",
				"2000-02-01 k expired 2000-02-01",
			},
		},
		{
			name: "revoked before",
			run: func(w *world) {
				w.begin("a")
				w.create("k", at("2000-02-01"))
				w.create("l", at("2000-02-01"))
				w.until(at("2000-01-20"))
				w.revoke("k")
				w.until(at("2000-01-28"))
				w.revoke("l")
				w.until(at("2000-03-01"))
			},
			want: []string{"2000-01-25 l expiring 2000-02-01 lead 168h0m0s"},
		},
		{
			name: "nobody there when the notice was due",
			run: func(w *world) {
				w.begin("a")
				w.create("k", at("2000-02-01"))
				w.until(at("2000-01-20"))
				w.end("a")
				w.until(at("2000-01-30"))
				w.begin("a")
				w.until(at("2000-03-01"))
			},
			want: []string{
				"2000-01-30 k expiring 2000-02-01 lead 168h0m0s",
				"2000-02-01 k expired 2000-02-01",
			},
		},
		{
			name: "nobody there when it expired: no notice of what is past",
			run: func(w *world) {
				w.create("k", at("2000-02-01"))
				w.until(at("2000-02-10"))
				w.begin("a")
				w.pass(time.Minute)
			},
			want: []string{"2000-02-10 k expired 2000-02-01"},
		},
		{
			name: "rotated with an overlap: its end, no notice, and the successor's own expiry",
			run: func(w *world) {
				w.begin("a")
				w.create("k", at("2000-02-01"))
				w.until(at("2000-01-20"))
				w.rotate("k", "l", 10*day)
				w.until(at("2000-03-01"))
			},
			want: []string{
				"2000-01-25 l expiring 2000-02-01 lead 168h0m0s",
				"2000-01-30 k revoked rotated 2000-01-30",
				"2000-02-01 l expired 2000-02-01",
			},
		},
		{
			name: "an overlap that ends when the key expires",
			run: func(w *world) {
				w.begin("a")
				w.create("k", at("2000-01-11"))
				w.rotate("k", "l", 10*day)
				w.until(at("2000-03-01"))
			},
			want: []string{
				"2000-01-01 k expiring 2000-01-11 lead 240h0m0s",
				"2000-01-01 l expiring 2000-01-11 lead 240h0m0s",
				"2000-01-11 k revoked rotated 2000-01-11",
				"2000-01-11 l expired 2000-01-11",
			},
			notices: "10d",
		},
		{
			name: "rotated without an overlap",
			run: func(w *world) {
				w.begin("a")
				w.create("k", time.Time{})
				w.rotate("k", "l", 0)
				w.until(at("2000-03-01"))
			},
			want: []string{},
		},
		{
			name: "nobody there when the overlap ended: dated at the promised end",
			run: func(w *world) {
				w.create("k", time.Time{})
				w.rotate("k", "l", 36*time.Hour)
				w.until(at("2000-01-10"))
				w.begin("a")
				w.pass(time.Minute)
			},
			want: []string{"2000-01-10 k revoked rotated 2000-01-02T12:00:00"},
		},
		{
			name: "revoked during the overlap",
			run: func(w *world) {
				w.begin("a")
				w.create("k", time.Time{})
				w.rotate("k", "l", 10*day)
				w.pass(day)
				w.revoke("k")
				w.until(at("2000-03-01"))
			},
			want: []string{},
		},
		{
			name: "the clock is set forward: noticed within the second",
			run: func(w *world) {
				w.cfg.MaxWait = 0 // the default
				w.begin("a")
				w.create("k", at("2000-01-20"))
				w.pass(time.Minute + 300*time.Millisecond)
				w.set(30 * day)
				w.pass(time.Minute)
			},
			want: []string{"2000-01-31T00:01:01 k expired 2000-01-20"},
		},
		{
			name: "the clock is set back before the notice and before the expiry",
			run: func(w *world) {
				w.begin("a")
				w.create("k", at("2000-01-20"))
				w.until(at("2000-01-12"))
				w.set(-3 * day)
				w.until(at("2000-01-19"))
				w.set(-4 * day)
				w.until(at("2000-02-01"))
			},
			want: []string{
				"2000-01-13 k expiring 2000-01-20 lead 168h0m0s",
				"2000-01-20 k expired 2000-01-20",
			},
		},
		{
			name: "the clock is set back over a notice and an expiry that were written",
			run: func(w *world) {
				w.begin("a")
				w.create("k", at("2000-01-20"))
				w.create("l", at("2000-01-25"))
				w.until(at("2000-01-21"))
				w.set(-10 * day)
				w.until(at("2000-02-01"))
			},
			want: []string{
				"2000-01-13 k expiring 2000-01-20 lead 168h0m0s",
				"2000-01-18 l expiring 2000-01-25 lead 168h0m0s",
				"2000-01-20 k expired 2000-01-20",
				"2000-01-25 l expired 2000-01-25",
			},
		},
		{
			name: "restarts and several nodes",
			run: func(w *world) {
				w.begin("a")
				w.begin("b")
				w.create("k", at("2000-01-20"))
				w.create("l", at("2000-01-20"))
				for range 20 {
					w.end("a")
					w.pass(12 * time.Hour)
					w.begin("a")
					w.end("b")
					w.pass(12 * time.Hour)
					w.begin("b")
				}
			},
			want: []string{
				"2000-01-13 k expiring 2000-01-20 lead 168h0m0s",
				"2000-01-13 l expiring 2000-01-20 lead 168h0m0s",
				"2000-01-20 k expired 2000-01-20",
				"2000-01-20 l expired 2000-01-20",
			},
		},
		{
			name: "the answer is lost, the events are not",
			run: func(w *world) {
				w.log.failWith(once(true, eventstore.ErrUnknownOutcome))
				w.begin("a")
				w.create("k", at("2000-01-20"))
				w.until(at("2000-01-15"))
				w.log.failWith(once(true, eventstore.ErrConflict)) // as a single server calls it
				w.until(at("2000-02-01"))
			},
			want: []string{
				"2000-01-13 k expiring 2000-01-20 lead 168h0m0s",
				"2000-01-20 k expired 2000-01-20",
			},
		},
		{
			name: "the answer is lost, and so are the events",
			run: func(w *world) {
				w.log.failWith(once(false, eventstore.ErrUnknownOutcome))
				w.begin("a")
				w.create("k", at("2000-01-20"))
				w.until(at("2000-02-01"))
			},
			want: []string{
				"2000-01-13T00:00:00.1 k expiring 2000-01-20 lead 168h0m0s",
				"2000-01-20 k expired 2000-01-20",
			},
		},
		{
			name: "the log is away for two days",
			run: func(w *world) {
				away := domain.NewError(domain.KindUnavailable, "log_unavailable", "away", "wait")
				w.begin("a")
				w.create("k", at("2000-01-20"))
				w.until(at("2000-01-19"))
				w.log.failWith(func([]eventstore.Change) (bool, error) { return false, away })
				w.until(at("2000-01-22"))
				w.log.failWith(nil)
				w.pass(retryMost)
			},
			want: []string{
				"2000-01-13 k expiring 2000-01-20 lead 168h0m0s",
				"2000-01-22T00:00:01.3 k expired 2000-01-20",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, func(c *Config) {
					c.MaxWait = time.Hour // fewer looks at a clock that nobody sets
					if tt.notices != "" {
						c.Notices = mustNotices(t, tt.notices)
					}
				})
				tt.run(w)
				w.expect(tt.want...)
				for name := range w.stop {
					w.end(name)
				}
			})
		})
	}
}

// once fails the first append of the clock.
func once(stored bool, err error) func([]eventstore.Change) (bool, error) {
	failed := false
	return func([]eventstore.Change) (bool, error) {
		if failed {
			return true, nil
		}
		failed = true
		return stored, err
	}
}

func mustNotices(t *testing.T, text string) []time.Duration {
	t.Helper()
	leads, err := ParseNotices(text)
	if err != nil {
		t.Fatal(err)
	}
	return leads
}
