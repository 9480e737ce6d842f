package verify_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/verify"
)

// publisher keeps reports, unless it is told to fail. It may keep one and fail all
// the same, as when an acknowledgement is lost.
type publisher struct {
	mu         sync.Mutex // between the reporter and who looks
	fail, lost bool
	hangs      time.Duration // how long an answer takes
	tries      []string
	kept       []eventstore.UsageReport
	known      map[string]bool
}

func (p *publisher) PublishUsage(_ context.Context, r eventstore.UsageReport) error {
	p.mu.Lock()
	hangs := p.hangs
	p.mu.Unlock()
	time.Sleep(hangs) //nolint:forbidigo // synctest's time
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tries = append(p.tries, r.ID())
	if p.fail {
		return errors.New("away")
	}
	if p.known == nil {
		p.known = map[string]bool{}
	}
	if !p.known[r.ID()] {
		p.known[r.ID()] = true
		p.kept = append(p.kept, r)
	}
	if p.lost {
		return errors.New("no answer")
	}
	return nil
}

// counts adds up what was kept, by day and key.
func (p *publisher) counts() map[string]map[domain.KeyID]uint64 {
	days := map[string]map[domain.KeyID]uint64{}
	for _, r := range p.kept {
		if days[r.Day] == nil {
			days[r.Day] = map[domain.KeyID]uint64{}
		}
		for _, u := range r.Uses {
			days[r.Day][u.Key] += u.Count
		}
	}
	return days
}

// reporting is a verifier with a reporter that runs, in a bubble of synctest.
type reporting struct {
	*fixture
	to   *publisher
	stop context.CancelFunc
	ran  chan error
}

func report(t *testing.T) *reporting {
	t.Helper()
	f := newReady(t, func(c *verify.Config) { c.Now = time.Now })
	p := &publisher{}
	r, err := f.NewReporter(verify.ReporterConfig{Publisher: p, Name: "node_1", NewRun: func() string { return "run" }, Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- r.Run(ctx) }()
	t.Cleanup(stop)
	return &reporting{fixture: f, to: p, stop: stop, ran: ran}
}

func (r *reporting) use(t *testing.T, token string, n int) {
	t.Helper()
	for range n {
		expect(t, r.Verify(token, verify.Requirement{}), verify.CodeValid)
	}
}

// pass lets time pass, and what is due by then be done.
func (r *reporting) pass(d time.Duration) {
	r.to.mu.Lock()   // what was done before comes before what the reporter does now
	r.to.mu.Unlock() //nolint:staticcheck // that is all
	time.Sleep(d)    //nolint:forbidigo // synctest's time
	synctest.Wait()
}

// TestReports: each key is in one report a minute, on the whole minute, with its day.
func TestReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := report(t)
		id, token := r.create(t, nil)
		begin := time.Now() // synctest begins at midnight
		r.pass(30 * time.Second)
		r.use(t, token, 3)
		used := time.Now()
		r.pass(29 * time.Second)
		if len(r.to.tries) > 0 {
			t.Errorf("reported before the minute was over: %v", r.to.tries)
		}
		r.pass(time.Second)
		if len(r.to.kept) != 1 {
			t.Fatalf("reports: %+v", r.to.kept)
		}
		got := r.to.kept[0]
		last := time.UnixMicro(got.Uses[0].Last)
		if got.Reporter != "node_1" || got.Run != "run" || got.Number != 1 || got.Day != begin.UTC().Format(time.DateOnly) ||
			!got.From.Equal(begin) || !got.To.Equal(begin.Add(time.Minute)) || len(got.Uses) != 1 || got.Uses[0].Key != id || got.Uses[0].Count != 3 {
			t.Errorf("reported %+v", got)
		}
		if last.Before(used) || last.Sub(used) > time.Second {
			t.Errorf("used at %s, reported %s", used, last)
		}
		r.pass(time.Hour)
		if len(r.to.tries) != 1 {
			t.Errorf("reported although nothing was used: %v", r.to.tries)
		}
		for range 600 {
			r.use(t, token, 1)
			r.pass(time.Second)
		}
		if n := len(r.to.kept); n != 11 {
			t.Errorf("%d reports of ten minutes, after the first", n-1)
		}
	})
}

// TestReportsOfTwoDays: what was used before midnight counts for that day.
func TestReportsOfTwoDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := report(t)
		id, token := r.create(t, nil)
		day := time.Now().UTC()
		r.pass(24*time.Hour - time.Second)
		r.to.fail = true
		r.use(t, token, 2)
		r.pass(2 * time.Second)
		r.use(t, token, 5)
		r.pass(2 * time.Minute)
		r.to.fail = false
		r.pass(time.Minute)
		want := map[string]map[domain.KeyID]uint64{
			day.Format(time.DateOnly): {id: 2}, day.AddDate(0, 0, 1).Format(time.DateOnly): {id: 5},
		}
		if got := r.to.counts(); !maps.EqualFunc(got, want, maps.Equal) {
			t.Errorf("counted %v, want %v", got, want)
		}
	})
}

// TestReportsAreNotLost: while reports cannot be kept, or are kept and not
// acknowledged, the same is sent again, and everything else waits.
func TestReportsAreNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := report(t)
		var tokens []string
		for range eventstore.MaxUsesPerReport + 500 {
			_, token := r.create(t, nil)
			tokens = append(tokens, token)
		}
		useAll := func() {
			for _, token := range tokens {
				r.use(t, token, 1)
			}
		}
		useAll()
		r.pass(time.Minute)
		if len(r.to.kept) != 2 || len(r.to.kept[0].Uses) != eventstore.MaxUsesPerReport || len(r.to.kept[1].Uses) != 500 {
			t.Fatalf("%d reports", len(r.to.kept))
		}
		for round := range 6 {
			r.to.fail = round%2 == 0
			r.to.lost = round%2 == 1
			useAll()
			r.pass(time.Minute)
		}
		r.to.fail = false
		r.to.lost = false
		r.pass(time.Minute)
		for day, keys := range r.to.counts() {
			if len(keys) != len(tokens) {
				t.Errorf("%s: %d keys, want %d", day, len(keys), len(tokens))
			}
			for id, n := range keys {
				if n != 7 {
					t.Errorf("%s was used 7 times, and %d are reported", id, n)
				}
			}
		}
		for i, report := range r.to.kept {
			if report.Number != uint64(i+1) {
				t.Errorf("report %d has number %d", i+1, report.Number)
			}
		}
	})
}

// TestTicksGoOn: while a report gets no answer, uses are told to the second all the same.
func TestTicksGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := report(t)
		_, token := r.create(t, nil)
		r.use(t, token, 1)
		r.to.hangs = 30 * time.Second
		r.pass(65 * time.Second)
		r.use(t, token, 1)
		used := time.Now()
		r.pass(90 * time.Second)
		if len(r.to.kept) != 2 {
			t.Fatalf("%d reports", len(r.to.kept))
		}
		last := time.UnixMicro(r.to.kept[1].Uses[0].Last)
		if last.Before(used) || last.Sub(used) > time.Second {
			t.Errorf("used at %s, reported %s", used, last)
		}
	})
}

// TestLastReport: what was used before the end is reported at the end, and an error
// says if it could not be.
func TestLastReport(t *testing.T) {
	for name, fail := range map[string]bool{"kept": false, "lost": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := report(t)
				id, token := r.create(t, nil)
				synctest.Wait()
				r.use(t, token, 4)
				r.to.fail = fail
				begin := time.Now()
				r.pass(0)
				r.stop()
				err := <-r.ran
				if took := time.Since(begin); took > 5*time.Second {
					t.Errorf("the end took %s", took)
				}
				if fail {
					if err == nil || !strings.Contains(err.Error(), "1 keys") {
						t.Errorf("ended with %v", err)
					}
					return
				}
				if err != nil || len(r.to.kept) != 1 || r.to.kept[0].Uses[0].Key != id || r.to.kept[0].Uses[0].Count != 4 {
					t.Errorf("ended with %v, reported %+v", err, r.to.kept)
				}
			})
		})
	}
}

func TestReporterNeedsAName(t *testing.T) {
	f := newFixture(t, nil)
	for _, cfg := range []verify.ReporterConfig{{}, {Name: "a"}, {Publisher: &publisher{}}, {Publisher: &publisher{}, Name: "a.b"}} {
		if _, err := f.NewReporter(cfg); err == nil {
			t.Errorf("made a reporter of %+v", cfg)
		}
	}
}
