package main

import (
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/verify"
)

const (
	raceRounds      = 8
	raceClients     = 64
	racesEach       = 3 // operations of each client
	linearizeWithin = 30 * time.Second
)

// TestRaceIsLinearizable lets 64 clients rotate, update, revoke, read and verify
// one key at once, and looks for one order of everything that explains every
// answer.
func TestRaceIsLinearizable(t *testing.T) {
	seed := envNumber(t, "KEYLEDGER_RACE_SEED", uint64(time.Now().UnixNano()))
	t.Logf("KEYLEDGER_RACE_SEED=%d", seed)
	p := mustServe(t, mustBuild(t), filepath.Join(t.TempDir(), "data"))
	over := newTransport(t, raceClients)
	for round := range raceRounds {
		r := newRace(t, p.clientOver(p.operator(), over), round)
		r.run(seed)
		history := r.history
		result, _ := porcupine.CheckOperationsVerbose(raceModel(r.first, history), sinceAnswers(history), linearizeWithin)
		if result != porcupine.Ok {
			r.dump()
			t.Fatalf("round %d: no order explains the %d answers: %s", round, len(history), result)
		}
		t.Logf("round %d: %s", round, r.summary())
	}
}

// race is one key that everybody wants.
type race struct {
	*testing.T
	client *client.Client
	round  int
	key    client.Outcome
	first  raceState
	began  time.Time

	mu      sync.Mutex
	history []porcupine.Operation
	newest  client.Key // as far as anybody was told
}

func newRace(t *testing.T, c *client.Client, round int) *race {
	t.Helper()
	name := fmt.Sprintf("race %d", round)
	key, err := c.CreateKey(t.Context(), client.CreateKeyRequest{Name: name, Environment: "live", Scopes: []string{"invoices:read"}})
	if err != nil {
		t.Fatal(err)
	}
	return &race{
		T: t, client: c, round: round, key: key, began: time.Now(), newest: key.Key,
		first: raceState{seq: key.Seq, name: name},
	}
}

// run lets the clients loose and returns when all are done.
func (r *race) run(seed uint64) {
	// How much of what is asked for ends the key: rounds that end at once, in the
	// middle, and never.
	ending := []int{10, 3, 1, 0}[r.round%4]
	start := make(chan struct{})
	var group sync.WaitGroup
	for n := range raceClients {
		rng := mrand.New(mrand.NewPCG(seed, uint64(r.round*raceClients+n)))
		group.Go(func() {
			<-start
			for i := range racesEach {
				r.do(n, r.draw(rng, fmt.Sprintf("%d-%d-%d", r.round, n, i), ending))
			}
		})
	}
	close(start)
	group.Wait()
}

// draw chooses an operation. Rotations share two idempotency keys, so that some
// of them are repeats of others.
func (r *race) draw(rng *mrand.Rand, id string, ending int) raceInput {
	if rng.IntN(100) < ending {
		if rng.IntN(2) == 0 {
			return raceInput{what: domain.CommandRevokeKey, reason: "by " + id, id: id}
		}
		shared := rng.IntN(2)
		return raceInput{what: domain.CommandRotateKey, overlap: shared == 0, id: fmt.Sprintf("rotation-%d-%d", r.round, shared)}
	}
	switch rng.IntN(5) {
	case 0:
		return raceInput{what: raceGet}
	case 1:
		return raceInput{what: raceVerify}
	case 2:
		r.mu.Lock()
		defer r.mu.Unlock()
		return raceInput{what: domain.CommandUpdateKey, name: "by " + id, id: id, ifMatch: r.newest.Seq}
	default:
		return raceInput{what: domain.CommandUpdateKey, name: "by " + id, id: id}
	}
}

// do carries out one operation and records it.
func (r *race) do(n int, in raceInput) {
	call := time.Since(r.began).Nanoseconds()
	out, err := r.ask(in)
	end := time.Since(r.began).Nanoseconds()
	if refusal, ok := errors.AsType[*client.Error](err); ok && refusal.Status < 500 {
		out, err = raceOutput{refused: refusal.Code}, nil
	}
	if err != nil {
		r.Errorf("%+v: %v", in, err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if out.key.ID == r.key.Key.ID && out.key.Seq > r.newest.Seq {
		r.newest = out.key
	}
	r.history = append(r.history, porcupine.Operation{ClientId: n, Input: in, Output: out, Call: call, Return: end})
}

func (r *race) ask(in raceInput) (raceOutput, error) {
	ctx, id := r.Context(), r.key.Key.ID
	opts := []client.CallOption{client.WithIdempotencyKey(in.id)}
	switch in.what {
	case raceGet:
		r.mu.Lock()
		least := r.newest.Seq
		r.mu.Unlock()
		key, err := r.client.Key(ctx, id, client.WithMinSeq(least))
		return raceOutput{key: key}, err
	case raceVerify:
		result, err := r.client.Verify(ctx, client.VerifyRequest{Key: r.key.Token})
		return raceOutput{code: result.Code, asOf: result.AsOfSeq}, err
	case domain.CommandUpdateKey:
		if in.ifMatch != 0 {
			opts = append(opts, client.WithIfMatch(in.ifMatch))
		}
		return told(r.client.UpdateKey(ctx, id, client.UpdateKeyRequest{Name: &in.name}, opts...))
	case domain.CommandRevokeKey:
		return told(r.client.RevokeKey(ctx, id, client.RevokeKeyRequest{Reason: in.reason}, opts...))
	default:
		return told(r.client.RotateKey(ctx, id, rotation(in), opts...))
	}
}

func rotation(in raceInput) client.RotateKeyRequest {
	if in.overlap {
		return client.RotateKeyRequest{Overlap: "1h"}
	}
	return client.RotateKeyRequest{}
}

func told(o client.Outcome, err error) (raceOutput, error) {
	return raceOutput{key: o.Key, seq: o.Seq, replayed: o.Replayed}, err
}

// summary counts the answers, to show that there was a race.
func (r *race) summary() string {
	counts := map[string]int{}
	for _, op := range r.history {
		in, out := op.Input.(raceInput), op.Output.(raceOutput) //nolint:errcheck,forcetypeassert // ours
		result := "done"
		switch {
		case out.refused != "":
			result = out.refused
		case out.replayed:
			result = "replayed"
		case out.code != "":
			result = out.code
		case in.what != raceGet && !did(in, out):
			result = "nothing to do"
		}
		counts[string(in.what)+" "+result]++
	}
	return fmt.Sprint(counts)
}

// dump prints the history in order of the answers.
func (r *race) dump() {
	slices.SortFunc(r.history, func(a, b porcupine.Operation) int { return int(a.Return - b.Return) })
	for _, op := range r.history {
		in, out := op.Input.(raceInput), op.Output.(raceOutput) //nolint:errcheck,forcetypeassert // ours
		r.Logf("client %d [%d, %d] %+v -> refused %q, seq %d, key %s %q %s at %d, replayed %t, code %s as of %d",
			op.ClientId, op.Call, op.Return, in, out.refused, out.seq, out.key.ID, out.key.Name, out.key.Status, out.key.Seq, out.replayed, out.code, out.asOf)
	}
}

// TestRaceModelRejects makes sure that the model can say no: a history that holds
// a lie has no explanation, and the same history without it has one.
func TestRaceModelRejects(t *testing.T) {
	update := func(name string, ifMatch uint64) raceInput {
		return raceInput{what: domain.CommandUpdateKey, name: name, ifMatch: ifMatch}
	}
	revoke, rotate := raceInput{what: domain.CommandRevokeKey, reason: "r"}, raceInput{what: domain.CommandRotateKey, overlap: true}
	at := func(seq uint64, name string, status domain.Status) raceOutput {
		return raceOutput{seq: seq, key: client.Key{ID: "k", Seq: seq, Name: name, Status: string(status)}}
	}
	revoked := at(3, "a", domain.StatusRevoked)
	revoked.key.RevokeReason = "r"
	renamed := at(2, "b", domain.StatusActive)
	successor := raceOutput{seq: 5, key: client.Key{ID: "n", Seq: 5, Name: "a"}}
	tests := map[string]struct {
		before    raceInput // acknowledged before the second began
		told      raceOutput
		then      raceInput
		lie, true raceOutput
	}{
		"a revoked key passes": {revoke, revoked, raceInput{what: raceVerify},
			raceOutput{code: string(verify.CodeValid), asOf: 3}, raceOutput{code: string(verify.CodeRevoked), asOf: 3}},
		"a revoked key changes": {revoke, revoked, update("b", 0),
			at(4, "b", domain.StatusActive), raceOutput{refused: domain.CodeKeyRevoked}},
		"an old name is read": {update("b", 0), renamed, raceInput{what: raceGet},
			at(1, "a", domain.StatusActive), at(2, "b", domain.StatusActive)},
		"a changed key matches": {update("b", 0), renamed, update("c", 1),
			at(3, "c", domain.StatusActive), raceOutput{refused: domain.CodeVersionMismatch}},
		"an unchanged key does not match": {update("b", 0), renamed, update("c", 2),
			raceOutput{refused: domain.CodeVersionMismatch}, at(3, "c", domain.StatusActive)},
		"a change goes back in order": {revoke, revoked, revoke,
			func() raceOutput { o := revoked; o.seq, o.key.Seq = 2, 2; return o }(),
			func() raceOutput { o := revoked; o.key.RevokeReason = "another"; return o }()},
		"a key is rotated twice": {rotate, successor, rotate,
			raceOutput{seq: 7, key: client.Key{ID: "m", Seq: 7, Name: "a"}}, raceOutput{refused: domain.CodeKeyRotated}},
		"a successor has another name": {update("b", 0), renamed, rotate,
			successor, func() raceOutput { o := successor; o.key.Name = "b"; return o }()},
		"a refusal without a reason": {update("b", 0), renamed, rotate,
			raceOutput{refused: domain.CodeKeyRotated}, func() raceOutput { o := successor; o.key.Name = "b"; return o }()},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			for want, out := range map[bool]raceOutput{true: tc.true, false: tc.lie} {
				history := []porcupine.Operation{
					{ClientId: 1, Input: tc.before, Output: tc.told, Call: 1, Return: 2},
					{ClientId: 2, Input: tc.then, Output: out, Call: 3, Return: 4},
				}
				got := porcupine.CheckOperations(raceModel(raceState{seq: 1, name: "a"}, history), sinceAnswers(history))
				if got != want {
					t.Errorf("%+v: explained %t, want %t", out, got, want)
				}
			}
		})
	}
}

// A verdict during a revocation may be either one, but not a pass from a verifier
// that says that it knows of the revocation.
func TestRaceModelReadsAsOf(t *testing.T) {
	revoked := raceOutput{seq: 3, key: client.Key{Seq: 3, RevokeReason: "r", Status: string(domain.StatusRevoked)}}
	for _, tc := range []struct {
		code verify.Code
		asOf uint64
		want bool
	}{
		{verify.CodeValid, 2, true}, {verify.CodeValid, 3, false},
		{verify.CodeRevoked, 2, true}, // it saw more than it says
		{verify.CodeRevoked, 3, true},
	} {
		history := []porcupine.Operation{
			{ClientId: 1, Input: raceInput{what: domain.CommandRevokeKey, reason: "r"}, Output: revoked, Call: 1, Return: 9},
			{ClientId: 2, Input: raceInput{what: raceVerify}, Output: raceOutput{code: string(tc.code), asOf: tc.asOf}, Call: 3, Return: 4},
		}
		if got := porcupine.CheckOperations(raceModel(raceState{seq: 1}, history), sinceAnswers(history)); got != tc.want {
			t.Errorf("%s as of %d: explained %t, want %t", tc.code, tc.asOf, got, tc.want)
		}
	}
}
