package client

// Problem is the body of every refusal (RFC 9457, application/problem+json). Code
// is stable and meant for programs; Detail says what is wrong and Fix what to do.
type Problem struct {
	Type      string         `json:"type" doc:"about:blank: the code says which problem it is." example:"about:blank"`
	Title     string         `json:"title" doc:"The status in words." example:"Bad Request"`
	Status    int            `json:"status" example:"400"`
	Detail    string         `json:"detail" doc:"What is wrong, for people." example:"the request is not valid"`
	Instance  string         `json:"instance" doc:"The path of the request."`
	Code      string         `json:"code" doc:"What is wrong, for programs. Codes do not change." example:"unknown_scope"`
	Fix       string         `json:"fix" doc:"What to do about it." example:"choose from GET /v1/scopes"`
	RequestID string         `json:"request_id" doc:"Names the request in the server's log."`
	Errors    []ProblemField `json:"errors,omitempty" nullable:"false" doc:"The members or parameters that are wrong."`
}

// ProblemField points at what is wrong in a request: a member of the body by
// Pointer (RFC 6901), or a parameter of the path, query or headers by name.
type ProblemField struct {
	Pointer   string `json:"pointer,omitempty" example:"/scopes/2"`
	Parameter string `json:"parameter,omitempty" example:"page_size"`
	Detail    string `json:"detail" example:"not a scope of the catalogue"`
}

// Readiness is the answer of GET /readyz. A server can be ready although a part is
// not: one that commands and checks do without.
type Readiness struct {
	Ready bool            `json:"ready" doc:"Whether the server takes requests."`
	Parts []ReadinessPart `json:"parts" nullable:"false"`
}

// ReadinessPart is the state of one part of the server.
type ReadinessPart struct {
	Name  string `json:"name" example:"verifier"`
	Ready bool   `json:"ready"`
	Error string `json:"error,omitempty" doc:"Why it is not ready."`
}
