package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
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
	maps.Copy(req.Header, r.plus)
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
