package natsclient_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/client/natsclient"
)

// A producer creates a key with a token of its own: only the token's hash is sent. It
// does not wait until the key is there, which may be when a server is up again.
func ExampleProducer_SendCreateKey() {
	ctx := context.Background()
	url, tokenFile, stop := exampleServer()
	defer stop()

	producer, err := natsclient.New(ctx, natsclient.Config{
		URL: url, // for example tls://nats.example.com:4222
		Token: func(context.Context) (string, error) { // of a management key with keyledger.commands
			token, err := os.ReadFile(tokenFile)
			return strings.TrimSpace(string(token)), err
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer producer.Close()

	token, err := client.NewToken(client.TokenSpec{Environment: "live"})
	if err != nil {
		fmt.Println(err)
		return
	}
	// Keep token.Reveal() here. From now on nothing can lose it.
	sent, err := producer.SendCreateKey(ctx, client.CreateKeyRequest{
		Name: "Production Server", Environment: "live", Scopes: []string{"invoices:read"},
	}, natsclient.WithToken(token), natsclient.WithID("order-4711"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(sent.ID, "is stored, and is carried out once, however often this runs")
	// Output: order-4711 is stored, and is carried out once, however often this runs
}

// The same refusals come over NATS as over HTTP, and a call that gave up says how to
// learn more.
func ExampleProducer_RevokeKey() {
	ctx := context.Background()
	producer, stop := exampleProducer("key_revoked")
	defer stop()

	out, err := producer.RevokeKey(ctx, "key_4fJq0Zr8kLw2TnXb", client.RevokeKeyRequest{Reason: "laptop lost"})
	var refusal *client.Error
	var pending *natsclient.PendingError
	switch {
	case errors.As(err, &refusal):
		fmt.Println("refused:", refusal.Code)
	case errors.As(err, &pending):
		fmt.Println("ask later for", pending.ID)
	case err != nil:
		fmt.Println(err)
	default:
		fmt.Println("revoked, seq", out.Seq)
	}
	// Output: refused: key_revoked
}
