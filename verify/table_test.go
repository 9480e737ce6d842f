package verify_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/verify"
)

// TestMacsOfOneHash gives many keys macs that differ in their last bytes only, and that
// meet in the last slot of a shard, where a search goes on in the first: a reader finds
// each by its mac, and the feed by its id.
func TestMacsOfOneHash(t *testing.T) {
	f := newReady(t, nil)
	var macs [300]domain.Mac
	var ids [len(macs)]domain.KeyID
	for i := range macs {
		macs[i] = domain.Mac{0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 30: byte(i >> 8), 31: byte(i)}
		ids[i] = createWithMac(t, f, macs[i])
	}
	for i, mac := range macs {
		if owner, ok := f.Owner(mac); !ok || owner != ids[i] {
			t.Errorf("mac %d: owner %q %v, want %q", i, owner, ok, ids[i])
		}
		if _, _, ok := f.Find(ids[i]); !ok {
			t.Errorf("key %d is not found", i)
		}
	}
}

// TestEventsChangeTheirOwnKey revokes a key whose mac begins like another's.
func TestEventsChangeTheirOwnKey(t *testing.T) {
	f := newReady(t, nil)
	spec, token := f.spec(t, nil)
	mac := spec.Mac
	mac[31] ^= 1
	before := createWithMac(t, f, mac)
	f.apply(t, spec.ID, domain.KeyCreated{KeySpec: spec, CreatedAt: start})
	f.apply(t, before, domain.KeyRevoked{RevokedAt: start})
	expect(t, f.Verify(token, verify.Requirement{}), verify.CodeValid)
	f.apply(t, spec.ID, domain.KeyRevoked{RevokedAt: start})
	expect(t, f.Verify(token, verify.Requirement{}), verify.CodeRevoked)
}

// TestReadersSeeEveryKeyWhileAShardGrows looks for all keys so far, over and over,
// while keys are added to the same shard.
func TestReadersSeeEveryKeyWhileAShardGrows(t *testing.T) {
	const keys, readers = 3000, 2
	f := newReady(t, nil)
	var (
		macs    [keys]domain.Mac
		added   atomic.Int64
		readAll sync.WaitGroup
	)
	for i := range macs {
		if _, err := f.entropy.Read(macs[i][1:]); err != nil {
			t.Fatal(err)
		}
	}
	for range readers {
		readAll.Go(func() {
			for n := int64(0); n < keys; {
				n = added.Load()
				for i := range n {
					if _, ok := f.Owner(macs[i]); !ok {
						t.Errorf("key %d of %d is not found", i, n)
						return
					}
				}
			}
		})
	}
	for _, mac := range macs {
		createWithMac(t, f, mac)
		added.Add(1)
	}
	readAll.Wait()
}

// createWithMac feeds the creation of a key to whose mac nobody knows a token.
func createWithMac(tb testing.TB, f *fixture, mac domain.Mac) domain.KeyID {
	tb.Helper()
	s, _ := f.spec(tb, nil)
	s.Mac = mac
	f.apply(tb, s.ID, domain.KeyCreated{KeySpec: s, CreatedAt: start})
	return s.ID
}
