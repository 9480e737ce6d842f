package server

import (
	"context"
	"slices"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/verify"
)

// checkPast says what a verification would have answered at an instant of the past,
// by the rule of the present: the key as it was then, judged as of then.
func (s *Server) checkPast(ctx context.Context, x *exchange, request *client.VerifyRequest, req verify.Requirement) (verify.Result, error) {
	if err := s.checkPastRequest(x, request); err != nil {
		return verify.Result{}, err
	}
	// The verifier knows whose token it is, and may lack a key of which another node
	// has told its caller.
	if _, err := s.awaitHead(ctx, &s.verifier); err != nil {
		return verify.Result{}, err
	}
	at, _ := s.notAhead(request.At.UTC())
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
	release, err := s.reads.acquire(ctx, x.authority.Actor, false)
	if err != nil {
		return verify.Result{}, err
	}
	defer release()
	return s.judgePast(ctx, id, account, moment, req, at)
}

// judgePast judges a key as it was at a moment, and as its present record says that
// it was. The moment goes by the log's clock: if a node's clock ever ran ahead, what
// was written afterwards seems later than it was, and at that moment a key that had
// been revoked an hour ago still seems good. The record has each time as it was
// written, so that an end that had come by then counts, whatever the log's clock said.
func (s *Server) judgePast(
	ctx context.Context, id domain.KeyID, account domain.AccountID, moment *projections.Moment, req verify.Requirement, at time.Time,
) (verify.Result, error) {
	unknown := verify.Result{Code: verify.CodeUnknown, AsOfSeq: moment.Seq}
	present, err := s.readKey(ctx, id, nil)
	if domain.KindOf(err) == domain.KindNotFound {
		return unknown, nil
	}
	if err != nil {
		return verify.Result{}, err
	}
	if present.Account != account {
		return verify.Result{}, disagree(id)
	}
	then, err := s.readKey(ctx, id, moment)
	if domain.KindOf(err) == domain.KindNotFound {
		if present.CreatedAt.After(at) {
			return unknown, nil
		}
		moment = &projections.Moment{Seq: present.CreatedSeq, Time: at}
		then, err = s.readKey(ctx, id, moment) // as it was made
	}
	if err != nil {
		return verify.Result{}, err
	}
	result := verify.Judge(then.Key, req, at, s.cfg.Catalogue)
	result.AsOfSeq = moment.Seq
	for _, key := range fromRecord(then.Key, present.Key, at) {
		if other := verify.Judge(key, req, at, s.cfg.Catalogue); moreSevere(other.Code, result.Code) {
			result = other
			result.AsOfSeq = max(moment.Seq, present.Seq)
		}
	}
	return result, nil
}

// fromRecord returns what a key may have been at an instant, by the times in its
// present record: what it was then with every end that had come, and what the last
// update made it, if that had been.
func fromRecord(then, present domain.Key, at time.Time) []domain.Key {
	had := func(t time.Time) bool { return !t.IsZero() && !t.After(at) }
	if had(present.RevokedAt) {
		then.RevokedAt = present.RevokedAt
	}
	if had(present.EndsAt) {
		then.EndsAt = present.EndsAt
	}
	if had(present.ExpiredAt) {
		then.ExpiredAt = present.ExpiredAt
	}
	keys := []domain.Key{then}
	if had(present.UpdatedAt) && !present.UpdatedAt.Equal(then.UpdatedAt) {
		updated := then // its ends are those that had come
		updated.KeySpec = present.KeySpec
		keys = append(keys, updated)
	}
	return keys
}

// moreSevere reports whether a code is decided before another one.
func moreSevere(a, b verify.Code) bool {
	codes := verify.Codes()
	return slices.Index(codes, a) < slices.Index(codes, b)
}

func (s *Server) checkPastRequest(x *exchange, request *client.VerifyRequest) error {
	if err := x.authority.May(domain.ScopeAuditRead); err != nil {
		return missingScope(domain.ScopeAuditRead)
	}
	_, future := s.notAhead(*request.At)
	switch {
	case request.Key != "" && request.KeyID != "":
		return domain.Invalid(domain.CodeValidation, "/key_id", "given together with key", "name the key by its token or by its id, not both")
	case request.At.Before(time.Unix(0, 0)):
		return domain.Invalid(domain.CodeValidation, "/at", "an instant before 1970-01-01T00:00:00Z", "use a later one")
	case future:
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
