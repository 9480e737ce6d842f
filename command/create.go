package command

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

// NewKey is the content of a create command, as a caller writes it.
//
// The JSON names in this package's contents are what command hashes are made of,
// and hashes are compared for ever: names never change, and a new member must be
// left out where it is zero, so that old commands keep their hashes. A test pins them.
type NewKey struct {
	// Account is the account named by the caller; "" means the caller's own, or the
	// default account for instance keys.
	Account     domain.AccountID   `json:"account,omitempty"`
	Type        domain.KeyType     `json:"key_type"`
	Name        string             `json:"name"`
	Description string             `json:"description,omitempty"`
	Environment domain.Environment `json:"environment,omitempty"` // none for management keys
	Scopes      []domain.Scope     `json:"scopes,omitempty"`
	FullAccess  bool               `json:"full_access,omitempty"` // instead of Scopes
	Grants      *NewGrants         `json:"grants,omitempty"`      // management keys only; nil grants nothing
	Expiry      *NewExpiry         `json:"expiry,omitempty"`      // nil means never
	AllowedIPs  []string           `json:"allowed_ips,omitempty"`
	Metadata    map[string]string  `json:"metadata,omitempty"`
	// TokenSHA256 is the SHA-256, in hex, of a token that the caller made and keeps;
	// "" means the token is made here.
	TokenSHA256 string `json:"token_sha256,omitempty"`
}

// NewGrants says what a management key may give to the keys it makes.
type NewGrants struct {
	Environments []domain.Environment `json:"environments,omitempty"`
	Scopes       []domain.Scope       `json:"scopes,omitempty"`
	FullAccess   bool                 `json:"full_access,omitempty"` // instead of Scopes
}

// NewExpiry is an expiry as a caller writes it: a date or an instant. In an update,
// Never takes the expiry away.
type NewExpiry struct {
	On    *string    `json:"expires_on,omitempty"`
	At    *time.Time `json:"expires_at,omitempty"`
	Never bool       `json:"never,omitempty"`
}

// CreateKey makes a key, and its token unless the caller made that. A repeat
// returns the first outcome without the token.
func (h *Handler) CreateKey(ctx context.Context, r Request, n NewKey) (Outcome, error) {
	if err := r.Authority.May(scopeToWrite(n.Type)); err != nil {
		return Outcome{}, err
	}
	account, err := r.Authority.ResolveAccount(n.Account)
	if err != nil {
		return Outcome{}, err
	}
	if account, err = domain.ParseAccountID(string(account)); err != nil {
		return Outcome{}, err
	}
	n.Account, n.Name = account, strings.TrimSpace(n.Name)
	who, err := h.identify(r, domain.CommandCreateKey, account, n)
	if err != nil {
		return Outcome{}, err
	}
	id, err := h.ids.keyID(account, who, "")
	if err != nil {
		return Outcome{}, err
	}
	secret, err := h.newCredential(n, id)
	if err != nil {
		return Outcome{}, err
	}
	return h.execute(ctx, plan{
		request: r, identity: who, aggregate: eventstore.KeyAggregate(account, id),
		keyType: n.Type, fresh: true,
		decide: func(k domain.Key, now time.Time) ([]domain.KeyEvent, []eventstore.Change, error) {
			spec, err := h.spec(n, id, secret)
			if err != nil {
				return nil, nil, err
			}
			if err := r.Authority.CheckSpec(spec); err != nil {
				return nil, nil, err
			}
			if err := h.checkClaim(id, secret.mac); err != nil {
				return nil, nil, err
			}
			events, err := domain.Decide(k, domain.CreateKey{KeySpec: spec, Actor: r.Authority.Actor}, now)
			return events, nil, err
		},
		answer: func(_ context.Context, history, appended []eventstore.Event) (Outcome, error) {
			return secret.answer(history, appended), nil
		},
	})
}

// spec makes the key's data out of what the caller wrote.
func (h *Handler) spec(n NewKey, id domain.KeyID, secret credential) (domain.KeySpec, error) {
	spec := domain.KeySpec{
		ID: id, Account: n.Account, Type: n.Type, Name: n.Name, Description: n.Description, Environment: n.Environment,
		Mac: secret.mac, PepperID: h.pepper.ID(), Display: h.format.Display(n.Type, n.Environment, id), Metadata: n.Metadata,
	}
	var err error
	if spec.Scopes, err = h.resolveScopes("/scopes", h.catalogueOf(n.Type), n.Scopes, n.FullAccess); err != nil {
		return spec, err
	}
	if spec.Grants, err = h.grants(n.Grants); err != nil {
		return spec, err
	}
	if spec.ExpiresAt, err = n.Expiry.instant(); err != nil {
		return spec, err
	}
	spec.AllowedIPs, err = domain.ParseAllowedIPs(n.AllowedIPs)
	return spec, err
}

func (h *Handler) catalogueOf(t domain.KeyType) *domain.Catalogue {
	if t == domain.KeyTypeManagement {
		return h.managing
	}
	return h.catalogue
}

func (h *Handler) resolveScopes(pointer string, c *domain.Catalogue, scopes []domain.Scope, full bool) (domain.Scopes, error) {
	if !full {
		return c.Resolve(pointer, scopes)
	}
	if len(scopes) > 0 {
		return nil, domain.Invalid(domain.CodeValidation, pointer, "given together with full access", "give scopes or full_access, not both")
	}
	return c.Resolve(pointer, []domain.Scope{domain.FullAccess})
}

func (h *Handler) grants(n *NewGrants) (*domain.Grants, error) {
	if n == nil {
		return nil, nil //nolint:nilnil // no grants is a value of its own
	}
	grants := &domain.Grants{Environments: n.Environments}
	if len(n.Scopes) == 0 && !n.FullAccess {
		return grants, nil
	}
	var err error
	grants.Scopes, err = h.resolveScopes("/grants/scopes", h.catalogue, n.Scopes, n.FullAccess)
	return grants, err
}

// instant returns when the key expires, the zero time for never. What is given
// counts, even a zero time: a caller that sends one does not mean "never".
func (e *NewExpiry) instant() (time.Time, error) {
	switch {
	case e == nil || e.Never && e.On == nil && e.At == nil:
		return time.Time{}, nil
	case e.Never || e.On != nil && e.At != nil:
		return time.Time{}, domain.Invalid(domain.CodeValidation, "/expires_on", "given together with expires_at", "give a date or an instant, not both")
	case e.On != nil:
		at, err := domain.ParseExpiresOn(*e.On)
		return mustBeSet(at, "/expires_on", err)
	case e.At != nil:
		return mustBeSet(e.At.UTC().Truncate(time.Microsecond), "/expires_at", nil)
	default:
		return time.Time{}, nil
	}
}

// mustBeSet refuses the zero time, which would otherwise be taken for "never".
func mustBeSet(at time.Time, pointer string, err error) (time.Time, error) {
	if err == nil && at.IsZero() {
		err = domain.Invalid(domain.CodeExpiryInPast, pointer, "not in the future", "choose a later time, or leave the expiry out")
	}
	return at, err
}

// credential is what a new key is proved by: a token made here, or the hash of one
// that the caller keeps.
type credential struct {
	token domain.Secret // zero if the caller made it
	mac   domain.Mac
}

func (h *Handler) newCredential(n NewKey, id domain.KeyID) (credential, error) {
	if n.TokenSHA256 == "" {
		return h.makeToken(n.Type, n.Environment, id)
	}
	return h.givenCredential(n.Type, n.TokenSHA256)
}

// givenCredential reads the hash of a token that the caller made.
func (h *Handler) givenCredential(t domain.KeyType, tokenSHA256 string) (credential, error) {
	if t == domain.KeyTypeManagement { // whose strength must not be the caller's affair
		return credential{}, domain.Invalid(domain.CodeValidation, "/token_sha256", "not accepted for management keys", "leave it out: the token is made here")
	}
	var sum [sha256.Size]byte
	if len(tokenSHA256) != hex.EncodedLen(len(sum)) {
		return credential{}, badTokenHash()
	}
	if _, err := hex.Decode(sum[:], []byte(tokenSHA256)); err != nil {
		return credential{}, badTokenHash()
	}
	return credential{mac: h.pepper.Mac(sum)}, nil
}

func (h *Handler) makeToken(t domain.KeyType, env domain.Environment, id domain.KeyID) (credential, error) {
	token, err := h.format.NewToken(t, env, id, h.entropy)
	if err != nil {
		return credential{}, err
	}
	return credential{token: token, mac: h.pepper.Mac(sha256.Sum256([]byte(token.Reveal())))}, nil
}

func badTokenHash() error {
	return domain.Invalid(domain.CodeValidation, "/token_sha256", "not the SHA-256 of a token in hex",
		"send 64 hexadecimal digits, or leave it out to have the token made here")
}

// answer gives the token only if this very call's token is the one in the log: a
// repeat, or a rival with the same command, made another one.
func (c credential) answer(history, appended []eventstore.Event) Outcome {
	outcome := keyOutcome(history, appended)
	if outcome.Key.Mac == c.mac {
		outcome.Token = c.token
	}
	outcome.Replayed = outcome.Key.Mac != c.mac || appended == nil && c.token.IsZero()
	return outcome
}

// checkClaim refuses a client-made token that another key has. The check can lose
// a race; then every fold voids the later claim.
func (h *Handler) checkClaim(id domain.KeyID, mac domain.Mac) error {
	if owner, claimed := h.claims.Owner(mac); claimed && owner != id {
		return TokenInUse()
	}
	return nil
}

// TokenInUse is the refusal of a client-made token that another key has already.
func TokenInUse() error {
	return domain.NewError(domain.KindConflict, domain.CodeTokenInUse, "another key has this token", "make a new token")
}
