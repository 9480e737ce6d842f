package main

import (
	"cmp"
	"context"
	"encoding/json"
	"iter"
	"maps"
	"slices"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

// orphan is a key that was made with a pepper which the keyring does not have.
type orphan struct {
	pepper string
	seq    uint64 // of the event that made it
	key    domain.Key
}

// missing reports whether a pepper is one that the keyring should have.
func (x *examination) missing(pepper string) bool {
	return pepper != "" && !slices.Contains(x.peppers, pepper)
}

// servedPeppers compares the peppers that the server's events name with the keyring's.
func (x *examination) servedPeppers(ctx context.Context, cl *client.Client) {
	if !x.keyring {
		return
	}
	orphans := map[string]orphan{}
	for event, err := range cl.Events(ctx, client.EventQuery{Types: creations()}) {
		if err != nil {
			x.warn("peppers", "use a management key with keyledger.audit:read", "the events could not be read: %s", explain(err).what)
			return
		}
		if id, pepper := pepperOf(event.Event); x.missing(pepper) {
			orphans[id] = orphan{pepper: pepper, seq: event.Seq}
		}
	}
	alive := map[string]bool{}
	if len(orphans) > 0 {
		query := client.KeyQuery{Status: string(domain.StatusActive), PageSize: 1000}
		for _, keys := range []iter.Seq2[client.Key, error]{cl.Keys(ctx, query), cl.ManagementKeys(ctx, query)} {
			for key, err := range keys {
				if err != nil {
					x.warn("peppers", "use a management key with keyledger.keys:read", "the keys could not be listed: %s", explain(err).what)
					return
				}
				alive[key.ID] = true
			}
		}
	}
	x.judgePeppers(orphans, func(id string, _ orphan) bool { return alive[id] })
}

// loggedPeppers is servedPeppers without a server: the states of the keys come
// from the log as well.
func (x *examination) loggedPeppers(ctx context.Context, log *eventstore.Log) {
	orphans := map[string]orphan{}
	for event, err := range log.Replay(ctx, eventstore.Filter{}) {
		if err != nil {
			x.fail("events", "", "%s", firstLine(err))
			return
		}
		data, ok := event.Data.(domain.KeyEvent)
		if !ok {
			continue
		}
		id := event.Aggregate.ID
		o, known := orphans[id]
		if _, pepper := pepperOf(event.Raw); !known && x.missing(pepper) {
			o, known = orphan{pepper: pepper, seq: event.Seq}, true
		}
		if known {
			o.key = domain.Evolve(o.key, data)
			orphans[id] = o
		}
	}
	now := x.a.now()
	x.judgePeppers(orphans, func(_ string, o orphan) bool { return o.key.Status(now) == domain.StatusActive })
}

// judgePeppers reports each pepper that the keyring lacks, by the states of the
// keys: as for the verifier, those that have ended need no pepper.
func (x *examination) judgePeppers(orphans map[string]orphan, alive func(id string, o orphan) bool) {
	first := map[string]string{} // of each pepper: the first key that needs it; "" if none does
	for _, id := range slices.SortedFunc(maps.Keys(orphans), func(a, b string) int { return cmp.Compare(orphans[a].seq, orphans[b].seq) }) {
		o := orphans[id]
		if first[o.pepper] == "" {
			first[o.pepper] = ""
			if alive(id, o) {
				first[o.pepper] = id
			}
		}
	}
	if len(first) == 0 {
		x.ok("peppers", "the keyring has every pepper that the events name")
	}
	for _, pepper := range slices.Sorted(maps.Keys(first)) {
		id := first[pepper]
		if id == "" {
			x.ok("peppers", "the keyring lacks the pepper %s, but all keys that were made with it have ended", pepper)
			continue
		}
		x.fail("peppers", "put back the keyring that has it, or revoke those keys",
			"the keyring lacks the pepper %s, which %s (event %d) and perhaps other active keys need", pepper, id, orphans[id].seq)
	}
}

// creations are the types of the events that name a pepper.
func creations() []string {
	return []string{string(domain.TypeKeyCreated), string(domain.TypeKeyImported)}
}

// pepperOf returns the key and the pepper that an event names; "" for none.
func pepperOf(event []byte) (id, pepper string) {
	var stored struct {
		Subject string `json:"subject"`
		Data    struct {
			PepperID string `json:"pepper_id"`
		} `json:"data"`
	}
	if json.Unmarshal(event, &stored) != nil {
		return "", ""
	}
	return stored.Subject, stored.Data.PepperID
}
