package natsclient_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/client/natsclient"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/embedded"
)

// exampleServer starts a NATS server with keyledger's streams, and writes the token
// of a producer to a file.
func exampleServer() (url, tokenFile string, stop func()) {
	ctx := context.Background()
	dir := must(os.MkdirTemp("", "keyledger-example-"))
	id := domain.NewKeyID(must(domain.RandomBase62(rand.Reader, 16)))
	token := must(domain.TokenFormat{}.NewToken(domain.KeyTypeManagement, "", id, rand.Reader))
	tokenFile = filepath.Join(dir, "token")
	check(os.WriteFile(tokenFile, []byte(token.Reveal()+"\n"), 0o600))
	server := must(embedded.Start(ctx, embedded.Config{
		DataDir: dir, Listen: "127.0.0.1:0", Sync: embedded.SyncLazy, Users: map[string]string{string(id): token.Reveal()},
	}))
	conn := must(server.Connect(ctx))
	log := must(eventstore.Open(ctx, eventstore.Config{Conn: conn}))
	must(log.OpenCommands(ctx))
	return server.ClientURL(), tokenFile, func() {
		conn.Close()
		check(server.Shutdown(ctx))
		check(os.RemoveAll(dir))
	}
}

// exampleProducer returns a producer whose commands are all refused with a code.
func exampleProducer(code string) (*natsclient.Producer, func()) {
	url, tokenFile, stop := exampleServer()
	token := strings.TrimSpace(string(must(os.ReadFile(tokenFile))))
	id := "key_" + token[len("kl_admin_"):][:16]
	conn := must(nats.Connect(url, nats.UserInfo(id, token)))
	must(conn.Subscribe(eventstore.CommandPrefix+".>", func(msg *nats.Msg) {
		body := must(json.Marshal(client.CommandOutcome{Outcome: client.OutcomeRefused, Code: code}))
		check(conn.Publish(msg.Header.Get(eventstore.ReplyHeader), body))
	}))
	check(conn.Flush())
	producer := must(natsclient.New(context.Background(), natsclient.Config{URL: url, Token: client.StaticToken(token)}))
	return producer, func() {
		producer.Close()
		conn.Close()
		stop()
	}
}

func must[T any](v T, err error) T {
	check(err)
	return v
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
