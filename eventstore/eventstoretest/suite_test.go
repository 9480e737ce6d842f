package eventstoretest_test

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/eventstore/embedded"
	"github.com/keyledger/keyledger/eventstore/eventstoretest"
)

func TestEmbedded(t *testing.T) {
	s := eventstoretest.MustServer(t, embedded.Config{
		Listen: "127.0.0.1:0",
		Users:  map[string]string{"suite": "suite"},
	})
	addr := strings.TrimPrefix(s.ClientURL(), "nats://")
	proxy := eventstoretest.MustProxy(t, addr)
	eventstoretest.Run(t, eventstoretest.Site{
		URL: s.ClientURL(), User: "suite", Password: "suite", Addr: addr, Replicas: 1,
		Through: func() string { return "nats://" + proxy.Addr() },
		Disturb: func(testing.TB, *nats.Conn) { proxy.Cut() },
	})
}
