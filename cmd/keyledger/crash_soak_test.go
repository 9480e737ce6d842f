package main

import (
	mrand "math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/internal/soak"
)

const (
	soakRounds  = 10 // unless KEYLEDGER_SOAK_ROUNDS says otherwise
	soakClients = 64
)

// soakTest kills a server over and over, on one data dir.
type soakTest struct {
	*testing.T
	program, dataDir string
	seed             uint64
	rng              *mrand.Rand
	world            *world
	over             *http.Transport
	server           *process
	history          *soak.History // the log, as far as it was read
	checked          uint64        // seq up to which tokens were tried before

	starts, startsKilled  int
	lostAnswers, lostDone int
}

// TestSoak kills a server process without warning, at random moments of its life,
// while 64 clients send it commands of every kind. After each kill the server is
// started again, every command whose answer was lost is sent again, and what the
// clients were told is held against the log: nothing acknowledged may be lost,
// nothing applied twice, no sequence number may be missing, and the key table and
// the verifier must say what the fold of the log says.
//
// KEYLEDGER_SOAK_ROUNDS sets the number of kills, KEYLEDGER_SOAK_SEED the seed of
// all choices (which fixes the choices, not how the machine schedules them).
func TestSoak(t *testing.T) {
	rounds := envNumber(t, "KEYLEDGER_SOAK_ROUNDS", soakRounds)
	seed := envNumber(t, "KEYLEDGER_SOAK_SEED", uint64(time.Now().UnixNano()))
	t.Logf("%d rounds, KEYLEDGER_SOAK_SEED=%d", rounds, seed)
	began := time.Now()
	s := &soakTest{
		T: t, program: mustBuild(t), dataDir: filepath.Join(t.TempDir(), "data"), seed: seed,
		rng: mrand.New(mrand.NewPCG(seed, 0)), world: newWorld(), history: new(soak.History), over: newTransport(t, soakClients),
	}
	s.restart(3) // the very first start is interrupted too
	s.makeTenants()
	for round := range rounds {
		s.round(round)
	}
	s.server.stop()
	history := s.history
	checkFile(t, s.dataDir, history)
	t.Logf("%d kills under load and %d of %d starts; %d answers lost, %d of them to commands that had been carried out; %d events, %d keys, %d answers held against the log, in %v",
		rounds, s.startsKilled, s.starts, s.lostAnswers, s.lostDone, history.Head(), len(history.Keys()), len(s.world.told), time.Since(began).Round(time.Second))
}

// round kills the server under load, brings it back, and checks everything.
func (s *soakTest) round(n uint64) {
	s.Helper()
	over := s.world.connect(s.server, s.over)
	life := 50*time.Millisecond + mrandDuration(s.rng, time.Second)
	s.killAfter(life, func() { s.world.run(s.Context(), over, soakClients, s.seed+n+1) })
	lost, toldBefore := len(s.world.pending), len(s.world.told)

	s.restart(s.rng.IntN(3))
	over = s.world.connect(s.server, s.over)
	if s.rng.IntN(3) == 0 { // killed again, among the repeats
		s.killAfter(mrandDuration(s.rng, 60*time.Millisecond), func() { s.world.repeat(s.Context(), over, soakClients) })
		s.restart(0)
		over = s.world.connect(s.server, s.over)
	}
	for try := 0; s.world.repeat(s.Context(), over, soakClients) > 0; try++ {
		if try == 10 {
			s.Fatalf("orders without an outcome after %d sendings, for example %s\n%s", try, s.world.pending[0].ref, s.server.tail())
		}
	}
	began := time.Now()
	history := s.history
	s.check()
	done := 0
	for _, told := range s.world.told[toldBefore:] {
		if told.Replayed {
			done++
		}
	}
	s.lostAnswers, s.lostDone = s.lostAnswers+lost, s.lostDone+done
	s.Logf("round %d: killed after %v, %d answers lost, of which %d had been carried out; %d events, %d keys, %d told; checked in %v",
		n, life.Round(time.Millisecond), lost, done, history.Head(), len(history.Keys()), len(s.world.told), time.Since(began).Round(time.Millisecond))
	s.checked = history.Head()
}

// killAfter kills the server at some moment of what clients do, and waits for them.
func (s *soakTest) killAfter(life time.Duration, clients func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		clients()
	}()
	select {
	case <-time.After(life):
	case <-s.server.exited:
		s.Fatalf("the server ended by itself: %v\n%s", s.server.state, s.server.tail())
	}
	s.world.setKilling(true)
	s.server.kill()
	<-done
	s.over.CloseIdleConnections()
}

// restart starts the server, after some starts that are killed halfway.
func (s *soakTest) restart(interrupted int) {
	s.Helper()
	for range interrupted {
		p := launch(s.T, s.program, s.dataDir)
		<-time.After(mrandDuration(s.rng, 300*time.Millisecond))
		p.kill()
		s.startsKilled++
	}
	s.starts += interrupted + 1
	s.server = mustServe(s.T, s.program, s.dataDir)
	s.world.setKilling(false)
}

// makeTenants lets the instance's operator and a customer's own management key send orders.
func (s *soakTest) makeTenants() {
	s.Helper()
	operator := s.server.operator()
	c := s.server.client(operator)
	out, err := c.CreateManagementKey(s.Context(), client.CreateManagementKeyRequest{
		Name: "acme", Account: "acme", Scopes: []string{string(domain.ScopeKeysWrite), string(domain.ScopeKeysRead)},
		Grants: &client.Grants{Environments: []string{"live", "test"}, Scopes: []string{"*"}},
	}, client.WithIdempotencyKey("acme"))
	if err != nil {
		s.Fatal(err)
	}
	parsed, err := domain.TokenFormat{}.ParseToken(operator)
	if err != nil {
		s.Fatal(err)
	}
	root := s.world.adopt("operator", domain.ActorID(parsed.KeyID), operator)
	s.world.adopt("acme", domain.ActorID(out.Key.ID), out.Token)
	s.world.setUp = soak.Ref{Actor: root.actor, Command: domain.CommandCreateKey, ID: "acme"}
}

// check reads the log and holds everything against it.
func (s *soakTest) check() {
	s.Helper()
	operator, history := s.server.client(s.server.operator()), s.history
	readOn(s.T, operator, history)
	fresh, wrong := s.world.takeFresh()
	wrong = append(wrong, history.Judge(s.world.told, s.world.sent)...)
	wrong = append(wrong, checkAnswers(history, fresh)...)
	wrong = append(wrong, checkTable(s.Context(), operator, history)...)
	wrong = append(wrong, checkTokens(s.Context(), s.server.clientOver(s.server.operator(), s.over), history, s.tokens(history))...)
	for i, err := range wrong {
		if i == 20 {
			s.Fatalf("and %d more", len(wrong)-i)
		}
		s.Error(err)
	}
	if s.Failed() {
		s.FailNow()
	}
}

// tokens returns the tokens of the keys that changed since the last check, and
// some of the others.
func (s *soakTest) tokens(history *soak.History) map[domain.KeyID]string {
	const others = 200
	out := map[domain.KeyID]string{}
	for _, event := range history.From(s.checked + 1) {
		if token, ok := s.world.tokens[event.Key]; ok {
			out[event.Key] = token
		}
	}
	changed := len(out)
	for id, token := range s.world.tokens { // in random order
		if len(out) >= changed+others {
			break
		}
		out[id] = token
	}
	return out
}

func mrandDuration(rng *mrand.Rand, below time.Duration) time.Duration {
	return time.Duration(rng.Int64N(int64(below)))
}

func envNumber(t *testing.T, name string, def uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return def
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}
