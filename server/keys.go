package server

import (
	"context"
	"fmt"
	"net/http"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

const (
	pathKeys = "/v1/keys"
	pathKey  = "/v1/keys/{id}"
)

// keyRoutes registers the routes of customers' keys.
func (s *Server) keyRoutes() {
	handle(s, endpointOf(http.MethodPost, pathKeys, "create-key", tagKeys, "Create a key", domain.ScopeKeysWrite,
		"The token is in this answer and nowhere else. "+
			"A caller that fears losing the answer makes the token itself and sends only its SHA-256 as token_sha256.").
		created().takes(func() any { return new(client.CreateKeyRequest) }, exampleCreate()).answers(exampleCreated()), s.createKey)
	handle(s, endpointOf(http.MethodGet, pathKeys, "list-keys", tagKeys, "List keys", domain.ScopeKeysRead,
		"Newest first. Keys that are created while pages are read appear on none of the later ones.").
		answers(client.KeyPage{Keys: []client.Key{exampleKey()}}), s.listKeys)
	handle(s, endpointOf(http.MethodGet, pathKey, "get-key", tagKeys, "Get a key", domain.ScopeKeysRead, "").
		answers(exampleResult()), s.getKey)
	handle(s, endpointOf(http.MethodPatch, pathKey, "update-key", tagKeys, "Change a key", domain.ScopeKeysWrite,
		"What is absent stays as it is; lists and metadata are replaced as a whole; null takes the expiry away.").
		takes(func() any { return new(client.UpdateKeyRequest) }, map[string]any{"name": "POS Integration", "expires_on": "2030-12-31"}, "/expires_on", "/expires_at").
		answers(exampleResult()), s.updateKey)
	handle(s, endpointOf(http.MethodPost, pathKey+"/revoke", "revoke-key", tagKeys, "Revoke a key for good", domain.ScopeKeysWrite,
		"Revoking a revoked key changes nothing.").
		takes(func() any { return new(client.RevokeKeyRequest) }, client.RevokeKeyRequest{Reason: "laptop lost"}).answers(exampleResult()), s.revokeKey)
	handle(s, endpointOf(http.MethodPost, pathKey+"/rotate", "rotate-key", tagKeys, "Put a new key in a key's place", domain.ScopeKeysWrite,
		"The answer is the new key with its token. The old key goes on working for the overlap, or stops at once.").
		created().takes(func() any { return new(client.RotateKeyRequest) }, client.RotateKeyRequest{Overlap: "24h"}).answers(exampleCreated()), s.rotateKey)
}

type createKeyInput struct {
	IdempotencyKey string `header:"Idempotency-Key"`
	Body           client.CreateKeyRequest
}

func (s *Server) createKey(ctx context.Context, in *createKeyInput) (*newKeyOutput, error) {
	request, err := s.request(ctx, in.IdempotencyKey, "")
	if err != nil {
		return nil, err
	}
	outcome, err := s.done(s.cfg.Commands.CreateKey(ctx, request, newKey(in.Body)))
	if err != nil {
		return nil, err
	}
	answer := s.answerNew(ctx, pathKeys, outcome)
	if in.Body.TokenSHA256 != "" {
		if err := s.checkOwner(ctx, outcome); err != nil {
			return nil, err
		}
	}
	return answer, nil
}

type listKeysInput struct {
	Account        string    `query:"account"`
	Environment    string    `query:"environment" enum:"live,test" doc:"Keys of this environment."`
	Status         string    `query:"status" enum:"active,revoked,expired" doc:"What the keys are now, by the server's clock."`
	Scope          string    `query:"scope" doc:"Keys that hold it, by name, by resource:* or by full access."`
	Q              string    `query:"q" doc:"Text in the name, the description or the metadata, whatever the case."`
	ExpiringBefore timeParam `query:"expiring_before" doc:"Keys with an expiry before this instant."`
	PageSize       sizeParam `query:"page_size"`
	PageToken      string    `query:"page_token"`
	MinSeq         seqParam  `query:"min_seq"`
}

type keyPageOutput struct {
	Body client.KeyPage
}

func (s *Server) listKeys(ctx context.Context, in *listKeysInput) (*keyPageOutput, error) {
	before, err := in.ExpiringBefore.read("expiring_before")
	if err != nil {
		return nil, err
	}
	return s.list(ctx, in.PageSize, in.MinSeq, projections.KeyQuery{
		Account: domain.AccountID(in.Account), Type: domain.KeyTypeAPI, Environment: domain.Environment(in.Environment),
		Status: domain.Status(in.Status), Scope: domain.Scope(in.Scope), Text: in.Q, ExpiringBefore: before, After: in.PageToken,
	})
}

// list answers one page of a query, within the caller's reach.
func (s *Server) list(ctx context.Context, size sizeParam, minSeq seqParam, q projections.KeyQuery) (*keyPageOutput, error) {
	var err error
	if q.PageSize, err = size.read(); err != nil {
		return nil, err
	}
	if q.Account, err = s.reach(ctx, q.Account); err != nil {
		return nil, err
	}
	if err := s.awaitAsked(ctx, &s.tables, minSeq); err != nil {
		return nil, err
	}
	q.Now = s.now()
	page, err := s.cfg.Keys.Keys(ctx, q)
	if err != nil {
		return nil, aboutParameters(err)
	}
	out := &keyPageOutput{Body: client.KeyPage{Keys: make([]client.Key, len(page.Keys)), NextPageToken: page.Next}}
	for i, record := range page.Keys {
		out.Body.Keys[i] = wireKey(record.Key, record.Seq, page.Now)
	}
	return out, nil
}

// reach returns the account that a read is limited to: the one named, the caller's
// own, or "" for all.
func (s *Server) reach(ctx context.Context, account domain.AccountID) (domain.AccountID, error) {
	authority := exchangeOf(ctx).authority
	if authority.Instance() && account == "" {
		return "", nil
	}
	if account != "" {
		if _, err := domain.ParseAccountID(string(account)); err != nil {
			return "", aboutParameters(err)
		}
	}
	return authority.ResolveAccount(account)
}

// findKey reads a key of the given type within the caller's reach. The table is
// asked for keys that the caller may see and for no other: see target.
func (s *Server) findKey(ctx context.Context, t domain.KeyType, p idParam) (projections.KeyRecord, error) {
	target, err := s.target(ctx, t, p)
	if err != nil {
		return projections.KeyRecord{}, err
	}
	record, err := s.cfg.Keys.Key(ctx, target.ID)
	if err != nil {
		return projections.KeyRecord{}, err
	}
	if record.Account != target.Account || record.Type != t {
		return projections.KeyRecord{}, fmt.Errorf("the key table and the verifier do not agree whose key %s is", target.ID)
	}
	exchangeOf(ctx).seq = record.Seq
	return record, nil
}

type getKeyInput struct {
	ID     idParam  `path:"id"`
	MinSeq seqParam `query:"min_seq"`
}

func (s *Server) getKey(ctx context.Context, in *getKeyInput) (*keyOutput, error) {
	return s.get(ctx, domain.KeyTypeAPI, in)
}

func (s *Server) get(ctx context.Context, t domain.KeyType, in *getKeyInput) (*keyOutput, error) {
	if err := s.awaitAsked(ctx, &s.tables, in.MinSeq); err != nil {
		return nil, err
	}
	record, err := s.findKey(ctx, t, in.ID)
	if err != nil {
		return nil, err
	}
	return &keyOutput{
		ETag: etag(record.Seq),
		Body: client.KeyResult{Key: wireKey(record.Key, record.Seq, s.now()), Seq: record.Seq},
	}, nil
}

type updateKeyInput struct {
	ID             idParam `path:"id"`
	IdempotencyKey string  `header:"Idempotency-Key"`
	IfMatch        string  `header:"If-Match"`
	Body           client.UpdateKeyRequest
}

func (s *Server) updateKey(ctx context.Context, in *updateKeyInput) (*keyOutput, error) {
	changes, err := keyChanges(in.Body)
	if err != nil {
		return nil, err
	}
	request, err := s.request(ctx, in.IdempotencyKey, in.IfMatch)
	if err != nil {
		return nil, err
	}
	target, err := s.target(ctx, domain.KeyTypeAPI, in.ID)
	if err != nil {
		return nil, err
	}
	outcome, err := s.done(s.cfg.Commands.UpdateKey(ctx, request, target, changes))
	if err != nil {
		return nil, err
	}
	return s.answer(ctx, outcome), nil
}

type revokeKeyInput struct {
	ID             idParam                  `path:"id"`
	IdempotencyKey string                   `header:"Idempotency-Key"`
	IfMatch        string                   `header:"If-Match"`
	Body           *client.RevokeKeyRequest `required:"false"`
}

func (s *Server) revokeKey(ctx context.Context, in *revokeKeyInput) (*keyOutput, error) {
	return s.revoke(ctx, domain.KeyTypeAPI, in)
}

func (s *Server) revoke(ctx context.Context, t domain.KeyType, in *revokeKeyInput) (*keyOutput, error) {
	request, err := s.request(ctx, in.IdempotencyKey, in.IfMatch)
	if err != nil {
		return nil, err
	}
	target, err := s.target(ctx, t, in.ID)
	if err != nil {
		return nil, err
	}
	reason := ""
	if in.Body != nil {
		reason = in.Body.Reason
	}
	outcome, err := s.done(s.cfg.Commands.RevokeKey(ctx, request, target, reason))
	if err != nil {
		return nil, err
	}
	return s.answer(ctx, outcome), nil
}

type rotateKeyInput struct {
	ID             idParam                  `path:"id"`
	IdempotencyKey string                   `header:"Idempotency-Key"`
	IfMatch        string                   `header:"If-Match"`
	Body           *client.RotateKeyRequest `required:"false"`
}

func (s *Server) rotateKey(ctx context.Context, in *rotateKeyInput) (*newKeyOutput, error) {
	how, err := rotation(in.Body)
	if err != nil {
		return nil, err
	}
	request, err := s.request(ctx, in.IdempotencyKey, in.IfMatch)
	if err != nil {
		return nil, err
	}
	target, err := s.target(ctx, domain.KeyTypeAPI, in.ID)
	if err != nil {
		return nil, err
	}
	outcome, err := s.done(s.cfg.Commands.RotateKey(ctx, request, target, how))
	if err != nil {
		return nil, err
	}
	return s.answerNew(ctx, pathKeys, outcome), nil
}
