package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/keyledger/keyledger/client"
)

// A service keeps its management key in a file and reads it for every call, so
// that a new key takes effect without a restart.
func ExampleNew() {
	_, err := client.New(client.Config{
		BaseURL: "https://keys.example.com",
		Token: func(context.Context) (string, error) {
			token, err := os.ReadFile("/run/secrets/keyledger")
			return strings.TrimSpace(string(token)), err
		},
	})
	fmt.Println(err)
	// Output: <nil>
}

// The order's number names the command: however often this runs, one key exists.
func ExampleClient_CreateKey() {
	c := answering(`{"key":{"id":"key_4fJq0Zr8kLw2TnXb","name":"Production Server"},"seq":3}`)

	out, err := c.CreateKey(context.Background(), client.CreateKeyRequest{
		Name: "Production Server", Environment: "live", Scopes: []string{"invoices:read"},
	}, client.WithIdempotencyKey("order-4711"))
	if err != nil {
		fmt.Println(err)
		return
	}
	// out.Token is the secret. Keep it now: it cannot be had again.
	fmt.Println(out.Key.ID, out.Key.Name)
	// Output: key_4fJq0Zr8kLw2TnXb Production Server
}

// A producer that fears losing the answer makes the token itself, keeps it, and sends
// its hash only. Now the whole call can be repeated until there is an answer.
func ExampleNewToken() {
	c := answering(`{"key":{"id":"key_4fJq0Zr8kLw2TnXb","name":"Production Server"},"seq":3}`)

	token, err := client.NewToken(client.TokenSpec{Environment: "live"})
	if err != nil {
		fmt.Println(err)
		return
	}
	// Keep token.Reveal() where secrets are kept. Printed by mistake, it does not show:
	fmt.Println(token)

	out, err := c.CreateKey(context.Background(), client.CreateKeyRequest{
		Name: "Production Server", Environment: "live", Scopes: []string{"invoices:read"},
		TokenSHA256: token.SHA256(),
	}, client.WithIdempotencyKey("order-4711"))
	if err != nil {
		fmt.Println(err, "- to be sent again as", out.CommandID)
		return
	}
	fmt.Println(out.Key.ID, out.Token == "")
	// Output:
	// [redacted]
	// key_4fJq0Zr8kLw2TnXb true
}

// A door asks before it lets a request in, and refuses when it cannot know.
func ExampleClient_Verify() {
	c := answering(`{"valid":false,"code":"INSUFFICIENT_SCOPE","cause":"the key lacks payouts:write"}`)

	result, err := c.Verify(context.Background(), client.VerifyRequest{
		Key: "the token of the request", Scopes: []string{"payouts:write"}, Environment: "live",
	})
	switch {
	case err != nil:
		fmt.Println("503: nothing is known:", err)
	case !result.Valid:
		fmt.Println("refused:", result.Cause)
	default:
		fmt.Println("welcome,", result.Account)
	}
	// Output: refused: the key lacks payouts:write
}

// Refusals carry a code for programs and what to do for people.
func ExampleError() {
	var err error = &client.Error{
		Status: 404, Code: "key_not_found", Detail: "there is no such key", Fix: "check the id", RequestID: "req-1",
	}
	var refusal *client.Error
	if errors.As(err, &refusal) && refusal.Code == "key_not_found" {
		fmt.Println(refusal)
		fmt.Println(refusal.Fix)
	}
	// Output:
	// there is no such key (404 key_not_found, request req-1)
	// check the id
}

// A table of one's own reads the history and stays up to date: it remembers how
// far it came and goes on from there.
func ExampleClient_Follow() {
	c := answering("data: " + `{"seq":8,"subject":"keyledger.events.default.key.key_a","event":{"type":"keyledger.key.revoked.v1"}}` + "\n\n")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	applied := uint64(7)
	for event, err := range c.Follow(ctx, client.EventQuery{FromSeq: applied + 1}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(event.Seq, event.Subject)
		cancel() // enough for an example
	}
	// Output: 8 keyledger.events.default.key.key_a
}

// An auditor asks who revoked keys on a day, and why.
func ExampleClient_AuditEntries() {
	c := answering(`{"entries":[{"seq":57,"time":"2030-01-15T09:30:00Z","actor":"key_9bQwXr3LmZ0vTc7K","action":"key.revoked",
		"subject":"key_4fJq0Zr8kLw2TnXb","changes":[{"field":"revoked_at","before":null,"after":"2030-01-15T09:30:00Z"}],"reason":"laptop lost"}]}`)

	day := time.Date(2030, time.January, 15, 0, 0, 0, 0, time.UTC)
	query := client.AuditQuery{Action: "key.revoked", FromTime: day, ToTime: day.AddDate(0, 0, 1)}
	for entry, err := range c.AuditEntries(context.Background(), query) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s %s revoked %s: %s\n", entry.Time.Format(time.Kitchen), entry.Actor, entry.Subject, entry.Reason)
		for _, change := range entry.Changes {
			fmt.Printf("  %s: %s -> %s\n", change.Field, change.Before, change.After)
		}
	}
	// Output:
	// 9:30AM key_9bQwXr3LmZ0vTc7K revoked key_4fJq0Zr8kLw2TnXb: laptop lost
	//   revoked_at: null -> "2030-01-15T09:30:00Z"
}

// After an incident: what was this key at 03:12?
func ExampleWithAt() {
	c := answering(`{"key":{"id":"key_4fJq0Zr8kLw2TnXb","name":"Production Server","status":"active","scopes":["payouts:write"]},"as_of_seq":41}`)

	key, err := c.Key(context.Background(), "key_4fJq0Zr8kLw2TnXb", client.WithAt(time.Date(2030, time.January, 15, 3, 12, 0, 0, time.UTC)))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(key.Name, "was", key.Status, "and held", key.Scopes)
	// Output: Production Server was active and held [payouts:write]
}

// And would it have passed at 03:12, and why not?
func ExampleClient_Verify_past() {
	c := answering(`{"valid":false,"code":"EXPIRED","cause":"Expired key","key_id":"key_4fJq0Zr8kLw2TnXb","as_of_seq":41}`)

	at := time.Date(2030, time.January, 15, 3, 12, 0, 0, time.UTC)
	result, err := c.Verify(context.Background(), client.VerifyRequest{
		KeyID: "key_4fJq0Zr8kLw2TnXb", At: &at, Scopes: []string{"payouts:write"}, IP: "203.0.113.7",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(result.Valid, result.Code)
	// Output: false EXPIRED
}

// answering returns a client whose server always gives the same answer.
func answering(body string) *client.Client {
	c, err := client.New(client.Config{
		BaseURL:    "https://keys.example.com",
		HTTPClient: &http.Client{Transport: fixedAnswer(body)},
	})
	if err != nil {
		panic(err)
	}
	return c
}

type fixedAnswer string

func (body fixedAnswer) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(string(body)))}, nil
}
