package server

import (
	"context"
	"fmt"
	"net/http"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
)

func (s *Server) scopeRoutes() {
	handle(s, endpointOf(http.MethodGet, "/v1/scopes", "list-scopes", tagKeys, "List the scopes that keys may hold", "",
		"Keys may also hold resource:* or everything (full access). Management keys hold their own scopes, by name only.").
		answers(client.ScopeList{
			Scopes:           []client.Scope{{Scope: "invoices:read", Description: "View invoices"}},
			ManagementScopes: []client.Scope{{Scope: "keyledger.keys:read", Description: "View keys and their history"}},
		}), s.listScopes)
}

type scopesOutput struct {
	Body client.ScopeList
}

func (s *Server) listScopes(context.Context, *struct{}) (*scopesOutput, error) {
	return &scopesOutput{Body: client.ScopeList{
		Scopes: wireScopes(s.cfg.Catalogue), ManagementScopes: wireScopes(domain.ManagementCatalogue()),
	}}, nil
}

func wireScopes(c *domain.Catalogue) []client.Scope {
	out := make([]client.Scope, 0, c.Len())
	for _, info := range c.All() {
		out = append(out, client.Scope{Scope: string(info.Scope), Description: info.Description})
	}
	return out
}

// unknownScope refuses a required scope that is not in the catalogue. Wildcards are
// held, never required.
func unknownScope(i int) error {
	return domain.Invalid(domain.CodeUnknownScope, fmt.Sprintf("/scopes/%d", i), "not a scope of the catalogue", "choose from GET /v1/scopes")
}
