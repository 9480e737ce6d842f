package verify

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyledger/keyledger/domain"
)

// Config is what [New] needs.
type Config struct {
	// Catalogue of the scopes of customers' keys; nil means domain.DefaultCatalogue().
	Catalogue *domain.Catalogue
	// Format of tokens; the zero value has no brand.
	Format domain.TokenFormat
	// Peppers of the keyring; at least one, their ids distinct.
	Peppers []domain.Pepper
	// Now is the clock by which keys expire; required.
	Now func() time.Time
	// Logger; nil discards.
	Logger *slog.Logger
	// Registerer of the metrics keyledger_verify_…; nil means none.
	Registerer prometheus.Registerer
}

// Requirement is what a key is checked against. The zero value asks only whether
// the key is good.
type Requirement struct {
	// Scopes must all be held. They are scopes of the catalogue; anything else,
	// wildcards included, is held by nobody.
	Scopes []domain.Scope
	// Environment that the key must belong to; "" for either.
	Environment domain.Environment
	// Owner is the account of the resource; "" if nobody says.
	Owner domain.AccountID
	// Bound is the account that the asker belongs to: keys of another do not exist
	// for it. "" for askers of the instance.
	Bound domain.AccountID
	// IP is the client's address. A key with allowed_ips is refused where it is not given.
	IP netip.Addr
}

// Result is the answer to a check. What it says of the key is set where the key
// was found and the asker may know of it: from REVOKED on.
type Result struct {
	Code        Code
	KeyID       domain.KeyID
	Account     domain.AccountID
	Environment domain.Environment // "" for management keys
	// Scopes as the key holds them, wildcards included, without those that the
	// catalogue no longer has. Shared: not to be written to.
	Scopes    domain.Scopes
	ExpiresAt time.Time // zero: never
	// AsOfSeq is a seq that the answer takes into account, with all before it.
	AsOfSeq uint64
	// Missing is the first required scope that is not held, if the code is
	// INSUFFICIENT_SCOPE.
	Missing domain.Scope
}

// Valid reports whether the key may pass.
func (r Result) Valid() bool { return r.Code == CodeValid }

// maxTokenBytes is the length above which a string is no token of anybody's: what
// is hashed for a stranger is bounded.
const maxTokenBytes = 512

// Verifier is the table and its feed. It is safe for concurrent use.
type Verifier struct {
	catalogue *domain.Catalogue
	format    domain.TokenFormat
	peppers   []*pepper
	now       func() time.Time
	logger    *slog.Logger
	metrics   *metrics

	table    *table
	progress *progress
	uses     *useClock

	authMu      sync.RWMutex
	authorities map[domain.KeyID]domain.Authority // of management keys, beside the table to keep its records small

	feedMu sync.Mutex // serialises Apply; guards fold
	fold   *fold
	keys   atomic.Int64
	voids  atomic.Int64
}

// pepper is one of the keyring. While no key uses it, checks leave it out.
type pepper struct {
	domain.Pepper
	inUse atomic.Bool
}

// New makes a verifier with an empty table, which fails closed until [Verifier.Run]
// has filled it.
func New(cfg Config) (*Verifier, error) {
	if cfg.Now == nil || len(cfg.Peppers) == 0 {
		return nil, errors.New("a verifier needs a clock and at least one pepper")
	}
	if cfg.Catalogue == nil {
		cfg.Catalogue = domain.DefaultCatalogue()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	v := &Verifier{
		catalogue: cfg.Catalogue, format: cfg.Format, now: cfg.Now, logger: cfg.Logger,
		table: &table{}, progress: &progress{}, uses: newUseClock(cfg.Now), authorities: map[domain.KeyID]domain.Authority{},
		fold: newFold(cfg.Catalogue),
	}
	for i := range cfg.Peppers {
		if v.pepper(cfg.Peppers[i].ID()) != nil {
			return nil, fmt.Errorf("the keyring has two peppers %q", cfg.Peppers[i].ID())
		}
		v.peppers = append(v.peppers, &pepper{Pepper: cfg.Peppers[i]})
	}
	m, err := newMetrics(v, cfg.Registerer)
	if err != nil {
		return nil, err
	}
	v.metrics = m
	return v, nil
}

func (v *Verifier) pepper(id string) *pepper {
	for _, p := range v.peppers {
		if p.ID() == id {
			return p
		}
	}
	return nil
}

// Verify checks a customer's key. A management key is UNKNOWN here, whatever it
// may do elsewhere. It does not allocate. If the key may pass it was used.
func (v *Verifier) Verify(token string, req Requirement) Result {
	asOf, fresh, tick := v.progress.asOf.Load(), v.fresh(), v.uses.tick.Load()
	var rec found
	code := v.find(token, typeAPI, fresh, &rec)
	if code == CodeValid && req.Bound != "" && req.Bound != rec.account {
		code = CodeUnknown
	}
	if code != CodeValid {
		v.metrics.api[code.index()].Inc()
		return Result{Code: code, AsOfSeq: asOf}
	}
	code, missing := rec.judge(&req, v.catalogue, v.now)
	if code == CodeValid && !fresh {
		code = CodeStale
	}
	v.metrics.api[code.index()].Inc()
	if code == CodeValid {
		v.table.count(&rec, tick)
	}
	return rec.result(code, missing, asOf)
}

// Authenticate checks a management key and returns what its bearer may do; the
// zero Authority unless the result is valid. A customer's key is UNKNOWN here. A
// management key with allowed_ips is refused: nothing can give it any yet, and no
// address is asked for. If the key is valid it was used.
func (v *Verifier) Authenticate(token string) (domain.Authority, Result) {
	asOf, fresh, tick := v.progress.asOf.Load(), v.fresh(), v.uses.tick.Load()
	var rec found
	code := v.find(token, typeManagement, fresh, &rec)
	if code != CodeValid {
		v.metrics.management[code.index()].Inc()
		return domain.Authority{}, Result{Code: code, AsOfSeq: asOf}
	}
	code, _ = rec.judge(&Requirement{}, v.catalogue, v.now)
	if code == CodeValid && !fresh {
		code = CodeStale
	}
	v.metrics.management[code.index()].Inc()
	if code != CodeValid {
		return domain.Authority{}, rec.result(code, "", asOf)
	}
	v.table.count(&rec, tick)
	v.authMu.RLock()
	authority := v.authorities[rec.id]
	v.authMu.RUnlock()
	return authority, rec.result(code, "", asOf)
}

// Owner returns the key that holds a mac, dead or alive.
func (v *Verifier) Owner(mac domain.Mac) (domain.KeyID, bool) {
	var rec found
	ok := v.table.get(mac, &rec)
	return rec.id, ok
}

// Find returns the account and the type of a key, dead or alive; false if the log
// has no such key. It may wait for the feed to finish a run of events: it is for
// commands, not for checks.
func (v *Verifier) Find(id domain.KeyID) (domain.AccountID, domain.KeyType, bool) {
	v.feedMu.Lock()
	defer v.feedMu.Unlock()
	rec := v.record(id)
	if rec == nil {
		return "", "", false
	}
	return rec.account, rec.typ.domain(), true
}

// Identify returns whose token it is, dead or alive: the code is VALID if it is a
// customer's key's, and MISSING, MALFORMED, UNKNOWN or STALE otherwise. Nothing is
// checked and nothing counted: what the key may do is to be asked of something
// else, such as [Judge].
func (v *Verifier) Identify(token string) (domain.KeyID, domain.AccountID, Code) {
	var rec found
	if code := v.find(token, typeAPI, v.fresh(), &rec); code != CodeValid {
		return "", "", code
	}
	return rec.id, rec.account, CodeValid
}

// find looks a token up. The code is VALID if rec was set to a key of the type. A miss
// in a table that is not fresh is STALE: the key may be there by now, and an
// imported one may have any form.
func (v *Verifier) find(token string, typ keyType, fresh bool, rec *found) Code {
	if token == "" {
		return CodeMissing
	}
	if len(token) > maxTokenBytes {
		return CodeMalformed
	}
	var text [maxTokenBytes]byte // on the stack: sha256 takes bytes
	sum := sha256.Sum256(text[:copy(text[:], token)])
	for _, p := range v.peppers {
		if !p.inUse.Load() {
			continue
		}
		if v.table.get(p.Mac(sum), rec) {
			if rec.typ != typ {
				return CodeUnknown
			}
			return CodeValid
		}
	}
	switch {
	case !fresh:
		return CodeStale
	case v.format.Matches(token):
		return CodeUnknown
	default:
		return CodeMalformed
	}
}
