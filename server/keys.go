package server

import (
	"context"
	"net/http"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/wire"
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
		aboutLists+aboutPast).
		answers(client.KeyPage{Keys: []client.Key{exampleKey()}}), s.listKeys)
	handle(s, endpointOf(http.MethodGet, pathKey, "get-key", tagKeys, "Get a key", domain.ScopeKeysRead, aboutPastKey).
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
	outcome, err := s.done(s.cfg.Commands.CreateKey(ctx, request, wire.NewKey(in.Body)))
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

type updateKeyInput struct {
	ID             idParam `path:"id"`
	IdempotencyKey string  `header:"Idempotency-Key"`
	IfMatch        string  `header:"If-Match"`
	Body           client.UpdateKeyRequest
}

func (s *Server) updateKey(ctx context.Context, in *updateKeyInput) (*keyOutput, error) {
	changes, err := wire.KeyChanges(in.Body)
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
	how, err := wire.Rotation(in.Body)
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
	answer := s.answerNew(ctx, pathKeys, outcome)
	if in.Body != nil && in.Body.TokenSHA256 != "" {
		if err := s.checkOwner(ctx, outcome); err != nil {
			return nil, err
		}
	}
	return answer, nil
}
