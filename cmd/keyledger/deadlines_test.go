package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/embedded"
	"github.com/keyledger/keyledger/eventstore/eventstoretest"
)

func (w *testWorld) client(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{BaseURL: w.address(t).URL, Token: client.StaticToken(w.operatorToken(t))})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestNeverActiveAfterTheInstant asks a server every 10 ms about a key that expires,
// and one whose overlap ends: from the instant on nothing says active.
func TestNeverActiveAfterTheInstant(t *testing.T) {
	w := newTestWorld(t)
	w.mustStart(t)
	c := w.client(t)
	instant := time.Now().Add(2 * time.Second)
	expiring, err := c.CreateKey(t.Context(), client.CreateKeyRequest{Name: "expiring", Environment: "live", FullAccess: true, ExpiresAt: &instant})
	if err != nil {
		t.Fatal(err)
	}
	rotated, err := c.CreateKey(t.Context(), client.CreateKeyRequest{Name: "rotated", Environment: "live", FullAccess: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.RotateKey(t.Context(), rotated.Key.ID, client.RotateKeyRequest{Overlap: "2s"}); err != nil {
		t.Fatal(err)
	}
	old, err := c.Key(t.Context(), rotated.Key.ID)
	if err != nil || old.EndsAt == nil {
		t.Fatalf("%+v, %v", old, err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	looks := map[string]int{}
	for until := old.EndsAt.Add(time.Second); time.Now().Before(until); <-tick.C {
		looks[w.look(t, c, expiring, *expiring.Key.ExpiresAt, "expired", "EXPIRED")]++
		looks[w.look(t, c, rotated, *old.EndsAt, "revoked", "REVOKED")]++
	}
	t.Logf("looks: %v", looks)
	if looks["active"] < 10 || looks["ended"] < 10 {
		t.Errorf("too few looks: %v", looks)
	}
}

// look asks for a key in three ways. What it was when the question was sent is the
// least that the answer may know.
func (w *testWorld) look(t *testing.T, c *client.Client, k client.Outcome, ends time.Time, status, code string) string {
	t.Helper()
	passed := !time.Now().Before(ends)
	shown, err := c.Key(t.Context(), k.Key.ID)
	if err != nil {
		t.Fatal(err)
	}
	checked, err := c.Verify(t.Context(), client.VerifyRequest{Key: k.Token})
	if err != nil {
		t.Fatal(err)
	}
	listed := false
	for key, err := range c.Keys(t.Context(), client.KeyQuery{Status: "active"}) {
		if err != nil {
			t.Fatal(err)
		}
		listed = listed || key.ID == k.Key.ID
	}
	if !passed {
		return "active"
	}
	if shown.Status != status || checked.Valid || checked.Code != code || listed {
		t.Errorf("%s ended at %s: shown %s, checked %s, listed as active: %v", k.Key.Name, ends, shown.Status, checked.Code, listed)
	}
	return "ended"
}

// TestReaderOfTheLogSeesARotation follows the events alone, as a webhook does: of a
// rotation with an overlap it sees the births, the rotation and the end, once each.
func TestReaderOfTheLogSeesARotation(t *testing.T) {
	w := newTestWorld(t)
	w.mustStart(t)
	c := w.client(t)
	first, err := c.CreateKey(t.Context(), client.CreateKeyRequest{Name: "old", Environment: "live", FullAccess: true})
	if err != nil {
		t.Fatal(err)
	}
	next, err := c.RotateKey(t.Context(), first.Key.ID, client.RotateKeyRequest{Overlap: "1s"})
	if err != nil {
		t.Fatal(err)
	}
	old, err := c.Key(t.Context(), first.Key.ID)
	if err != nil {
		t.Fatal(err)
	}
	// A witness comes after all that the clock wrote about the rotation.
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	var seen []string
	witness := ""
	for e, err := range c.Follow(ctx, client.EventQuery{}) {
		if err != nil {
			t.Fatal(err)
		}
		var body struct {
			Type, Subject string
			Data          map[string]any
		}
		if err := json.Unmarshal(e.Event, &body); err != nil {
			t.Fatal(err)
		}
		line := strings.TrimSuffix(strings.TrimPrefix(body.Type, "keyledger.key."), ".v1")
		switch body.Subject {
		case first.Key.ID:
			line += " old"
		case next.Key.ID:
			line += " new"
		case witness:
			cancel()
			continue
		default:
			continue
		}
		for _, member := range []string{"rotated_from", "replaced_by", "reason", "ends_at", "revoked_at"} {
			if value, ok := body.Data[member]; ok {
				line += fmt.Sprintf(" %s=%v", member, value)
			}
		}
		seen = append(seen, line)
		if strings.HasPrefix(line, "revoked") {
			out, err := c.CreateKey(t.Context(), client.CreateKeyRequest{Name: "witness", Environment: "test", FullAccess: true})
			if err != nil {
				t.Fatal(err)
			}
			witness = out.Key.ID
		}
		if ctx.Err() != nil {
			break
		}
	}
	ends := old.EndsAt.UTC().Format(time.RFC3339Nano)
	slices.Sort(seen) // the two of the rotation are one append
	want := []string{
		"created new rotated_from=" + first.Key.ID,
		"created old",
		"revoked old reason=rotated revoked_at=" + ends,
		"rotated old replaced_by=" + next.Key.ID + " ends_at=" + ends,
	}
	if !slices.Equal(seen, want) {
		t.Errorf("seen:\n%s\nwant:\n%s", strings.Join(seen, "\n"), strings.Join(want, "\n"))
	}
}

// TestNodesAreKilledWhileKeysExpire runs three nodes as processes on one log, and
// kills them at random while 10,000 keys get their notice and expire.
func TestNodesAreKilledWhileKeysExpire(t *testing.T) {
	const keys = 10_000
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	s := eventstoretest.MustServer(t, embedded.Config{
		Listen: "127.0.0.1:0", Sync: embedded.SyncLazy, Users: map[string]string{"node": "secret"},
	})
	log := eventstoretest.MustOpen(t, eventstore.Config{Conn: eventstoretest.MustConnect(t, s)})
	program, dir := mustBuild(t), t.TempDir()
	password, keyring := filepath.Join(dir, "password"), filepath.Join(dir, "keyring.json")
	if err := os.WriteFile(password, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), program, "keyring", "create", keyring).CombinedOutput(); err != nil {
		t.Fatalf("make the keyring: %v\n%s", err, out)
	}
	flags := withFlags("--nats-url", s.ClientURL(), "--nats-replicas", "1", "--nats-user", "node",
		"--nats-password-file", password, "--keyring", keyring)
	serve := func(i int) *process {
		return mustServe(t, program, filepath.Join(dir, fmt.Sprintf("node%d", i)), flags)
	}
	nodes := []*process{serve(0), serve(1), serve(2)}

	// Long enough for every notice before the first expiry, whatever the machine does.
	first := time.Now().Add(45 * time.Second).UTC().Truncate(time.Second)
	mustFillExpiring(t, log, nodes[0], keys, func(int) time.Time { return first.Add(time.Duration(random.IntN(5000)) * time.Millisecond) })
	kills, next := 0, time.Now()
	for deadline := time.Now().Add(3 * time.Minute); ; {
		expiring, expired := clockEvents(t, log)
		if len(expiring) == keys && len(expired) == keys {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d notices, %d expiries after %d kills", len(expiring), len(expired), kills)
		}
		if time.Now().After(next) {
			i := random.IntN(len(nodes))
			nodes[i].kill()
			kills++
			nodes[i] = serve(i)
			next = time.Now().Add(time.Duration(random.IntN(3000)) * time.Millisecond)
		}
	}
	for _, n := range nodes {
		n.stop()
	}
	expiring, expired := clockEvents(t, log)
	for what, counts := range map[string]map[string]int{"notices": expiring, "expiries": expired} {
		if len(counts) != keys {
			t.Errorf("%d %s", len(counts), what)
		}
		for id, n := range counts {
			if n != 1 {
				t.Errorf("%s has %d %s", id, n, what)
			}
		}
	}
	t.Logf("%d kills: %d notices, %d expiries, once each", kills, len(expiring), len(expired))
}

// mustFillExpiring appends keys such as a node makes: of the operator's pepper.
func mustFillExpiring(t *testing.T, log *eventstore.Log, node *process, keys int, expires func(int) time.Time) {
	t.Helper()
	at := expires(0)
	made, err := node.client(node.operator()).CreateKey(t.Context(), client.CreateKeyRequest{Name: "pattern", Environment: "live", FullAccess: true})
	if err != nil {
		t.Fatal(err)
	}
	history, err := log.Load(t.Context(), eventstore.KeyAggregate(domain.DefaultAccount, domain.KeyID(made.Key.ID)), eventstore.Leader)
	if err != nil {
		t.Fatal(err)
	}
	pattern, ok := history.Events[0].Data.(domain.KeyCreated)
	if !ok {
		t.Fatalf("the pattern is %T", history.Events[0].Data)
	}
	for from := 0; from < keys; from += 500 {
		changes := make([]eventstore.Change, 500)
		for i := range changes {
			created := pattern
			created.ID = domain.KeyID(fmt.Sprintf("key_%016d", from+i))
			created.Mac[0], created.Mac[1], created.Mac[2] = byte(from+i), byte((from+i)>>8), ^pattern.Mac[2]
			created.ExpiresAt, created.CreatedAt = expires(from+i), time.Now().UTC()
			changes[i] = eventstore.Change{Aggregate: eventstore.KeyAggregate(created.Account, created.ID), Events: []domain.Event{created}}
		}
		meta := eventstore.Meta{Time: time.Now(), Actor: pattern.CreatedBy, Command: domain.CommandCreateKey, CommandID: fmt.Sprintf("fill-%d", from)}
		eventstoretest.MustAppend(t, log, meta, changes...)
	}
	if time.Now().After(at) {
		t.Fatalf("the keys were made only after they expired")
	}
}

// clockEvents counts notices and expiries by key.
func clockEvents(t *testing.T, log *eventstore.Log) (expiring, expired map[string]int) {
	t.Helper()
	expiring, expired = map[string]int{}, map[string]int{}
	for e, err := range log.Replay(t.Context(), eventstore.Filter{Types: []domain.EventType{domain.TypeKeyExpiring, domain.TypeKeyExpired}}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Type() == domain.TypeKeyExpired {
			expired[e.Aggregate.ID]++
		} else {
			expiring[e.Aggregate.ID]++
		}
	}
	return expiring, expired
}
