package projections

import (
	"math"
	"time"

	"github.com/keyledger/keyledger/domain"
)

// Status tells how far the tables are.
type Status struct {
	Seq  uint64 // the last event taken in; in the first build, by it
	Head uint64 // the last event of the log that is known of
	// CaughtUp says that since the start the tables were level with the log once:
	// whether a node may answer from them. The lag at present is Head - Seq.
	CaughtUp bool
	// Err is why the tables do not follow the log at present, nil if they do.
	Err error
	// Stopped says that Run has returned: nothing will change any more.
	Stopped bool
	// Leading says that this process writes to the live tables, or builds the first.
	Leading bool
	Leader  string // the process that does, as the store names it; "" if not known
	// Generation says which build the live tables come from, as far as is known; 0
	// while there are none.
	Generation uint64
	// BehindSince is since when Seq has been less than Head; zero when they are level.
	BehindSince time.Time
	Rate        float64 // events taken in per second, lately
	Job         Job     // the build, rebuild or check that runs here, or the last that ran
}

// Status returns how far the tables are.
func (p *Projector) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.status
	s.Rate = p.rate.at(p.cfg.Now())
	return s
}

// leads notes that this process writes to the tables now, or does not any more.
func (p *Projector) leads(yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.Leading = yes
}

// begins notes from where this process goes on writing to the live tables.
func (p *Projector) begins(seq uint64, s State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.Generation, p.status.Leader = s.Generation, s.Leader
	p.moveTo(seq)
	p.readable = seq
	p.broadcast()
}

// took notes that the live tables hold the events up to seq, and whether that is
// all that there are.
func (p *Projector) took(seq uint64, caughtUp bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moveTo(seq)
	p.readable = seq
	p.status.CaughtUp = p.status.CaughtUp || caughtUp
	p.status.Err, p.away = nil, false
	p.broadcast()
}

// saw notes what a follower sees of the tables, which another process writes to.
func (p *Projector) saw(s State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	caughtUp := p.status.CaughtUp || s.Live && p.headKnown && s.At.Seq >= p.status.Head
	same := p.readable == s.At.Seq && p.status.CaughtUp == caughtUp && !p.away
	p.status.Generation, p.status.Leader, p.status.CaughtUp = s.Generation, s.Leader, caughtUp
	p.status.Err, p.away = nil, false
	p.moveTo(s.At.Seq)
	p.readable = s.At.Seq
	if !same {
		p.broadcast()
	}
}

// sawHead notes the end of the log as far as it is known.
func (p *Projector) sawHead(head uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.headKnown = true
	p.status.Head = max(head, p.status.Head)
	p.level()
}

// moveTo sets the last event taken in; mu is held.
func (p *Projector) moveTo(seq uint64) {
	if seq > p.status.Seq {
		p.rate.add(float64(seq-p.status.Seq), p.cfg.Now())
	}
	p.status.Seq, p.status.Head = seq, max(seq, p.status.Head)
	p.level()
}

// level works out what follows from Seq and Head; mu is held.
func (p *Projector) level() {
	switch {
	case p.status.Seq >= p.status.Head:
		p.status.BehindSince = time.Time{}
	case p.status.BehindSince.IsZero():
		p.status.BehindSince = p.cfg.Now()
	}
	if p.status.Job.Running() {
		p.status.Job.Target = p.status.Head
	}
}

// fail notes why the tables do not follow at present. After a second try those who
// wait for the tables are told, if what is wrong is that something is away.
func (p *Projector) fail(err error, tries int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.Err = err
	if tries > 1 && !p.away && domain.KindOf(err) == domain.KindUnavailable {
		p.away = true
		p.broadcast()
	}
}

// stop notes why Run has ended.
func (p *Projector) stop(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.Err, p.status.Stopped, p.status.Leading = err, true, false
	p.broadcast()
}

// broadcast wakes those who wait; mu is held.
func (p *Projector) broadcast() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// rate is how many per second, over the last seconds: what comes counts less the
// older it is.
type rate struct {
	value float64
	last  time.Time
}

// rateSpan is after how long something counts 1/e as much.
const rateSpan = 5 * time.Second

func (r *rate) at(now time.Time) float64 {
	return r.value * math.Exp(-max(0, now.Sub(r.last).Seconds())/rateSpan.Seconds())
}

func (r *rate) add(n float64, now time.Time) {
	r.value, r.last = r.at(now)+n/rateSpan.Seconds(), now
}
