package server

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/verify"
)

// The challenges of RFC 6750. A request without a credential is told no more than
// that one is needed.
const (
	challengeBearer  = `Bearer realm="keyledger"`
	challengeInvalid = challengeBearer + `, error="invalid_token"`
	challengeScope   = challengeBearer + `, error="insufficient_scope", scope="`
)

// admit says whether a request may go on to its handler: its query is one that the
// endpoint takes, its credential is good, and it holds the endpoint's scope.
func (s *Server) admit(x *exchange, r *http.Request, e *endpoint) error {
	var query url.Values
	if r.URL.RawQuery != "" {
		var err error
		if query, err = parseQuery(r.URL.RawQuery); err != nil {
			return err
		}
	}
	if !e.open {
		if err := s.authenticate(r.Context(), x, r.Header["Authorization"], e.scope); err != nil {
			return err
		}
	}
	if err := e.checkQuery(query); err != nil {
		return err
	}
	return e.checkHeaders(r.Header)
}

// authenticate finds out who asks. Customers' keys are unknown here, like any
// other string. A credential that was revoked here a moment ago must be known to be.
func (s *Server) authenticate(ctx context.Context, x *exchange, header []string, scope domain.Scope) error {
	token, err := bearer(header)
	if err != nil {
		return err
	}
	if err := s.awaitCredentials(ctx); err != nil {
		return err
	}
	authority, result := s.cfg.Verifier.Authenticate(token)
	if !result.Valid() {
		return notAuthenticated(result.Code)
	}
	x.authority, x.account = authority, authority.Account
	if scope == "" {
		return nil
	}
	if err := authority.May(scope); err != nil {
		return missingScope(scope)
	}
	return nil
}

// bearer reads the credential of an Authorization header (RFC 6750, 2.1). The
// scheme's case does not matter (RFC 9110, 11.1).
func bearer(header []string) (string, error) {
	switch len(header) {
	case 0:
		return "", notAuthenticated(verify.CodeMissing)
	case 1:
	default:
		return "", twoCredentials()
	}
	scheme, token, _ := strings.Cut(header[0], " ")
	token = strings.Trim(token, " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" || strings.ContainsAny(token, " ,\t") {
		return "", notAuthenticated(verify.CodeMalformed)
	}
	return token, nil
}

// notAuthenticated makes the refusal of a management key that the verifier did not
// accept. The product page's words fit it as they fit any key.
func notAuthenticated(code verify.Code) error {
	words := verify.Explain(code)
	if code == verify.CodeStale {
		return &refusal{
			err:        domain.NewError(domain.KindUnavailable, "verifier_not_ready", words.Cause, words.Solution),
			retryAfter: words.RetryAfter,
		}
	}
	if code == verify.CodeMissing {
		return &refusal{
			err:       domain.NewError(domain.KindUnauthenticated, "missing_credential", words.Cause, words.Solution),
			challenge: challengeBearer,
		}
	}
	return &refusal{
		err:       domain.NewError(domain.KindUnauthenticated, "invalid_token", words.Cause, words.Solution),
		challenge: challengeInvalid,
	}
}

func missingScope(scope domain.Scope) error {
	return &refusal{
		err: domain.NewError(domain.KindForbidden, domain.CodeMissingScope,
			"the management key lacks the scope "+string(scope), "use a management key that has it"),
		challenge: challengeScope + string(scope) + `"`,
	}
}

func twoCredentials() error {
	return domain.NewError(domain.KindInvalid, "two_credentials", "the request carries more than one credential",
		"send one Authorization header, and nothing else that holds a key")
}

// parseQuery reads a query strictly, and refuses one that carries a key: URLs end
// up in logs, histories and referrers.
func parseQuery(raw string) (url.Values, error) {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return nil, domain.NewError(domain.KindInvalid, "invalid_query", "the query is not well-formed", "percent-encode the values of the query")
	}
	for name, values := range query {
		suspect := strings.EqualFold(name, "access_token") || strings.EqualFold(name, "key") || domain.ContainsToken(name)
		for _, v := range values {
			suspect = suspect || domain.ContainsToken(v)
			if !utf8.ValidString(v) || strings.Contains(v, "\x00") { // no database takes it
				return nil, domain.NewError(domain.KindInvalid, "invalid_query", "the query holds what is not text", "send UTF-8 without the character 0")
			}
		}
		if suspect {
			return nil, domain.NewError(domain.KindInvalid, "credential_in_query", "the query carries a key, or has a parameter that could",
				"send keys in the Authorization header or the body, never in a URL; revoke a key that was sent like this")
		}
	}
	return query, nil
}

// checkHeaders refuses headers that a handler would otherwise read half of.
func (e *endpoint) checkHeaders(h http.Header) error {
	for _, name := range [...]string{"Idempotency-Key", "If-Match"} {
		if values, given := h[name]; given && (len(values) != 1 || values[0] == "") {
			code := "invalid_" + strings.ReplaceAll(strings.ToLower(name), "-", "_")
			return badParameter(code, name, "given empty or more than once", "send the header once, with a value")
		}
	}
	return nil
}
