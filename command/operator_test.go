package command

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/domain"
)

// vault keeps the operator's token in memory.
type vault struct{ token domain.Secret }

func (v *vault) Load() (domain.Secret, error)    { return v.token, nil }
func (v *vault) Store(token domain.Secret) error { v.token = token; return nil }

func TestOperatorIsMadeOnce(t *testing.T) {
	f := newFixture(t)
	v := &vault{}
	first, created, err := f.Operator(t.Context(), v)
	if err != nil || !created || v.token.IsZero() {
		t.Fatalf("created %v, %v", created, err)
	}
	authority := domain.AuthorityOf(first)
	if !authority.Instance() || authority.May(domain.ScopeOperate) != nil {
		t.Errorf("the operator's authority is %+v", authority)
	}
	second, created, err := f.handler(t).Operator(t.Context(), v)
	if err != nil || created || second.ID != first.ID {
		t.Errorf("second start: %s, created %v, %v", second.ID, created, err)
	}
	if head := f.mustHead(t); head != 1 {
		t.Errorf("head %d, want 1", head)
	}
}

func TestOperatorSurvivesACrashAfterItsTokenWasStored(t *testing.T) {
	f := newFixture(t)
	v := &vault{}
	stopped := errors.New("the process dies here")
	if _, _, err := f.Operator(t.Context(), dyingVault{v, stopped}); !errors.Is(err, stopped) {
		t.Fatal(err)
	}
	kept := v.token
	if _, created, err := f.Operator(t.Context(), v); err != nil || !created || v.token != kept {
		t.Errorf("created %v, %v; the stored token was kept: %v", created, err, v.token == kept)
	}
}

type dyingVault struct {
	*vault
	err error
}

func (v dyingVault) Store(token domain.Secret) error { return errors.Join(v.vault.Store(token), v.err) }

func TestOperatorRefusesAnotherKeyringsToken(t *testing.T) {
	f := newFixture(t)
	id, err := domain.RandomBase62(rand.Reader, 16)
	if err != nil {
		t.Fatal(err)
	}
	token, err := domain.TokenFormat{}.NewToken(domain.KeyTypeManagement, "", domain.NewKeyID(id), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.Operator(t.Context(), &vault{token}); err == nil || strings.Contains(err.Error(), token.Reveal()) {
		t.Errorf("error %v", err)
	}
}

func TestAManagementKeyIsRevokedByItsEqualsOnly(t *testing.T) {
	f := newFixture(t)
	operator, _, err := f.Operator(t.Context(), &vault{})
	if err != nil {
		t.Fatal(err)
	}
	strong := Request{Authority: domain.AuthorityOf(operator)}
	of := Target{Account: domain.RootAccount, Type: domain.KeyTypeManagement, ID: operator.ID}
	_, err = f.RevokeKey(t.Context(), strong, of, "")
	mustRefuse(t, err, "self_revocation")

	weak := strong
	weak.Authority.Actor, weak.Authority.Scopes = "key_weak", domain.Scopes{domain.ScopeOperate}
	_, err = f.RevokeKey(t.Context(), weak, of, "")
	mustRefuse(t, err, domain.CodeCeiling)

	strong.Authority.Actor = "key_other"
	if o, err := f.RevokeKey(t.Context(), strong, of, "handed over"); err != nil || o.Key.RevokeReason != "handed over" {
		t.Errorf("an equal: %+v, %v", o, err)
	}
}
