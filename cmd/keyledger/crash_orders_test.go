package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	mrand "math/rand/v2"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/internal/soak"
)

// order is one command as a client means it. It is sent until it has an outcome,
// always under the same idempotency key.
type order struct {
	ref    soak.Ref
	by     *tenant
	target domain.KeyID // "" for a create
	token  string       // made by the client, "" if it asks for one
	send   func(context.Context, *client.Client, ...client.CallOption) (client.Outcome, error)
}

// tenant is one management key with what it knows of its own keys. Its members
// are guarded by the world's lock.
type tenant struct {
	name  string
	actor domain.ActorID
	token string
	keys  []domain.KeyID
}

// overlaps are the rotations that clients ask for: none, and one that lasts. None
// ends while the test runs: what the node writes by itself between two looks at it
// would make them differ.
func overlaps() []string { return []string{"", "", "1h"} }

// newOrder draws a command: mostly creates, so that there is something to change.
func newOrder(rng *mrand.Rand, by *tenant, id string, known []domain.KeyID) *order {
	draw := rng.IntN(100)
	if len(known) == 0 || draw < 40 {
		return createOrder(rng, by, id)
	}
	// Half of the time one of the latest, so that clients meet on a key.
	target := known[rng.IntN(len(known))]
	if rng.IntN(2) == 0 {
		target = known[max(0, len(known)-1-rng.IntN(8))]
	}
	switch {
	case draw < 65:
		return updateOrder(rng, by, id, target)
	case draw < 83:
		return rotateOrder(rng, by, id, target)
	default:
		return revokeOrder(by, id, target)
	}
}

func createOrder(rng *mrand.Rand, by *tenant, id string) *order {
	request := client.CreateKeyRequest{
		Name: "key " + id, Environment: []string{"live", "test"}[rng.IntN(2)], Description: "made by order " + id,
		Metadata: map[string]string{"order": id},
	}
	switch rng.IntN(3) {
	case 0:
		request.FullAccess = true
	case 1:
		request.Scopes = []string{"invoices:read", "payouts:*"}
	default:
		request.Scopes, request.AllowedIPs = []string{"clients:read"}, []string{"10.0.0.0/8"}
		request.ExpiresOn = new("2999-12-31")
	}
	o := &order{ref: soak.Ref{Actor: by.actor, Command: domain.CommandCreateKey, ID: id}, by: by}
	if rng.IntN(3) == 0 {
		o.token = rand.Text() + rand.Text() // any string may be a token: its hash counts
		sum := sha256.Sum256([]byte(o.token))
		request.TokenSHA256 = hex.EncodeToString(sum[:])
	}
	o.send = func(ctx context.Context, c *client.Client, opts ...client.CallOption) (client.Outcome, error) {
		return c.CreateKey(ctx, request, opts...)
	}
	return o
}

// updateOrder always changes something: the new name is the order's own.
func updateOrder(rng *mrand.Rand, by *tenant, id string, target domain.KeyID) *order {
	name := "renamed by " + id
	request := client.UpdateKeyRequest{Name: &name}
	switch rng.IntN(3) {
	case 0:
		request.Metadata = &map[string]string{"order": id, "n": fmt.Sprint(rng.IntN(1000))}
	case 1:
		request.Scopes, request.AllowedIPs = &[]string{"invoices:*"}, &[]string{}
	}
	return &order{
		ref: soak.Ref{Actor: by.actor, Command: domain.CommandUpdateKey, ID: id}, by: by, target: target,
		send: func(ctx context.Context, c *client.Client, opts ...client.CallOption) (client.Outcome, error) {
			return c.UpdateKey(ctx, string(target), request, opts...)
		},
	}
}

func rotateOrder(rng *mrand.Rand, by *tenant, id string, target domain.KeyID) *order {
	request := client.RotateKeyRequest{Overlap: overlaps()[rng.IntN(len(overlaps()))]}
	return &order{
		ref: soak.Ref{Actor: by.actor, Command: domain.CommandRotateKey, ID: id}, by: by, target: target,
		send: func(ctx context.Context, c *client.Client, opts ...client.CallOption) (client.Outcome, error) {
			return c.RotateKey(ctx, string(target), request, opts...)
		},
	}
}

func revokeOrder(by *tenant, id string, target domain.KeyID) *order {
	request := client.RevokeKeyRequest{Reason: "revoked by " + id}
	return &order{
		ref: soak.Ref{Actor: by.actor, Command: domain.CommandRevokeKey, ID: id}, by: by, target: target,
		send: func(ctx context.Context, c *client.Client, opts ...client.CallOption) (client.Outcome, error) {
			return c.RevokeKey(ctx, string(target), request, opts...)
		},
	}
}

// finalRefusals are the codes by which a sensible order can be refused here, each
// of them for good.
func finalRefusals() []string {
	return []string{domain.CodeKeyRevoked, domain.CodeKeyRotated}
}
