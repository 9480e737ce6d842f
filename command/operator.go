package command

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

// TokenVault keeps the operator's token on its way to the person: it is stored
// before the key is created, so that a crash in between loses nothing.
type TokenVault interface {
	// Load returns the stored token, or a zero Secret if there is none.
	Load() (domain.Secret, error)
	// Store keeps the token durably.
	Store(domain.Secret) error
}

const operatorCommandID = "operator"

// Operator makes sure that the instance has its first management key: all
// management scopes, and the right to grant everything. The key's id follows from
// the id secret, so that however many nodes start at once, one operator comes to
// be. created is true at the first start only.
func (h *Handler) Operator(ctx context.Context, vault TokenVault) (key domain.Key, created bool, err error) {
	who := identity{name: domain.CommandCreateKey, actor: domain.SystemActor, id: operatorCommandID}
	if who.hash, err = h.ids.hash(who.name, domain.RootAccount, operatorCommandID); err != nil {
		return key, false, err
	}
	id, err := h.ids.keyID(domain.RootAccount, who, "")
	if err != nil {
		return key, false, err
	}
	aggregate := eventstore.KeyAggregate(domain.RootAccount, id)
	history, err := h.read(ctx, aggregate, leader)
	if err != nil {
		return key, false, err
	}
	if len(history.Events) > 0 {
		return fold(history.Events), false, nil
	}
	secret, err := h.operatorCredential(vault, id)
	if err != nil {
		return key, false, err
	}
	outcome, err := h.execute(ctx, plan{
		identity: who, aggregate: aggregate, keyType: domain.KeyTypeManagement, fresh: true,
		decide: func(k domain.Key, now time.Time) ([]domain.KeyEvent, []eventstore.Change, error) {
			events, err := domain.Decide(k, domain.CreateKey{KeySpec: h.operatorSpec(id, secret), Actor: domain.SystemActor}, now)
			return events, nil, err
		},
		answer: func(_ context.Context, history, appended []eventstore.Event) (Outcome, error) {
			return secret.answer(history, appended), nil
		},
	})
	if err != nil {
		return key, false, fmt.Errorf("create the operator's key: %w", err)
	}
	if outcome.Replayed {
		return outcome.Key, false, errors.New("another node created the operator with another token at the same time: " +
			"give every node the same operator token, or take the token from the node that started first")
	}
	return outcome.Key, true, nil
}

// operatorCredential takes the token from the vault, where a start that died after
// storing it left it, or makes one and stores it.
func (h *Handler) operatorCredential(vault TokenVault, id domain.KeyID) (credential, error) {
	stored, err := vault.Load()
	if err != nil {
		return credential{}, fmt.Errorf("read the operator token: %w", err)
	}
	if !stored.IsZero() {
		parsed, err := h.format.ParseToken(stored.Reveal())
		if err != nil || parsed.Type != domain.KeyTypeManagement || parsed.KeyID != id {
			return credential{}, errors.New("the stored operator token does not belong to this keyring: remove it, or restore the keyring that it was made with")
		}
		return credential{token: stored, mac: h.pepper.Mac(sha256.Sum256([]byte(stored.Reveal())))}, nil
	}
	secret, err := h.makeToken(domain.KeyTypeManagement, "", id)
	if err != nil {
		return credential{}, err
	}
	if err := vault.Store(secret.token); err != nil {
		return credential{}, fmt.Errorf("keep the operator token: %w", err)
	}
	return secret, nil
}

func (h *Handler) operatorSpec(id domain.KeyID, secret credential) domain.KeySpec {
	var scopes domain.Scopes
	for _, s := range h.managing.All() {
		scopes = append(scopes, s.Scope)
	}
	resolved, err := h.managing.Resolve("/scopes", scopes)
	if err != nil {
		resolved = scopes // the catalogue's own scopes always resolve
	}
	return domain.KeySpec{
		ID: id, Account: domain.RootAccount, Type: domain.KeyTypeManagement, Name: "operator",
		Description: "The instance's first management key", Scopes: resolved,
		Grants: &domain.Grants{
			Environments: []domain.Environment{domain.EnvironmentLive, domain.EnvironmentTest},
			Scopes:       domain.Scopes{domain.FullAccess},
		},
		Mac: secret.mac, PepperID: h.pepper.ID(), Display: h.format.Display(domain.KeyTypeManagement, "", id),
	}
}
