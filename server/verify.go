package server

import (
	"net/http"
	"net/netip"

	"github.com/danielgtaylor/huma/v2"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/verify"
	"github.com/keyledger/keyledger/wire"
)

const pathVerify = "/v1/verify"

// maxRequired is how many scopes one verification may require: as many as a key can
// hold by name.
const maxRequired = 64

func (s *Server) verifyRoutes() {
	e := endpointOf(http.MethodPost, pathVerify, "verify-key", tagVerify, "Ask whether a key may pass", domain.ScopeVerify,
		"Answers 200 with a code, whatever the code is. A management key of one account knows the keys of no other: they are UNKNOWN.\n\n"+
			"With at, says whether the key would have passed at that instant of the past, and why not: it is judged as it was then, by today's catalogue of scopes. "+
			"A key that did not exist yet is UNKNOWN. This needs the scope keyledger.audit:read too, and the key can be named by key_id.").
		takes(func() any { return new(client.VerifyRequest) }, client.VerifyRequest{
			Key: "sk_live_4fJq0Zr8kLw2TnXb…", Scopes: []string{"invoices:read"}, Environment: "live",
		})
	e.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		client.MediaTypeJSON: {Schema: schemaOf[client.VerifyRequest](s), Example: e.example},
	}}
	e.example = nil
	e.Responses = map[string]*huma.Response{"200": {Description: "The verdict", Content: map[string]*huma.MediaType{
		client.MediaTypeJSON: {Schema: schemaOf[client.VerifyResult](s), Example: client.VerifyResult{
			Valid: true, Code: string(verify.CodeValid), KeyID: exampleID, Account: "default", Environment: "live",
			Scopes: []string{"invoices:read", "payouts:read"}, AsOfSeq: 42,
		}},
	}}}
	s.handlePlain(e, s.verify)
}

// scratch is the memory of one verification. It is pooled, and wiped of what was
// read before it goes back.
type scratch struct {
	body    []byte
	request client.VerifyRequest
	answer  []byte
	scopes  []domain.Scope
}

// verify answers POST /v1/verify. It is on the path of every request to our users'
// own APIs, so it does without huma, a context of its own, and reflection in the
// answer; TestVerifyAnswer holds the answer against the wire type.
func (s *Server) verify(x *exchange, r *http.Request) {
	mem, ok := s.scratches.Get().(*scratch)
	if !ok {
		mem = new(scratch)
	}
	defer func() {
		clear(mem.body)
		mem.request = client.VerifyRequest{}
		s.scratches.Put(mem)
	}()
	result, err := s.check(x, r, mem)
	if err != nil {
		s.refuse(x, r, err)
		return
	}
	x.code, x.keyID, x.seq = string(result.Code), result.KeyID, result.AsOfSeq
	mem.answer = s.answers.append(mem.answer[:0], result)
	x.Header()["Content-Type"] = contentJSON
	_, _ = x.Write(mem.answer) // the caller is gone if it fails
}

func (s *Server) check(x *exchange, r *http.Request, mem *scratch) (verify.Result, error) {
	var err error
	if mem.body, err = readBody(x, r, mem.body); err != nil {
		return verify.Result{}, err
	}
	request := &mem.request
	if err := wire.Decode(mem.body, request); err != nil {
		return verify.Result{}, err
	}
	requirement, err := s.requirement(x, request, mem)
	if err != nil {
		return verify.Result{}, err
	}
	if request.At != nil {
		bounded, cancel := s.withTimeout(x, r)
		defer cancel()
		return s.checkPast(bounded.Context(), x, request, requirement)
	}
	if request.KeyID != "" {
		return verify.Result{}, domain.Invalid(domain.CodeValidation, "/key_id", "given without at", "send the token as key; only the past can be asked by id")
	}
	if err := s.await(r.Context(), &s.verifier, 0); err != nil {
		return verify.Result{}, err
	}
	return s.cfg.Verifier.Verify(request.Key, requirement), nil
}

// requirement reads what the key must be good for. What cannot be met by any key
// because of a mistake in the request is refused, rather than answered as the key's
// fault.
func (s *Server) requirement(x *exchange, b *client.VerifyRequest, mem *scratch) (verify.Requirement, error) {
	req := verify.Requirement{Environment: domain.Environment(b.Environment), Owner: domain.AccountID(b.Account)}
	if !x.authority.Instance() {
		req.Bound = x.authority.Account
	}
	if req.Environment != "" && !req.Environment.Valid() {
		return req, domain.Invalid(domain.CodeValidation, "/environment", "neither live nor test", `use "live" or "test", or leave it out`)
	}
	if b.Account != "" {
		if _, err := domain.ParseAccountID(b.Account); err != nil {
			return req, err
		}
	}
	if b.IP != "" {
		var err error
		if req.IP, err = netip.ParseAddr(b.IP); err != nil {
			return req, domain.Invalid(domain.CodeValidation, "/ip", "not an address", "use an IPv4 or IPv6 address without a port")
		}
	}
	if len(b.Scopes) > maxRequired {
		return req, domain.Invalid(domain.CodeValidation, "/scopes", "too many", "require at most 64 scopes at once")
	}
	mem.scopes = mem.scopes[:0]
	for i, text := range b.Scopes {
		scope := domain.Scope(text)
		if _, listed := s.cfg.Catalogue.Index(scope); !listed {
			return req, unknownScope(i)
		}
		mem.scopes = append(mem.scopes, scope)
	}
	req.Scopes = mem.scopes
	return req, nil
}
