package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

// TestCanary makes tokens of every kind, uses them rightly and in every wrong place
// that came to mind, and then looks for them in everything that the server left:
// answers, logs, metrics, stored events, and every byte of its data dir. A token
// may be in the one answer that shows it, and the operator's in its file and in
// what the first start prints.
func TestCanary(t *testing.T) {
	program, dataDir := mustBuild(t), filepath.Join(t.TempDir(), "data")
	p := mustServe(t, program, dataDir, withFlags("--log-level", "debug"))
	c := &canaries{T: t, server: p, operator: p.operator(), tokens: map[string]string{}}
	c.tokens["operator"] = c.operator
	c.hatch()
	c.useRightly()
	for name, token := range c.tokens {
		c.useWrongly(name, token)
	}
	c.overNATS()
	c.overTheCommandLine()
	c.watch()

	macs := c.macs()
	c.scanFiles("while it runs", macs)
	p.stop()
	c.scanFiles("after a stop", macs)
	c.scanAnswers(macs)
	c.scanLog(macs)
}

// canaries are tokens that must not get out, and what was seen of the server.
type canaries struct {
	*testing.T
	server   *process
	operator string
	tokens   map[string]string // by what they are
	answers  []seen
	events   [][]byte // as stored, read with NATS's own client
}

// seen is something that came out of the server.
type seen struct {
	what  string
	text  []byte
	shows string // the token that it is meant to show
	raw   bool   // it is an event as it is stored, which holds the mac and the pepper's id
}

func mustToken(t *testing.T) string {
	t.Helper()
	id, err := domain.RandomBase62(rand.Reader, 16)
	if err != nil {
		t.Fatal(err)
	}
	token, err := domain.TokenFormat{}.NewToken(domain.KeyTypeAPI, domain.EnvironmentTest, domain.NewKeyID(id), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return token.Reveal()
}

// request is one HTTP request, written down.
type request struct {
	method, path string
	body         string
	header       http.Header // instead of the operator's credential
	plus         http.Header // beside it
}

// ask sends a request, keeps the whole answer, and returns its body.
func (c *canaries) ask(what string, r request) []byte {
	c.Helper()
	var reader io.Reader
	if r.body != "" {
		reader = strings.NewReader(r.body)
	}
	address, err := url.Parse(c.server.address.URL)
	if err != nil {
		c.Fatal(err)
	}
	req, err := http.NewRequestWithContext(c.Context(), r.method, address.String(), reader)
	if err != nil {
		c.Fatal(err)
	}
	req.URL.Opaque = "//" + address.Host + r.path // as it is, nothing escaped
	req.Header = http.Header{"Authorization": {"Bearer " + c.operator}}
	if r.header != nil {
		req.Header = r.header.Clone()
	}
	if r.body != "" && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, values := range r.plus {
		req.Header[name] = values
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		c.Fatalf("%s: %v\n%s", what, err, c.server.tail())
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.Fatalf("%s: %v", what, err)
	}
	var head bytes.Buffer
	fmt.Fprintln(&head, resp.Status)
	_ = resp.Header.Write(&head) // a buffer takes everything
	c.answers = append(c.answers, seen{what: what, text: append(head.Bytes(), body...)})
	return body
}

// last is the answer to the latest request.
func (c *canaries) last() *seen { return &c.answers[len(c.answers)-1] }

// made reads the answer that shows a token, and keeps the token as a canary.
func (c *canaries) made(name string, body []byte) string {
	c.Helper()
	var out client.KeyResult
	if err := json.Unmarshal(body, &out); err != nil || out.Key.ID == "" {
		c.Fatalf("%s: %v in %.300s", name, err, c.last().text)
	}
	if out.Token != "" {
		c.tokens[name] = out.Token
		c.last().shows = name
	}
	return out.Key.ID
}

// hatch makes the tokens.
func (c *canaries) hatch() {
	c.Helper()
	create := func(more string) request {
		return request{method: "POST", path: "/v1/keys", body: `{"name":"canary","environment":"live","full_access":true` + more + `}`}
	}
	c.made("a key's token", c.ask("create", create("")))
	id := c.made("a rotated key's token", c.ask("create for rotation", create("")))
	c.made("a successor's token", c.ask("rotate", request{method: "POST", path: "/v1/keys/" + id + "/rotate", body: `{"overlap":"1h"}`}))
	id = c.made("a revoked key's token", c.ask("create for revocation", create("")))
	c.ask("revoke", request{method: "POST", path: "/v1/keys/" + id + "/revoke", body: `{"reason":"canary"}`})
	c.made("an expiring key's token", c.ask("create with expiry", create(`,"expires_on":"2999-01-01","allowed_ips":["10.0.0.0/8"]`)))

	own := mustToken(c.T)
	sum := sha256.Sum256([]byte(own))
	c.tokens["a client's own token"] = own
	c.made("", c.ask("create by hash", create(`,"token_sha256":"`+hex.EncodeToString(sum[:])+`"`)))
	c.made("a management key's token", c.ask("create a management key", request{method: "POST", path: "/v1/management-keys",
		body: `{"name":"canary","account":"acme","scopes":["keyledger.keys:read","keyledger.verify"]}`}))
	// What nobody ever made known to the server is a secret too: somebody else's.
	c.tokens["a stranger's token"] = mustToken(c.T)
	if len(c.tokens) != 9 {
		c.Fatalf("%d canaries", len(c.tokens))
	}
}

// useRightly verifies every token in ways that lead to every code.
func (c *canaries) useRightly() {
	c.Helper()
	codes := map[string]bool{}
	for name, token := range c.tokens {
		for _, more := range []string{
			"", `,"environment":"test"`, `,"account":"elsewhere"`, `,"ip":"192.0.2.1"`, `,"scopes":["invoices:read","payouts:write"]`,
			`,"scopes":["no:such"]`, `,"ip":"nowhere"`, `,"unknown":1`,
		} {
			body := c.ask("verify "+name+more, request{method: "POST", path: "/v1/verify", body: `{"key":"` + token + `"` + more + `}`})
			var out client.VerifyResult
			if json.Unmarshal(body, &out) == nil {
				codes[out.Code] = true
			}
		}
		for _, key := range []string{"", token + "x", token[:len(token)-1], strings.ToUpper(token), " " + token, token + `\n`} {
			var out client.VerifyResult
			if json.Unmarshal(c.ask("verify "+name+", mangled", request{method: "POST", path: "/v1/verify", body: `{"key":"` + key + `"}`}), &out) == nil {
				codes[out.Code] = true
			}
		}
	}
	for _, code := range []string{"VALID", "MISSING", "MALFORMED", "UNKNOWN", "REVOKED", "WRONG_ENVIRONMENT", "RESOURCE_NOT_ACCESSIBLE", "IP_NOT_ALLOWED"} {
		if !codes[code] {
			c.Errorf("no verification led to %s", code)
		}
	}
}

// useWrongly sends a token where it does not belong.
func (c *canaries) useWrongly(name, token string) {
	c.Helper()
	create := func(member string) string {
		return `{"name":"n","environment":"live","full_access":true,` + member + `}`
	}
	id := c.made("", c.ask("create by hash again", request{method: "POST", path: "/v1/keys", body: create(`"token_sha256":"` + hex.EncodeToString([]byte(rand.Text() + rand.Text())[:32]) + `"`)}))
	basic := base64.StdEncoding.EncodeToString([]byte("user:" + token))
	quoted := `"` + token + `"`
	bodies := []string{
		create(`"description":` + quoted), create(`"description":"see ` + token + ` there"`), create(`"metadata":{"k":` + quoted + `}`),
		create(`"metadata":{` + quoted + `:"v"}`), create(`"allowed_ips":[` + quoted + `]`), create(`"scopes":[` + quoted + `]`),
		create(`"account":` + quoted), create(`"expires_on":` + quoted), create(`"expires_at":` + quoted), create(`"token_sha256":` + quoted),
		create(quoted + `:1`), create(`"name":` + quoted), `{"name":` + quoted + `,"environment":` + quoted + `}`,
		`{"name":` + quoted, quoted, token, `[` + quoted + `]`, `{"name":"` + token + "\x01\"}", `{"name":["` + token + `"]}`,
		create(`"description":"` + strings.Repeat(token+" ", 2000) + `"`),
	}
	for _, body := range bodies {
		c.ask(name+" in a body", request{method: "POST", path: "/v1/keys", body: body})
		c.ask(name+" in an update", request{method: "PATCH", path: "/v1/keys/" + id, body: strings.Replace(body, `"environment":"live","full_access":true,`, "", 1)})
		c.ask(name+" in a management key", request{method: "POST", path: "/v1/management-keys", body: strings.Replace(body, `"environment":"live","full_access":true`, `"scopes":["keyledger.verify"]`, 1)})
		c.ask(name+" in a verification", request{method: "POST", path: "/v1/verify", body: body})
	}
	c.ask(name+" as reason", request{method: "POST", path: "/v1/keys/" + id + "/revoke", body: `{"reason":` + quoted + `}`})
	c.ask(name+" as overlap", request{method: "POST", path: "/v1/keys/" + id + "/rotate", body: `{"overlap":` + quoted + `}`})
	c.ask(name+" in what is verified", request{method: "POST", path: "/v1/verify", body: `{"key":"k","scopes":[` + quoted + `],"ip":` + quoted + `,"account":` + quoted + `}`})
	for _, header := range []string{
		"Idempotency-Key", "X-Request-Id", "If-Match", "Traceparent", "Tracestate", "User-Agent", "Referer", "Origin", "Cookie", "Accept",
		"Content-Type", "X-Forwarded-For", "X-Api-Key", "Last-Event-Id", "Accept-Language", token,
	} {
		c.forgetToken(c.ask(name+" in header "+header, request{method: "POST", path: "/v1/keys", body: create(`"description":"d"`), plus: http.Header{header: {token}}}))
		c.ask(name+" in header "+header+" of a read", request{method: "GET", path: "/v1/events?from_seq=1", plus: http.Header{header: {token}}})
		c.last().raw = true
	}
	for _, credential := range []string{
		"Basic " + basic, "Token " + token, token, "Bearer", "Bearer " + token + "x", "Bearer " + token + " " + token, "bearer  " + token, "Bearer\t" + token,
		"Bearer " + token,
	} {
		c.ask(name+" as credential", request{method: "GET", path: "/v1/scopes", header: http.Header{"Authorization": {credential}}})
		c.ask(name+" as one of two", request{method: "GET", path: "/v1/scopes", header: http.Header{"Authorization": {"Bearer " + c.operator, credential}}})
	}
	for _, path := range []string{
		"/" + token, "/v1/" + token, "/v1/keys/" + token, "/v1/keys/" + token + "/events", "/v1/keys/" + id + "/" + token, "/v1/keys/" + percentEncoded(token),
		"/v1/management-keys/" + token, "/v1/keys/" + id + "/../" + token, "/docs/" + token, "/v1/keys/" + token + "/../x",
		"/v1/keys?q=" + token, "/v1/keys?q=a+" + token + "+b", "/v1/keys?account=" + token, "/v1/keys?page_token=" + token, "/v1/keys?scope=" + token,
		"/v1/keys?" + token + "=1", "/v1/keys?key=" + token, "/v1/keys?access_token=" + token, "/v1/keys?q=" + percentEncoded(token), "/v1/keys?%zz" + token,
		"/v1/events?type=" + token, "/v1/events?account=" + token, "/v1/events?from_time=" + token, "/metrics?x=" + token, "/healthz?" + token,
		"/v1/keys?expiring_before=" + token, "/v1/keys?min_seq=" + token, "/v1/keys/" + token + "/rotate",
	} {
		c.ask(name+" in a URL", request{method: "GET", path: path})
		c.ask(name+" in a URL, posted to", request{method: "POST", path: path, body: "{}"})
	}
	c.ask(name+" as method", request{method: token, path: "/v1/keys"})
	c.garbage(name, token)
}

// forgetToken takes the token of an answer that shows a new one, which is no canary.
func (c *canaries) forgetToken(body []byte) {
	var out client.KeyResult
	if json.Unmarshal(body, &out) == nil && out.Token != "" {
		c.last().text = bytes.ReplaceAll(c.last().text, []byte(out.Token), nil)
	}
}

// garbage sends a token in what is not even HTTP.
func (c *canaries) garbage(name, token string) {
	c.Helper()
	address := strings.TrimPrefix(c.server.address.URL, "http://")
	for _, text := range []string{
		token + "\r\n\r\n", "GET /" + token + "\r\n\r\n", "GET /" + token + " HTTP/9.9\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n" + token + "\r\n\r\n",
		"GET /v1/keys HTTP/1.1\r\nHost: " + token + "\r\nConnection: close\r\n\r\n", "POST /v1/keys HTTP/1.1\r\nHost: x\r\nContent-Length: " + token + "\r\n\r\n",
		"GET /\x00" + token + " HTTP/1.1\r\nHost: x\r\n\r\n", "GET /v1/keys HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: " + token + "\r\n\r\n",
		"GET /v1/keys HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat(token, 1000) + "\r\n\r\n",
	} {
		var dialer net.Dialer
		conn, err := dialer.DialContext(c.Context(), "tcp", address)
		if err != nil {
			c.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.WriteString(conn, text) // the server may hang up before it has read everything
		answer, _ := io.ReadAll(conn)
		_ = conn.Close()
		c.answers = append(c.answers, seen{what: name + " in garbage", text: answer})
	}
}

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
		out = append(out, needle{"the pepper", "the id", []byte(id)})
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
	secrets := c.secrets()
	allowed := func(file string, n needle) bool {
		return file == operatorTokenFile && n.secret == "operator" || file == keyringFile && n.secret == keyringFile
	}
	found, files := scanDir(c.T, c.server.dataDir, secrets, allowed)
	macsAllowed := func(file string, n needle) bool {
		return strings.HasPrefix(file, jetstreamDir+string(filepath.Separator)) || file == keyringFile && n.secret == "the pepper"
	}
	more, _ := scanDir(c.T, c.server.dataDir, macs, macsAllowed)
	for _, what := range append(found, more...) {
		c.Errorf("%s, in the data dir: %s", when, what)
	}
	// The scan must be of the right directory: what may be there must be found.
	everything, _ := scanDir(c.T, c.server.dataDir, append(secrets, macs...), func(string, needle) bool { return false })
	for _, sure := range []string{operatorTokenFile + ": ", keyringFile + ": ", jetstreamDir + string(filepath.Separator)} {
		if !slices.ContainsFunc(everything, func(s string) bool { return strings.HasPrefix(s, sure) }) {
			c.Errorf("%s, the scan of %d files did not find what is in %s", when, files, sure)
		}
	}
}

// scanAnswers scans everything that came out over the network.
func (c *canaries) scanAnswers(macs []needle) {
	c.Helper()
	secrets := c.secrets()
	for _, answer := range c.answers {
		found := scan(answer.text, slices.DeleteFunc(slices.Clone(secrets), func(n needle) bool { return answer.shows != "" && n.secret == answer.shows }))
		if !answer.raw {
			found = append(found, scan(answer.text, macs)...)
			if bytes.Contains(answer.text, []byte(`"mac"`)) || bytes.Contains(answer.text, []byte(`"pepper_id"`)) {
				found = append(found, "a member mac or pepper_id")
			}
		}
		for _, what := range found {
			c.Errorf("the answer to %q holds %s", answer.what, what)
		}
		if answer.shows != "" && len(scan(answer.text, needlesOf("", c.tokens[answer.shows]))) == 0 {
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
	for _, what := range scan(text, append(c.secrets(), macs...)) {
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
