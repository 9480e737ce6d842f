package main

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

// TestAuditorIsSentAway holds the node to it that a connection to its NATS server
// does not outlive the key that it was made with.
func TestAuditorIsSentAway(t *testing.T) {
	w := newTestWorld(t)
	w.mustStart(t)
	const auditRead = string(domain.ScopeAuditRead)
	for name, c := range map[string]struct {
		life time.Duration // 0: for ever
		end  func(t *testing.T, id string)
	}{
		"revoked": {end: func(t *testing.T, id string) {
			t.Helper()
			w.must(t, "keys", "revoke", id, "--management", "--yes", "--reason", "gone")
		}},
		"expired": {
			life: 5 * time.Second, // longer than connecting takes
			end:  func(*testing.T, string) {},
		},
	} {
		t.Run(name, func(t *testing.T) {
			create := []string{"--management", "--name", name, "--account", string(domain.RootAccount), "--scopes", auditRead}
			if c.life > 0 {
				create = append(create, "--expires-at", time.Now().Add(c.life).UTC().Format(time.RFC3339Nano))
			}
			token, id := w.mustCreate(t, create...)
			closed := make(chan struct{})
			var conn *nats.Conn
			eventually(t, "the new key lets its bearer in", func() (ok bool) {
				var err error
				conn, err = nats.Connect(w.address(t).NATSURL, nats.UserInfo(id, token), nats.CustomInboxPrefix(eventstore.InboxPrefix(id)),
					nats.ReconnectWait(10*time.Millisecond), nats.ClosedHandler(func(*nats.Conn) { close(closed) }),
					nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})) // it prints by default
				return err == nil
			})
			defer conn.Close()
			c.end(t, id)
			select {
			case <-closed:
			case <-time.After(within):
				t.Error("the auditor's connection goes on")
			}
		})
	}
}
