package intake_test

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/server/servertest"
)

// Several nodes are there. One after the other ends while commands come; each
// command is carried out once, and in its order for each key.
func TestTakeover(t *testing.T) {
	d := mustDoor(t, servertest.Config{})
	var ends []func()
	for range 3 {
		_, stop := d.mustOpen(t, d.config())
		ends = append(ends, stop)
	}
	const keys, each = 4, 45
	var ids []string
	for range keys {
		ids = append(ids, d.MustCreateKey(t, client.CreateKeyRequest{}).Key.ID)
	}
	var want []string
	for n := range each {
		for k, key := range ids {
			d.mustPublish(t, sent{command: "update_key", id: fmt.Sprintf("t-%d-%d", k, n), data: map[string]any{"key_id": key, "name": fmt.Sprint("name ", n)}})
		}
		want = append(want, fmt.Sprint("name ", n))
		if n == each/3 || n == 2*each/3 {
			ends[0]()
			ends = ends[1:]
		}
	}
	d.mustDrain(t)
	for _, key := range ids {
		h, err := d.Log.Load(t.Context(), eventstore.KeyAggregate("default", domain.KeyID(key)), eventstore.Leader)
		if err != nil {
			t.Fatal(err)
		}
		var order []string
		for _, e := range h.Events[1:] {
			if u, ok := e.Data.(domain.KeyUpdated); ok && u.Name != nil {
				order = append(order, *u.Name)
			}
		}
		if !slices.Equal(order, want) {
			t.Errorf("%s: %v", key, order)
		}
	}
}

// A reply that cannot be sent for a moment is sent later, with its token.
func TestReplyIsTriedAgain(t *testing.T) {
	d := mustDoor(t, servertest.Config{})
	cfg := d.config()
	var failures atomic.Int32
	cfg.Reply = func(inbox string, body []byte) error {
		if failures.Add(1) <= 3 {
			return errors.New("not now")
		}
		return d.nc.Publish(inbox, body)
	}
	d.mustOpen(t, cfg)
	if r := d.ask(t, sent{command: "create_key", id: "r", data: newKey()}); r.Token == "" || r.Replayed {
		t.Errorf("%+v", r)
	}
}
