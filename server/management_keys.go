package server

import (
	"context"
	"net/http"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/wire"
)

const (
	pathManagementKeys = "/v1/management-keys"
	pathManagementKey  = "/v1/management-keys/{id}"
)

// managementKeyRoutes registers the routes of the control plane's keys. They are a
// collection of their own: neither knows the ids of the other.
func (s *Server) managementKeyRoutes() {
	handle(s, endpointOf(http.MethodPost, pathManagementKeys, "create-management-key", tagManagement, "Create a management key", domain.ScopeOperate,
		"Nobody gives more than they hold: scopes, grants, life and account are within the caller's own.").
		created().takes(func() any { return new(client.CreateManagementKeyRequest) }, exampleCreateManagement()).answers(exampleManagementCreated()), s.createManagementKey)
	handle(s, endpointOf(http.MethodGet, pathManagementKeys, "list-management-keys", tagManagement, "List management keys", domain.ScopeOperate,
		aboutLists+aboutPast).answers(client.KeyPage{Keys: []client.Key{exampleManagementKey()}}), s.listManagementKeys)
	handle(s, endpointOf(http.MethodGet, pathManagementKey, "get-management-key", tagManagement, "Get a management key", domain.ScopeOperate, aboutPastKey).
		answers(exampleManagementResult()), s.getManagementKey)
	handle(s, endpointOf(http.MethodPost, pathManagementKey+"/revoke", "revoke-management-key", tagManagement, "Revoke a management key for good", domain.ScopeOperate,
		"Event streams that were opened with it end within seconds.").
		takes(func() any { return new(client.RevokeKeyRequest) }, client.RevokeKeyRequest{Reason: "service retired"}).answers(exampleManagementResult()), s.revokeManagementKey)
}

type createManagementKeyInput struct {
	IdempotencyKey string `header:"Idempotency-Key"`
	Body           client.CreateManagementKeyRequest
}

func (s *Server) createManagementKey(ctx context.Context, in *createManagementKeyInput) (*newKeyOutput, error) {
	request, err := s.request(ctx, in.IdempotencyKey, "")
	if err != nil {
		return nil, err
	}
	outcome, err := s.done(s.cfg.Commands.CreateKey(ctx, request, wire.NewManagementKey(in.Body)))
	if err != nil {
		return nil, err
	}
	return s.answerNew(ctx, pathManagementKeys, outcome), nil
}

type listManagementKeysInput struct {
	KeyFilters
}

func (s *Server) listManagementKeys(ctx context.Context, in *listManagementKeysInput) (*keyPageOutput, error) {
	return s.list(ctx, &in.KeyFilters, projections.KeyQuery{Type: domain.KeyTypeManagement})
}

func (s *Server) getManagementKey(ctx context.Context, in *getKeyInput) (*keyOutput, error) {
	return s.get(ctx, domain.KeyTypeManagement, in)
}

func (s *Server) revokeManagementKey(ctx context.Context, in *revokeKeyInput) (*keyOutput, error) {
	return s.revoke(ctx, domain.KeyTypeManagement, in)
}
