package intake_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/command"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/intake"
	"github.com/keyledger/keyledger/server/servertest"
)

// dying is a handler on a node that is cut off at some point of a command.
type dying struct {
	intake.Commands
	before, after func(context.Context) error
}

func (d dying) CreateKey(ctx context.Context, r command.Request, n command.NewKey) (command.Outcome, error) {
	if err := d.before(ctx); err != nil {
		return command.Outcome{}, err
	}
	o, err := d.Commands.CreateKey(ctx, r, n)
	if err == nil {
		err = d.after(ctx)
	}
	return o, err
}

func goOn(context.Context) error { return nil }

// A node is cut off between each two steps of a command. The next one finishes it:
// the key is made once, the outcome is there, and the reply comes.
func TestCutBetweenSteps(t *testing.T) {
	for _, point := range []string{"before it is carried out", "before the outcome is stored", "before the reply", "before the acknowledgement"} {
		t.Run(point, func(t *testing.T) {
			d := mustDoor(t, servertest.Config{})
			reached := make(chan struct{})
			var once sync.Once
			reach := func(ctx context.Context) error {
				once.Do(func() { close(reached) })
				<-ctx.Done() // which the end of the node brings
				return ctx.Err()
			}
			gone, cutOff := context.WithCancel(t.Context())
			defer cutOff()
			cfg := d.config()
			cfg.Drain = time.Millisecond
			hooks := dying{Commands: d.Commands, before: goOn, after: goOn}
			switch point {
			case "before it is carried out":
				hooks.before = reach
			case "before the outcome is stored":
				hooks.after = reach
			case "before the reply":
				cfg.Reply = func(string, []byte) error { return reach(gone) }
			case "before the acknowledgement":
				cfg.Reply = func(inbox string, body []byte) error {
					if err := d.nc.Publish(inbox, body); err != nil {
						return err
					}
					return reach(gone)
				}
			}
			cfg.Commands = hooks
			_, stop := d.mustOpen(t, cfg)

			inbox := eventstore.InboxPrefix(d.producer) + ".x"
			replies, err := d.nc.SubscribeSync(inbox)
			if err != nil {
				t.Fatal(err)
			}
			before := d.head(t)
			d.mustPublish(t, sent{command: "create_key", id: "once", data: newKey(), headers: nats.Header{"Keyledger-Reply": {inbox}}})
			<-reached
			var stopping sync.WaitGroup
			stopping.Go(stop)
			cutOff()
			stopping.Wait()

			d.mustOpen(t, d.config())
			d.mustDrain(t)
			if now := d.head(t); now != before+1 {
				t.Errorf("%d events, want 1", now-before)
			}
			o := d.mustOutcome(t, "default", "once")
			if o.Outcome != client.OutcomeDone || d.events(t, o.KeyID) != 1 {
				t.Errorf("%+v", o)
			}
			if _, err := replies.NextMsg(patience); err != nil {
				t.Errorf("no reply: %v", err)
			}
		})
	}
}

// gate is a log that cannot be reached for a while.
type gate struct {
	intake.Commands
	mu     sync.Mutex
	closed bool
	tries  int
}

func (g *gate) CreateKey(ctx context.Context, r command.Request, n command.NewKey) (command.Outcome, error) {
	g.mu.Lock()
	g.tries++
	closed := g.closed
	g.mu.Unlock()
	if closed {
		return command.Outcome{}, unavailable()
	}
	return g.Commands.CreateKey(ctx, r, n)
}

// What fails for now is tried for as long as it takes, and never dead.
func TestPassingTrouble(t *testing.T) {
	d := mustDoor(t, servertest.Config{})
	g := &gate{Commands: d.Commands, closed: true}
	cfg := d.config()
	cfg.Commands = g
	d.mustOpen(t, cfg)
	d.mustPublish(t, sent{command: "create_key", id: "wait", data: newKey()})
	mustEventually(t, "many tries", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.tries > 15
	})
	if list, _, err := d.records.DeadLetters(t.Context(), eventstore.Senders{}, 0, 10); err != nil || len(list) > 0 {
		t.Errorf("%v %v", list, err)
	}
	g.mu.Lock()
	g.closed = false
	g.mu.Unlock()
	if o := d.mustOutcome(t, "default", "wait"); o.Outcome != client.OutcomeDone {
		t.Errorf("%+v", o)
	}
}

// panicking has a bug.
type panicking struct{ intake.Commands }

func (panicking) CreateKey(context.Context, command.Request, command.NewKey) (command.Outcome, error) {
	panic("a bug that knows a secret")
}

// A command that meets a bug again and again is put aside, without the text of the
// bug, and can be sent again when the bug is gone.
func TestPanic(t *testing.T) {
	d := mustDoor(t, servertest.Config{})
	cfg := d.config()
	cfg.Commands = panicking{d.Commands}
	_, stop := d.mustOpen(t, cfg)
	seq := d.mustPublish(t, sent{command: "create_key", id: "bug", data: newKey()})
	letter := d.mustDead(t, seq)
	if letter.Code != "internal" || letter.Message != "something is wrong on the server" {
		t.Errorf("%+v", letter)
	}
	if o := d.mustOutcome(t, "default", "bug"); o.Outcome != client.OutcomeDead || o.Code != "internal" {
		t.Errorf("%+v", o)
	}
	d.mustDrain(t)
	stop()
	d.mustOpen(t, d.config())
	if _, err := d.records.Resend(t.Context(), letter.Seq, "key_o"); err != nil {
		t.Fatal(err)
	}
	mustEventually(t, "it is carried out", func() bool {
		o, err := d.records.Outcome(t.Context(), "default", "bug")
		return err == nil && o.Outcome == client.OutcomeDone
	})
}
