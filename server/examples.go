package server

import (
	"time"

	"github.com/keyledger/keyledger/client"
)

// The examples of the documentation. Tokens in them are cut short: a whole one,
// even a dead one, would set off the scanners of whoever keeps a copy.

const exampleID = "key_4fJq0Zr8kLw2TnXb"

func exampleTime() time.Time { return time.Date(2030, time.January, 15, 9, 30, 0, 0, time.UTC) }

func exampleKey() client.Key {
	expires := time.Date(2030, time.December, 31, 0, 0, 0, 0, time.UTC)
	return client.Key{
		ID: exampleID, Account: "default", KeyType: "api", Name: "Production Server", Environment: "live",
		Scopes: []string{"invoices:read", "payouts:read"}, Display: "sk_live_4fJq0Zr8…", Status: "active",
		ExpiresAt: &expires, AllowedIPs: []string{}, Metadata: map[string]string{"team": "billing"},
		CreatedAt: exampleTime(), CreatedBy: "key_9bQwXr3LmZ0vTc7K", Seq: 42,
	}
}

func exampleManagementKey() client.Key {
	return client.Key{
		ID: "key_9bQwXr3LmZ0vTc7K", Account: "default", KeyType: "management", Name: "billing service",
		Scopes:  []string{"keyledger.keys:read", "keyledger.keys:write"},
		Grants:  &client.Grants{Environments: []string{"live"}, Scopes: []string{"invoices:*"}},
		Display: "kl_admin_9bQwXr3L…", Status: "active", AllowedIPs: []string{}, Metadata: map[string]string{},
		CreatedAt: exampleTime(), CreatedBy: "key_0aKdRk5PsY8hWe2M", Seq: 7,
	}
}

func exampleCreate() client.CreateKeyRequest {
	return client.CreateKeyRequest{
		Name: "Production Server", Environment: "live", Scopes: []string{"invoices:read", "payouts:read"},
		ExpiresOn: new("2030-12-31"), Metadata: map[string]string{"team": "billing"},
	}
}

func exampleCreateManagement() client.CreateManagementKeyRequest {
	return client.CreateManagementKeyRequest{
		Name: "billing service", Account: "default", Scopes: []string{"keyledger.keys:read", "keyledger.keys:write"},
		Grants: &client.Grants{Environments: []string{"live"}, Scopes: []string{"invoices:*"}},
	}
}

func exampleResult() client.KeyResult { return client.KeyResult{Key: exampleKey(), Seq: 42} }

func exampleCreated() client.KeyResult {
	return client.KeyResult{Key: exampleKey(), Token: "sk_live_4fJq0Zr8kLw2TnXb…", Seq: 42}
}

func exampleManagementResult() client.KeyResult {
	return client.KeyResult{Key: exampleManagementKey(), Seq: 7}
}

func exampleManagementCreated() client.KeyResult {
	return client.KeyResult{Key: exampleManagementKey(), Token: "kl_admin_9bQwXr3LmZ0vTc7K…", Seq: 7}
}
