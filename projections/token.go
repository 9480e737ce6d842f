package projections

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/keyledger/keyledger/domain"
)

// pageToken is what a page token holds: a place in the order of the list, which
// way to read from it, and the Now of the first page in microseconds. Sum covers
// all that and the filter of the query: it finds tokens that were mangled or belong
// to another query. It is no protection against forging, and needs none: a token
// gives nobody more than the query it comes with.
type pageToken struct {
	Position
	Now  int64
	Back bool
}

// wireToken is the form of a token, before base64.
type wireToken struct {
	Seq  uint64 `json:"s"`
	Name string `json:"k,omitempty"`
	Time int64  `json:"t,omitempty"`
	Now  int64  `json:"n,omitempty"`
	Back bool   `json:"b,omitempty"`
	Sum  string `json:"h"`
}

// maxTokenLength has room for a name of 100 characters, escaped.
const maxTokenLength = 2000

func makeToken(t pageToken, filter string) string {
	text, err := json.Marshal(wireToken{Seq: t.Seq, Name: t.Name, Time: t.Time, Now: t.Now, Back: t.Back, Sum: t.sum(filter)})
	if err != nil {
		panic(err) // numbers and strings
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// parseToken reads a token. Only the very text that makeToken made is accepted.
func parseToken(text, filter string) (pageToken, error) {
	if len(text) > maxTokenLength {
		return pageToken{}, errPageToken()
	}
	decoded, err := base64.RawURLEncoding.DecodeString(text)
	var w wireToken
	if err != nil || json.Unmarshal(decoded, &w) != nil {
		return pageToken{}, errPageToken()
	}
	t := pageToken{Position: Position{Seq: w.Seq, Name: w.Name, Time: w.Time}, Now: w.Now, Back: w.Back}
	if makeToken(t, filter) != text {
		return pageToken{}, errPageToken()
	}
	return t, nil
}

func (t pageToken) sum(filter string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %q %d %d %t %s", t.Seq, t.Name, t.Time, t.Now, t.Back, filter))
	return hex.EncodeToString(sum[:8])
}

func errPageToken() error {
	return domain.Invalid(CodeInvalidPageToken, "/page_token", "not a page token of this query",
		"send a page token as it was given, with the same filters and order, or leave it out to begin again")
}
