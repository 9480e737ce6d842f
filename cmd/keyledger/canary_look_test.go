package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

// overNATS reads the log with NATS's own client, and misuses tokens there too.
func (c *canaries) overNATS() {
	c.Helper()
	parsed, err := domain.TokenFormat{}.ParseToken(c.operator)
	if err != nil {
		c.Fatal(err)
	}
	user := string(parsed.KeyID)
	for name, token := range c.tokens {
		for _, credentials := range [][2]string{{user, token + "x"}, {token, token}, {"x", token}, {token, "x"}} {
			nc, err := nats.Connect(c.server.address.NATSURL, nats.UserInfo(credentials[0], credentials[1]), nats.Name(token), nats.NoReconnect())
			if err == nil {
				nc.Close()
				c.Errorf("%s let somebody in", name)
			}
		}
		if nc, err := nats.Connect(c.server.address.NATSURL, nats.Token(token), nats.NoReconnect()); err == nil {
			nc.Close()
			c.Errorf("%s let somebody in as a NATS token", name)
		}
	}
	nc, err := nats.Connect(c.server.address.NATSURL, nats.UserInfo(user, c.operator), nats.CustomInboxPrefix("_INBOX_"+user), nats.NoReconnect(),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		c.Fatalf("the operator was not let in: %v", err)
	}
	defer nc.Close()
	c.readStream(nc)
	for name, token := range c.tokens {
		for _, subject := range []string{token, "keyledger.events." + token + ".key.x", "$JS.API.STREAM.INFO." + token, "$JS.API.CONSUMER.CREATE." + token} {
			if err := nc.Publish(subject, []byte(token)); err != nil {
				c.Fatalf("%s: %v", name, err)
			}
		}
		if _, err := nc.SubscribeSync(token); err != nil {
			c.Fatal(err)
		}
	}
	if err := nc.FlushTimeout(10 * time.Second); err != nil {
		c.Fatal(err)
	}
}

// readStream takes all messages of the log, and holds them against the log's export.
func (c *canaries) readStream(nc *nats.Conn) {
	c.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		c.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(c.Context(), 30*time.Second)
	defer cancel()
	stream, err := js.Stream(ctx, eventstore.StreamName)
	if err != nil {
		c.Fatal(err)
	}
	var exported []json.RawMessage
	lines := bufio.NewScanner(bytes.NewReader(c.ask("events", request{method: "GET", path: "/v1/events", plus: http.Header{"Accept": {"application/x-ndjson"}}})))
	c.last().raw = true
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var record client.EventRecord
		if err := json.Unmarshal(lines.Bytes(), &record); err != nil {
			c.Fatal(err)
		}
		exported = append(exported, record.Event)
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		c.Fatal(err)
	}
	for len(c.events) < len(exported) {
		message, err := consumer.Next(jetstream.FetchContext(ctx))
		if err != nil {
			c.Fatalf("message %d of %d: %v", len(c.events)+1, len(exported), err)
		}
		if n := len(c.events); !bytes.Equal(message.Data(), exported[n]) {
			c.Fatalf("event %d is stored as %s, but exported as %s", n+1, message.Data(), exported[n])
		}
		c.events = append(c.events, message.Data())
		var header bytes.Buffer
		for name, values := range message.Headers() {
			fmt.Fprintln(&header, name, values)
		}
		c.answers = append(c.answers, seen{what: "a stored event", raw: true, text: slices.Concat([]byte(message.Subject()), header.Bytes(), message.Data())})
	}
}

// overTheCommandLine runs commands that print what the server says.
func (c *canaries) overTheCommandLine() {
	c.Helper()
	token := c.tokens["a key's token"]
	for _, output := range []string{"table", "json"} {
		for _, args := range [][]string{
			{"keys", "list"}, {"events", "replay"}, {"verify"}, {"doctor"}, {"keys", "show", "key_none"}, {"keys", "show", token}, {"verify", "--scopes", token},
		} {
			var out bytes.Buffer
			args = append(slices.Clone(args), "--data-dir", c.server.dataDir, "--output", output)
			run(c.Context(), args, strings.NewReader(token), &out, &out, func(string) string { return "" })
			if out.Len() == 0 {
				c.Errorf("%q printed nothing", args)
			}
			c.answers = append(c.answers, seen{what: fmt.Sprintf("keyledger %.20q", args), text: out.Bytes(), raw: args[0] == "events" || args[0] == "doctor"}) // doctor names the pepper that is in use
		}
	}
}

// watch reads everything that the server shows without being told anything.
func (c *canaries) watch() {
	c.Helper()
	for _, path := range []string{"/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/v1/scopes", "/v1/keys?page_size=1000", "/v1/management-keys?page_size=1000"} {
		c.ask(path, request{method: "GET", path: path})
	}
	var page client.KeyPage
	if err := json.Unmarshal(c.ask("list", request{method: "GET", path: "/v1/keys?page_size=20"}), &page); err != nil || len(page.Keys) == 0 {
		c.Fatalf("list: %v", err)
	}
	for _, key := range page.Keys {
		c.ask("get", request{method: "GET", path: "/v1/keys/" + key.ID})
		c.ask("history", request{method: "GET", path: "/v1/keys/" + key.ID + "/events"})
		c.last().raw = true
	}
}

// thePepper is what the needle of the pepper's id is of.
const thePepper = "the pepper"

// macs returns the needles of what only events may hold: macs, and the id of the pepper.
func (c *canaries) macs() []needle {
	c.Helper()
	var out []needle
	peppers := map[string]bool{}
	for n, event := range c.events {
		var stored struct {
			Data struct {
				Mac      string `json:"mac"`
				PepperID string `json:"pepper_id"`
			} `json:"data"`
		}
		if err := json.Unmarshal(event, &stored); err != nil {
			c.Fatal(err)
		}
		if stored.Data.Mac == "" {
			continue
		}
		mac, err := hex.DecodeString(stored.Data.Mac)
		if err != nil {
			c.Fatal(err)
		}
		out = append(out, hashNeedles(fmt.Sprintf("the mac of event %d", n+1), "the mac", mac)...)
		peppers[stored.Data.PepperID] = true
	}
	if len(out) == 0 || len(peppers) != 1 {
		c.Fatalf("%d macs and peppers %v in %d events", len(out), peppers, len(c.events))
	}
	for id := range peppers {
		out = append(out, needle{thePepper, "the id", []byte(id)})
	}
	return out
}

// secrets returns the needles of all tokens, and of what the keyring holds.
func (c *canaries) secrets() []needle {
	c.Helper()
	var out []needle
	for name, token := range c.tokens {
		out = append(out, needlesOf(name, token)...)
	}
	var keyring struct {
		Peppers []struct {
			Key []byte `json:"key"`
		} `json:"peppers"`
		IDSecret []byte `json:"id_secret"`
	}
	text, err := os.ReadFile(filepath.Join(c.server.dataDir, keyringFile))
	if err == nil {
		err = json.Unmarshal(text, &keyring)
	}
	if err != nil || len(keyring.Peppers) == 0 || len(keyring.IDSecret) == 0 {
		c.Fatalf("the keyring: %v, %d peppers", err, len(keyring.Peppers))
	}
	out = append(out, hashNeedles(keyringFile, "the id secret", keyring.IDSecret)...)
	for _, pepper := range keyring.Peppers {
		out = append(out, hashNeedles(keyringFile, "a pepper", pepper.Key)...)
	}
	return out
}

// scanFiles scans the data dir. Tokens may be nowhere but the operator's in its
// file, the keyring's secrets in the keyring, and macs in the log.
func (c *canaries) scanFiles(when string, macs []needle) {
	c.Helper()
	inLog := jetstreamDir + string(filepath.Separator)
	theMacs := map[string]bool{}
	for _, n := range macs {
		theMacs[n.secret] = true
	}
	s := newScanner(c.secrets(), macs)
	found, files := s.scanDir(c.T, c.server.dataDir, func(file string, n needle) bool {
		switch {
		case file == operatorTokenFile:
			return n.secret == "operator"
		case file == keyringFile:
			return n.secret == keyringFile || n.secret == thePepper
		default:
			return strings.HasPrefix(file, inLog) && theMacs[n.secret]
		}
	})
	for _, what := range found {
		c.Errorf("%s, in the data dir: %s", when, what)
	}
	// The scan must be of the right directory: what may be there must be found.
	everything, _ := s.scanDir(c.T, c.server.dataDir, nil)
	for _, sure := range []string{operatorTokenFile + ": ", keyringFile + ": ", inLog} {
		if !slices.ContainsFunc(everything, func(s string) bool { return strings.HasPrefix(s, sure) }) {
			c.Errorf("%s, the scan of %d files did not find what is in %s", when, files, sure)
		}
	}
}

// scanAnswers scans everything that came out over the network.
func (c *canaries) scanAnswers(macs []needle) {
	c.Helper()
	secrets, all := newScanner(c.secrets()), newScanner(c.secrets(), macs)
	for _, answer := range c.answers {
		s := all
		if answer.raw {
			s = secrets
		} else if bytes.Contains(answer.text, []byte(`"mac"`)) || bytes.Contains(answer.text, []byte(`"pepper_id"`)) {
			c.Errorf("the answer to %q has a member mac or pepper_id", answer.what)
		}
		for _, what := range s.scan(answer.text, func(n needle) bool { return answer.shows != "" && n.secret == answer.shows }) {
			c.Errorf("the answer to %q holds %s", answer.what, what)
		}
		if answer.shows != "" && len(secrets.scan(answer.text, nil)) == 0 {
			c.Errorf("the answer to %q does not show its token: the scan does not work", answer.what)
		}
	}
	c.Logf("%d canaries in %d answers", len(c.tokens), len(c.answers))
}

// scanLog scans what the server wrote about itself. At its first start it printed
// the operator's token, once, for the person who started it.
func (c *canaries) scanLog(macs []needle) {
	c.Helper()
	text, err := os.ReadFile(c.server.log)
	if err != nil {
		c.Fatal(err)
	}
	if n := bytes.Count(text, []byte(c.operator)); n != 1 {
		c.Errorf("the operator's token was printed %d times", n)
	}
	text = bytes.Replace(text, []byte(c.operator), nil, 1)
	for _, what := range newScanner(c.secrets(), macs).scan(text, nil) {
		c.Errorf("the log holds %s: %s", what, lineAround(text, what))
	}
	if !bytes.Contains(text, []byte("level=DEBUG")) || !bytes.Contains(text, []byte("msg=request")) {
		c.Error("the log lacks lines that should be there")
	}
}

// lineAround returns the line of a log in which something was found.
func lineAround(log []byte, found string) string {
	var at int
	if _, err := fmt.Sscanf(found[strings.LastIndex(found, " ")+1:], "%d", &at); err != nil {
		return err.Error()
	}
	from, to := bytes.LastIndexByte(log[:at], '\n')+1, bytes.IndexByte(log[at:], '\n')
	return string(log[from : at+max(0, to)])
}
