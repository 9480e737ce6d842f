package server_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/server/servertest"
)

const goodKey = `{"name":"n","environment":"live","scopes":["invoices:read"]}`

// TestBadBodies sends what POST /v1/keys must refuse. Nothing may be appended, and
// nothing that was sent may come back, apart from the place of the mistake.
func TestBadBodies(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	head, err := s.Log.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wide := strings.Repeat("w", 500)
	var metadata []string
	for i := range 16 {
		metadata = append(metadata, fmt.Sprintf(`"%s%02d":"%s"`, strings.Repeat("k", 38), i, strings.Repeat(`\u00fc`, 500)))
	}
	tests := []struct {
		name    string
		body    string
		status  int
		code    string
		pointer string // of the first error
	}{
		{"empty", "", 400, "body_missing", ""},
		{"not JSON", "{", 400, "malformed_json", ""},
		{"not an object", `[]`, 400, "validation_failed", ""},
		{"null", `null`, 400, "validation_failed", ""},
		{"text behind", goodKey + "x", 400, "malformed_json", ""},
		{"two values", goodKey + goodKey, 400, "malformed_json", ""},
		{"not UTF-8", "{\"name\":\"\xff\"}", 400, "malformed_json", ""},
		{"half a surrogate", `{"name":"\ud800"}`, 400, "malformed_json", ""},
		{"unknown member", `{"name":"n","environment":"live","scope":["invoices:read"]}`, 400, "unknown_member", "/scope"},
		{"another case", `{"Name":"n","environment":"live","scopes":["invoices:read"]}`, 400, "unknown_member", "/Name"},
		{"duplicate", `{"name":"n","name":"m","environment":"live","scopes":["invoices:read"]}`, 400, "duplicate_member", "/name"},
		{"duplicate in metadata", `{"metadata":{"a":"1","a":"2"}}`, 400, "duplicate_member", "/metadata/a"},
		{"null member", `{"name":null,"environment":"live","scopes":["invoices:read"]}`, 400, "validation_failed", "/name"},
		{"null in a list", `{"name":"n","environment":"live","scopes":[null]}`, 400, "validation_failed", "/scopes/0"},
		{"null expiry at creation", `{"name":"n","environment":"live","scopes":["invoices:read"],"expires_at":null}`, 400, "validation_failed", "/expires_at"},
		{"number for text", `{"name":1,"environment":"live","scopes":["invoices:read"]}`, 400, "validation_failed", "/name"},
		{"text for a list", `{"name":"n","environment":"live","scopes":"invoices:read"}`, 400, "validation_failed", "/scopes"},
		{"too deep", strings.Repeat(`[`, 33) + strings.Repeat(`]`, 33), 400, "json_too_deep", ""},
		{"far too deep", strings.Repeat(`[`, 30_000), 400, "json_too_deep", ""},
		{"65 KiB", `{"name":"` + strings.Repeat("n", 65<<10) + `"}`, 413, "body_too_large", ""},
		{"no name", `{"environment":"live","scopes":["invoices:read"]}`, 400, "validation_failed", "/name"},
		{"long name", `{"name":"` + strings.Repeat("n", 101) + `","environment":"live","scopes":["invoices:read"]}`, 400, "validation_failed", "/name"},
		{"long description", `{"description":"` + wide + `x","name":"n","environment":"live","scopes":["invoices:read"]}`, 400, "validation_failed", "/description"},
		{"no environment", `{"name":"n","scopes":["invoices:read"]}`, 400, "validation_failed", "/environment"},
		{"other environment", `{"name":"n","environment":"Live","scopes":["invoices:read"]}`, 400, "validation_failed", "/environment"},
		{"no scopes", `{"name":"n","environment":"live"}`, 400, "validation_failed", "/scopes"},
		{"unknown scope", `{"name":"n","environment":"live","scopes":["invoices:read","invoices:delete"]}`, 400, "unknown_scope", "/scopes/1"},
		{"management scope", `{"name":"n","environment":"live","scopes":["keyledger.operate"]}`, 400, "unknown_scope", "/scopes/0"},
		{"scopes and full access", `{"name":"n","environment":"live","scopes":["invoices:read"],"full_access":true}`, 400, "validation_failed", "/scopes"},
		{"past expiry", `{"name":"n","environment":"live","scopes":["invoices:read"],"expires_at":"2020-01-01T00:00:00Z"}`, 400, "expiry_in_past", "/expires_at"},
		{"past day", `{"name":"n","environment":"live","scopes":["invoices:read"],"expires_on":"2020-01-01"}`, 400, "expiry_in_past", "/expires_at"},
		{"no day", `{"name":"n","environment":"live","scopes":["invoices:read"],"expires_on":"2099-02-30"}`, 400, "validation_failed", "/expires_on"},
		{"no instant", `{"name":"n","environment":"live","scopes":["invoices:read"],"expires_at":"2099-02-30"}`, 400, "validation_failed", "/expires_at"},
		{"both expiries", `{"name":"n","environment":"live","scopes":["invoices:read"],"expires_on":"2099-01-01","expires_at":"2099-01-01T00:00:00Z"}`, 400, "validation_failed", "/expires_on"},
		{"no address range", `{"name":"n","environment":"live","scopes":["invoices:read"],"allowed_ips":["10.0.0.0/8","ten"]}`, 400, "validation_failed", "/allowed_ips/1"},
		{"17 metadata", `{"name":"n","environment":"live","scopes":["invoices:read"],"metadata":{` + manyMetadata(17) + `}}`, 400, "validation_failed", "/metadata"},
		{"bad account", `{"name":"n","environment":"live","scopes":["invoices:read"],"account":"a.b"}`, 400, "invalid_account", "/account"},
		{"reserved account", `{"name":"n","environment":"live","scopes":["invoices:read"],"account":"_mine"}`, 400, "invalid_account", "/account"},
		{"bad token hash", `{"name":"n","environment":"live","scopes":["invoices:read"],"token_sha256":"abc"}`, 400, "validation_failed", "/token_sha256"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := mustProblem(t, s.Do(t, servertest.Request{Path: "/v1/keys", Token: s.Operator, Body: tt.body}), tt.status, tt.code)
			if tt.pointer != "" && (len(p.Errors) == 0 || p.Errors[0].Pointer != tt.pointer) {
				t.Errorf("errors %+v, want one at %s", p.Errors, tt.pointer)
			}
			if strings.Contains(mustJSON(t, p), "wwww") {
				t.Error("the answer repeats what was sent")
			}
		})
	}
	t.Run("an event over 32 KiB", func(t *testing.T) {
		// Within every limit of its own, and large as JSON: ü is two bytes in the
		// event, and six in this request.
		body := `{"name":"n","environment":"live","scopes":["invoices:read"],"description":"` + strings.Repeat(`\u00fc`, 500) + `","metadata":{` + strings.Join(metadata, ",") + `}}`
		a := s.Do(t, servertest.Request{Path: "/v1/keys", Token: s.Operator, Body: body})
		t.Logf("%d bytes were answered with %d", len(body), a.Status)
		astral := strings.ReplaceAll(body, `\u00fc`, "\U0001F511") // four bytes each
		if len(astral) > 64<<10 {
			t.Fatalf("the body has %d bytes: it would be refused for its own size", len(astral))
		}
		mustProblem(t, s.Do(t, servertest.Request{Path: "/v1/keys", Token: s.Operator, Body: astral}), 413, "event_too_large")
	})
	after, err := s.Log.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if after > head+1 { // the one large key that fits
		t.Errorf("the log grew from %d to %d", head, after)
	}
}

func manyMetadata(n int) string {
	entries := make([]string, n)
	for i := range entries {
		entries[i] = fmt.Sprintf(`"k%d":"v"`, i)
	}
	return strings.Join(entries, ",")
}

func TestBadHeaders(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	k := s.MustCreateKey(t, client.CreateKeyRequest{}).Key
	tests := []struct {
		name   string
		method string
		path   string
		header map[string]string
		status int
		code   string
	}{
		{"no media type", "POST", "/v1/keys", map[string]string{"Content-Type": ""}, 415, "unsupported_media_type"},
		{"another media type", "POST", "/v1/keys", map[string]string{"Content-Type": "text/plain"}, 415, "unsupported_media_type"},
		{"another charset", "POST", "/v1/keys", map[string]string{"Content-Type": "application/json; charset=latin1"}, 415, "unsupported_media_type"},
		{"mangled media type", "POST", "/v1/keys", map[string]string{"Content-Type": "application/json;;"}, 415, "unsupported_media_type"},
		{"encoded", "POST", "/v1/keys", map[string]string{"Content-Encoding": "gzip"}, 415, "unsupported_encoding"},
		{"long idempotency key", "POST", "/v1/keys", map[string]string{"Idempotency-Key": strings.Repeat("i", 256)}, 400, "invalid_idempotency_key"},
		{"idempotency key with a space", "POST", "/v1/keys", map[string]string{"Idempotency-Key": "a b"}, 400, "invalid_idempotency_key"},
		{"idempotency key with ü", "POST", "/v1/keys", map[string]string{"Idempotency-Key": "\u00fc"}, 400, "invalid_idempotency_key"},
		{"idempotency key that is a token", "POST", "/v1/keys", map[string]string{"Idempotency-Key": s.Operator}, 400, "invalid_idempotency_key"},
		{"bare If-Match", "PATCH", "/v1/keys/" + k.ID, map[string]string{"If-Match": "1"}, 400, "invalid_if_match"},
		{"two versions", "PATCH", "/v1/keys/" + k.ID, map[string]string{"If-Match": `"1", "2"`}, 400, "invalid_if_match"},
		{"an older version", "PATCH", "/v1/keys/" + k.ID, map[string]string{"If-Match": `"1"`}, 412, "version_mismatch"},
		{"a foreign tag", "PATCH", "/v1/keys/" + k.ID, map[string]string{"If-Match": `"abc"`}, 412, "version_mismatch"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body := goodKey
			if tt.method == "PATCH" {
				body = `{"name":"m"}`
			}
			a := s.Do(t, servertest.Request{Method: tt.method, Path: tt.path, Token: s.Operator, Body: body, Header: tt.header})
			mustProblem(t, a, tt.status, tt.code)
		})
	}
	for _, charset := range []string{"application/json; charset=utf-8", "Application/JSON;charset=UTF-8"} {
		s.MustDo(t, 201, servertest.Request{Path: "/v1/keys", Token: s.Operator, Body: goodKey, Header: map[string]string{"Content-Type": charset}}, nil)
	}
	t.Run("the same header twice", func(t *testing.T) {
		for _, name := range []string{"Idempotency-Key", "If-Match"} {
			req := s.NewRequest(t, t.Context(), servertest.Request{Method: "PATCH", Path: "/v1/keys/" + k.ID, Token: s.Operator, Body: `{"name":"m"}`})
			req.Header[name] = []string{`"1"`, `"2"`}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusBadRequest {
				t.Errorf("%s twice: status %d", name, resp.StatusCode)
			}
		}
	})
}

// TestTwoMediaTypes declares a body twice, on a route behind huma and on a plain one.
func TestTwoMediaTypes(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	for path, body := range map[string]string{"/v1/keys": goodKey, "/v1/verify": `{"key":"x"}`} {
		conn := mustDial(t, s)
		_, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s",
			path, s.Operator, len(body), body)
		if err != nil {
			t.Fatal(err)
		}
		mustProblem(t, mustAnswer(t, conn), 415, "unsupported_media_type")
	}
}

// TestBadIDs sends ids as they are, byte for byte, which http.Client would not.
func TestBadIDs(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	k := s.MustCreateKey(t, client.CreateKeyRequest{}).Key
	tests := []struct {
		id     string
		status int
		code   string
	}{
		{"*", 400, "invalid_id"},
		{">", 400, "invalid_id"},
		{".", 400, "invalid_id"},
		{"..", 400, "invalid_id"},
		{"key_a.b", 400, "invalid_id"},
		{"key_*", 400, "invalid_id"},
		{"%2A", 400, "invalid_id"},
		{"%3E", 400, "invalid_id"},
		{"%2e%2e", 400, "invalid_id"},
		{"key%20x", 400, "invalid_id"},
		{"key%00", 400, "invalid_id"},
		{"key%0d%0ax", 400, "invalid_id"},
		{"key_%C3%BC", 400, "invalid_id"},
		{"key_\u00fc", 400, "invalid_id"},
		{"%6bey_" + strings.TrimPrefix(k.ID, "key_"), 400, "invalid_id"}, // the right id, encoded
		{"", 400, "invalid_id"},
		{strings.Repeat("k", 65), 400, "invalid_id"},
		{strings.Repeat("k", 64), 404, "key_not_found"},
		{"key_AAAAAAAAAAAAAAAA", 404, "key_not_found"},
	}
	routes := []struct{ method, before, after string }{
		{"GET", "/v1/keys/", ""}, {"PATCH", "/v1/keys/", ""}, {"POST", "/v1/keys/", "/revoke"}, {"POST", "/v1/keys/", "/rotate"},
		{"GET", "/v1/keys/", "/events"}, {"GET", "/v1/management-keys/", ""}, {"POST", "/v1/management-keys/", "/revoke"},
	}
	for _, route := range routes {
		for _, tt := range tests {
			if tt.id == "" && route.after == "" {
				continue // the path of the collection, with a slash
			}
			t.Run(fmt.Sprintf("%s %s%q%s", route.method, route.before, tt.id, route.after), func(t *testing.T) {
				mustProblem(t, mustRaw(t, s, route.method, route.before+tt.id+route.after), tt.status, tt.code)
			})
		}
	}
	for _, id := range []string{"key x", "key\tx"} { // these break the request line itself
		if a := mustRaw(t, s, "GET", "/v1/keys/"+id); a.Status != 400 {
			t.Errorf("%q: status %d", id, a.Status)
		}
	}
}

// mustRaw sends a path as it is, with an empty JSON object as the body.
func mustRaw(t *testing.T, s *servertest.Stack, method, path string) servertest.Answer {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // a test's
	_, err = fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
		method, path, s.Operator)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // a test's
	a := servertest.Answer{Status: resp.StatusCode, Header: resp.Header, Body: make([]byte, 0, 1024)}
	for {
		var buf [1024]byte
		n, err := resp.Body.Read(buf[:])
		a.Body = append(a.Body, buf[:n]...)
		if err != nil {
			return a
		}
	}
}

func TestBadPathsAndQueries(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	tests := []struct {
		method string
		path   string
		status int
		code   string
	}{
		{"GET", "/nothing", 404, "route_not_found"},
		{"GET", "/v1/nothing", 404, "route_not_found"},
		{"GET", "/v1/keys/", 404, "route_not_found"},
		{"GET", "/v1", 404, "route_not_found"},
		{"GET", "/a/../v1/keys", 404, "route_not_found"},
		{"GET", "//v1/keys", 404, "route_not_found"},
		{"DELETE", "/v1/keys", 405, "method_not_allowed"},
		{"PUT", "/v1/keys/key_x", 405, "method_not_allowed"},
		{"GET", "/v1/verify", 405, "method_not_allowed"},
		{"POST", "/healthz", 405, "method_not_allowed"},
		{"GET", "/v1/keys?statu=active", 400, "unknown_parameter"},
		{"GET", "/v1/keys?status=active&status=revoked", 400, "repeated_parameter"},
		{"GET", "/v1/keys?status=%zz", 400, "invalid_query"},
		{"GET", "/v1/keys?status=gone", 400, "validation_failed"},
		{"GET", "/v1/keys?environment=prod", 400, "validation_failed"},
		{"GET", "/v1/keys?page_size=many", 400, "validation_failed"},
		{"GET", "/v1/keys?page_size=-1", 400, "validation_failed"},
		{"GET", "/v1/keys?page_token=abc", 400, "invalid_page_token"},
		{"GET", "/v1/keys?min_seq=x", 400, "validation_failed"},
		{"GET", "/v1/keys?expiring_before=tomorrow", 400, "validation_failed"},
		{"GET", "/v1/keys?expiring_before=0000-01-01T00:00:00Z", 400, "validation_failed"},
		{"GET", "/v1/keys?expiring_before=1970-01-01T00:00:00%2B00:01", 400, "validation_failed"},
		{"GET", "/v1/keys?min_seq=9223372036854775808", 400, "validation_failed"},
		{"GET", "/v1/keys?account=a.b", 400, "invalid_account"},
		{"GET", "/v1/events?type=key.gone", 400, "validation_failed"},
		{"GET", "/v1/events?from_seq=-1", 400, "validation_failed"},
		{"GET", "/v1/events?from_time=today", 400, "validation_failed"},
		{"GET", "/v1/events?from_time=0000-01-01T00:00:00Z", 400, "validation_failed"},
		{"GET", "/v1/events?from_time=1969-12-31T23:59:59Z", 400, "validation_failed"},
		{"GET", "/v1/events?from_seq=18446744073709551615", 400, "validation_failed"},
		{"GET", "/v1/events?page_token=c2VxOjA5", 400, "invalid_page_token"},
		{"GET", "/v1/keys?access_token=x", 400, "credential_in_query"},
		{"GET", "/v1/keys?KEY=x", 400, "credential_in_query"},
		{"GET", "/v1/keys?q=" + s.Operator, 400, "credential_in_query"},
		{"GET", "/healthz?" + s.Operator, 400, "credential_in_query"},
		{"POST", "/v1/verify?scope=a", 400, "unknown_parameter"},
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+strings.ReplaceAll(tt.path, s.Operator, "TOKEN"), func(t *testing.T) {
			a := mustRaw(t, s, tt.method, tt.path)
			p := mustProblem(t, a, tt.status, tt.code)
			if tt.status == 405 && a.Header.Get("Allow") == "" {
				t.Error("no Allow header")
			}
			if strings.Contains(mustJSON(t, p), s.Operator[20:]) {
				t.Error("the answer repeats the token")
			}
			if strings.HasPrefix(tt.path, "/v1/keys?") && tt.code == "validation_failed" && (len(p.Errors) != 1 || p.Errors[0].Parameter == "" || p.Errors[0].Pointer != "") {
				t.Errorf("errors %+v do not name the parameter", p.Errors)
			}
		})
	}
}
