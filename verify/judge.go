package verify

import (
	"time"

	"github.com/keyledger/keyledger/domain"
)

// Judge says what [Verifier.Verify] would have answered about the key at an
// instant, for a key whose token was found: it is the same rule. A key that does not
// exist, or is none of a customer's, is UNKNOWN. A nil catalogue means
// domain.DefaultCatalogue(). AsOfSeq is left to the caller.
func Judge(k domain.Key, req Requirement, at time.Time, catalogue *domain.Catalogue) Result {
	if !k.Exists() || k.Type != domain.KeyTypeAPI || req.Bound != "" && req.Bound != k.Account {
		return Result{Code: CodeUnknown}
	}
	if catalogue == nil {
		catalogue = domain.DefaultCatalogue()
	}
	rec := recordOf(&k.KeySpec, newCompiler(catalogue).compile(k.Scopes))
	rec.ends, rec.revoked, rec.expired = instantOf(k.EndsAt), !k.RevokedAt.IsZero(), !k.ExpiredAt.IsZero()
	code, missing := rec.judge(&req, catalogue, func() time.Time { return at })
	return rec.result(code, missing, 0)
}

// judge decides the codes from REVOKED on, except STALE. The clock is only asked
// where it matters.
func (r *record) judge(req *Requirement, catalogue *domain.Catalogue, clock func() time.Time) (Code, domain.Scope) {
	if r.mortal() {
		switch r.status(instantOf(clock())) {
		case domain.StatusRevoked:
			return CodeRevoked, ""
		case domain.StatusExpired:
			return CodeExpired, ""
		case domain.StatusActive:
		}
	}
	switch {
	case req.Environment != "" && req.Environment != r.environment.domain():
		return CodeWrongEnvironment, ""
	case req.Owner != "" && req.Owner != r.account:
		return CodeResourceNotAccessible, ""
	case !r.admits(req.IP):
		return CodeIPNotAllowed, ""
	}
	for _, s := range req.Scopes {
		if i, listed := catalogue.Index(s); !listed || !r.scopes.has(i) {
			return CodeInsufficientScope, s
		}
	}
	return CodeValid, ""
}

func (r *record) result(code Code, missing domain.Scope, asOf uint64) Result {
	return Result{
		Code: code, KeyID: r.id, Account: r.account, Environment: r.environment.domain(), Scopes: r.scopes.held,
		ExpiresAt: r.expires.time(), AsOfSeq: asOf, Missing: missing,
	}
}
