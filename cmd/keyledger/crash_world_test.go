package main

import (
	"context"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/internal/soak"
)

// world is everything that the clients of a server know: what they sent and what
// they were told. It outlives every process of the server.
type world struct {
	mu      sync.Mutex
	tenants []*tenant
	setUp   soak.Ref // the command that made the second tenant
	orders  map[soak.Ref]*order
	pending []*order // sent, and without an outcome yet
	told    []soak.Told
	fresh   []answer                // of told, those that no check has seen yet
	wrong   []error                 // answers that are wrong by themselves
	known   map[domain.KeyID]bool   // the keys in the tenants' lists
	tokens  map[domain.KeyID]string // of the keys whose token somebody has
	shared  *order                  // is being sent by several clients at once
	killing bool                    // connections may break from now on

	sendings, drawn int // numbers for their ids
}

// answer is an acknowledgement as it came, with the time around it.
type answer struct {
	ref         soak.Ref
	key         client.Key
	asked, came time.Time
}

func newWorld() *world {
	return &world{orders: map[soak.Ref]*order{}, known: map[domain.KeyID]bool{}, tokens: map[domain.KeyID]string{}}
}

// connections are what clients send over.
type connections map[*tenant]*client.Client

func (w *world) connect(p *process, over http.RoundTripper) connections {
	out := connections{}
	for _, tenant := range w.tenants {
		out[tenant] = p.clientOver(tenant.token, over)
	}
	return out
}

// adopt makes a tenant of a management key.
func (w *world) adopt(name string, actor domain.ActorID, token string) *tenant {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := &tenant{name: name, actor: actor, token: token}
	w.tenants = append(w.tenants, t)
	return t
}

// next chooses what a client sends: mostly something new, sometimes what another
// client is sending at this moment, sometimes what was answered long ago.
func (w *world) next(rng *mrand.Rand) (o *order, repeat bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch draw := rng.IntN(100); {
	case draw < 15 && w.shared != nil:
		return w.shared, false
	case draw < 20 && len(w.told) > 0:
		if old := w.told[rng.IntN(len(w.told))]; !old.Refused && w.orders[old.Ref] != nil {
			return w.orders[old.Ref], true
		}
	}
	by := w.tenants[rng.IntN(len(w.tenants))]
	w.drawn++
	o = newOrder(rng, by, fmt.Sprintf("order-%d", w.drawn), by.keys)
	w.orders[o.ref] = o
	if rng.IntN(8) == 0 {
		w.shared = o
	}
	return o, false
}

// errNoAnswer says that nobody knows what became of a sending.
var errNoAnswer = errors.New("no answer")

// send sends an order once and records what came back. It returns errNoAnswer if
// that says nothing about the outcome.
func (w *world) send(ctx context.Context, over connections, o *order, repeat bool) error {
	w.mu.Lock()
	w.sendings++
	requestID := fmt.Sprintf("sending-%d", w.sendings)
	w.mu.Unlock()
	asked := time.Now()
	outcome, err := o.send(ctx, over[o.by], client.WithIdempotencyKey(o.ref.ID), client.WithRequestID(requestID))
	came := time.Now()

	w.mu.Lock()
	defer w.mu.Unlock()
	told := soak.Told{Ref: o.ref, RequestID: requestID, Target: o.target, Came: came, Repeat: repeat}
	if err != nil {
		refusal, ok := errors.AsType[*client.Error](err)
		if !ok || refusal.Status >= http.StatusInternalServerError {
			w.pending = append(w.pending, o)
			if !ok && !w.killing {
				w.wrong = append(w.wrong, fmt.Errorf("%s: a server that nobody killed broke the connection: %w", o.ref, err))
			}
			return fmt.Errorf("%w: %w", errNoAnswer, err)
		}
		if refusal.Status != http.StatusConflict || !slices.Contains(finalRefusals(), refusal.Code) {
			w.wrong = append(w.wrong, fmt.Errorf("%s: refused with %w", o.ref, err))
		}
		told.Refused = true
		w.told = append(w.told, told)
		return nil
	}
	told.Key, told.Seq = domain.KeyID(outcome.Key.ID), outcome.Seq
	told.Token, told.Replayed = outcome.Token != "", outcome.Replayed
	w.told = append(w.told, told)
	w.fresh = append(w.fresh, answer{o.ref, outcome.Key, asked, came})
	w.learn(o, told.Key, outcome)
	return nil
}

// learn remembers the key of an answer, and its token if the client has it now.
func (w *world) learn(o *order, id domain.KeyID, outcome client.Outcome) {
	if outcome.Token != "" {
		w.tokens[id] = outcome.Token
	}
	if o.token != "" {
		w.tokens[id] = o.token
	}
	if !w.known[id] {
		w.known[id] = true
		o.by.keys = append(o.by.keys, id)
	}
}

// run lets many clients send orders until the server is gone.
func (w *world) run(ctx context.Context, over connections, clients int, seed uint64) {
	var group sync.WaitGroup
	for n := range clients {
		rng := mrand.New(mrand.NewPCG(seed, uint64(n)))
		group.Go(func() {
			for {
				o, repeat := w.next(rng)
				err := w.send(ctx, over, o, repeat)
				if _, answered := errors.AsType[*client.Error](err); err != nil && !answered {
					return // cut off
				}
			}
		})
	}
	group.Wait()
}

// setKilling says whether the server is about to be killed.
func (w *world) setKilling(killing bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.killing = killing
}

// takePending takes what has no outcome, without repeats.
func (w *world) takePending() []*order {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := slices.Clone(w.pending)
	w.pending = nil
	slices.SortFunc(out, func(a, b *order) int {
		return cmpRef(a.ref, b.ref)
	})
	return slices.CompactFunc(out, func(a, b *order) bool { return a.ref == b.ref })
}

func cmpRef(a, b soak.Ref) int {
	return slices.Compare([]string{string(a.Actor), string(a.Command), a.ID}, []string{string(b.Actor), string(b.Command), b.ID})
}

// repeat sends what has no outcome again, many at once. What has none even then
// is pending again.
func (w *world) repeat(ctx context.Context, over connections, clients int) (sent int) {
	orders := w.takePending()
	queue := make(chan *order)
	var group sync.WaitGroup
	for range clients {
		group.Go(func() {
			for o := range queue {
				_ = w.send(ctx, over, o, false) // recorded
			}
		})
	}
	for _, o := range orders {
		queue <- o
	}
	close(queue)
	group.Wait()
	return len(orders)
}

// sent reports whether a client ever sent a command.
func (w *world) sent(ref soak.Ref) bool {
	if ref.Actor == domain.SystemActor {
		return ref.Command == domain.CommandCreateKey && ref.ID == "operator" // by the first start
	}
	return w.orders[ref] != nil || ref == w.setUp
}

// takeFresh takes the answers that no check has seen yet, and the wrong ones.
func (w *world) takeFresh() ([]answer, []error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fresh, wrong := w.fresh, w.wrong
	w.fresh, w.wrong = nil, nil
	return fresh, wrong
}
