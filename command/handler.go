package command

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

// Log is what the handler needs of the event log.
type Log interface {
	Append(context.Context, eventstore.Meta, ...eventstore.Change) ([]eventstore.Event, error)
	Load(context.Context, eventstore.Aggregate, eventstore.Consistency) (eventstore.History, error)
}

// Claims knows which key owns a mac. It is asked before a token that the caller
// made is accepted; it may lag behind the log, so the folds void what slips through.
type Claims interface {
	Owner(domain.Mac) (domain.KeyID, bool)
}

// DefaultRetryFor is how long a command is tried: longer than the 5 to 8 seconds
// that a replicated log needs for a new leader after the old one was killed.
const DefaultRetryFor = 15 * time.Second

// Config says what a [Handler] works with.
type Config struct {
	Log    Log    // required
	Claims Claims // required
	// Pepper turns the tokens of new keys into macs; required.
	Pepper domain.Pepper
	// IDSecret keys the derivation of ids and command hashes. All nodes on one log
	// must have the same; at least 32 bytes.
	IDSecret  []byte
	Format    domain.TokenFormat // the zero value has no brand
	Catalogue *domain.Catalogue  // nil: domain.DefaultCatalogue

	RetryFor   time.Duration         // how long one command is tried; 0: DefaultRetryFor
	Now        func() time.Time      // nil: time.Now
	Entropy    io.Reader             // source of token secrets; nil: crypto/rand
	NewID      func() string         // ids of commands that have none; nil: random UUIDs
	Logger     *slog.Logger          // nil: discards
	Registerer prometheus.Registerer // nil: metrics are not registered
}

// Handler carries out commands. It is safe for concurrent use.
type Handler struct {
	log       Log
	claims    Claims
	pepper    domain.Pepper
	ids       identities
	format    domain.TokenFormat
	catalogue *domain.Catalogue
	managing  *domain.Catalogue
	retryFor  time.Duration
	now       func() time.Time
	entropy   io.Reader
	newID     func() string
	logger    *slog.Logger
	metrics   metrics
	turns     *turns
}

// New makes a handler.
func New(c Config) (*Handler, error) {
	if c.Log == nil || c.Claims == nil || c.Pepper.ID() == "" {
		return nil, errors.New("command handler: log, claims and pepper are required")
	}
	if len(c.IDSecret) < minIDSecret {
		return nil, errors.New("command handler: the id secret needs at least 32 bytes")
	}
	h := &Handler{
		log: c.Log, claims: c.Claims, pepper: c.Pepper, ids: identities{secret: c.IDSecret},
		format: c.Format, catalogue: c.Catalogue, managing: domain.ManagementCatalogue(),
		retryFor: c.RetryFor, now: c.Now, entropy: c.Entropy, newID: c.NewID, logger: c.Logger,
		metrics: newMetrics(c.Registerer), turns: newTurns(),
	}
	if h.catalogue == nil {
		h.catalogue = domain.DefaultCatalogue()
	}
	if h.retryFor == 0 {
		h.retryFor = DefaultRetryFor
	}
	if h.now == nil {
		h.now = time.Now
	}
	if h.entropy == nil {
		h.entropy = rand.Reader
	}
	if h.newID == nil {
		h.newID = uuid.NewString
	}
	if h.logger == nil {
		h.logger = slog.New(slog.DiscardHandler)
	}
	return h, nil
}

// Request is what every command comes with.
type Request struct {
	Authority domain.Authority
	// ID is the caller's name for the command (the Idempotency-Key header, the
	// CloudEvents id). A repeat with the same ID, by the same actor to the same
	// account, gets the first outcome. "" means the caller will not repeat it.
	ID          string
	RequestID   string
	TraceParent string
	// IfMatch is the sequence that the caller believes to be the key's last; nil
	// means any.
	IfMatch *uint64
}

// Target names the key that a command changes. Its account comes from the caller's
// credential or the read side, never from a request body.
type Target struct {
	Account domain.AccountID
	Type    domain.KeyType
	ID      domain.KeyID
}

// Outcome is the answer to a command.
type Outcome struct {
	// Key is the key as the command left it; for a rotation, the new key.
	Key domain.Key
	// Seq is the sequence of the command's last event, or of the key's last event
	// if nothing had to change. It is set with a refusal too, if that rests on what
	// the key was: whoever is told so may then rely on seeing it.
	Seq uint64
	// KeySeq is the sequence of the last event in Key: its version for If-Match.
	KeySeq uint64
	// Token is set once, for a key whose token was made here.
	Token domain.Secret
	// Replayed says that the command had been carried out before, and that this is
	// its first outcome.
	Replayed bool
}
