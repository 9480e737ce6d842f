package server

import (
	"context"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/verify"
)

// checkPast says what a verification would have answered at an instant of the past,
// by the rule of the present: the key as it was then, judged as of then.
func (s *Server) checkPast(ctx context.Context, x *exchange, request client.VerifyRequest, req verify.Requirement) (verify.Result, error) {
	if err := s.checkPastRequest(x, request); err != nil {
		return verify.Result{}, err
	}
	// The verifier knows whose token it is, and may lack a key of which another node
	// has told its caller.
	if _, err := s.awaitHead(ctx, &s.verifier); err != nil {
		return verify.Result{}, err
	}
	at := request.At.UTC()
	moment, err := s.moment(ctx, pastParams{asked: true, At: projections.At{Time: at}})
	if err != nil {
		return verify.Result{}, err
	}
	id, account, code := domain.KeyID(request.KeyID), domain.AccountID(""), verify.CodeValid
	if id == "" {
		id, account, code = s.cfg.Verifier.Identify(request.Key)
	} else if owner, keyType, known := s.cfg.Verifier.Find(id); known && keyType == domain.KeyTypeAPI {
		account = owner
	} else {
		code = verify.CodeUnknown
	}
	if code == verify.CodeValid && !x.authority.Reaches(account) {
		code = verify.CodeUnknown
	}
	if code != verify.CodeValid {
		return verify.Result{Code: code, AsOfSeq: moment.Seq}, nil
	}
	record, err := s.readKey(ctx, id, moment)
	if domain.KindOf(err) == domain.KindNotFound {
		return verify.Result{Code: verify.CodeUnknown, AsOfSeq: moment.Seq}, nil
	}
	if err != nil {
		return verify.Result{}, err
	}
	if record.Account != account {
		return verify.Result{}, disagree(id)
	}
	result := verify.Judge(record.Key, req, at, s.cfg.Catalogue)
	result.AsOfSeq = moment.Seq
	return result, nil
}

func (s *Server) checkPastRequest(x *exchange, request client.VerifyRequest) error {
	if err := x.authority.May(domain.ScopeAuditRead); err != nil {
		return missingScope(domain.ScopeAuditRead)
	}
	switch {
	case request.Key != "" && request.KeyID != "":
		return domain.Invalid(domain.CodeValidation, "/key_id", "given together with key", "name the key by its token or by its id, not both")
	case request.At.Before(time.Unix(0, 0)):
		return domain.Invalid(domain.CodeValidation, "/at", "an instant before 1970-01-01T00:00:00Z", "use a later one")
	case request.At.After(s.now()):
		return domain.Invalid(domain.CodeValidation, "/at", "an instant of the future", "leave it out for what is true now; the server's clock decides")
	}
	if request.KeyID == "" {
		return nil
	}
	if _, err := domain.ParseKeyID(request.KeyID); err != nil {
		return domain.Invalid("invalid_id", "/key_id", "not the form of an id", "use the id as it was given, for example key_ and 16 letters and digits")
	}
	return nil
}
