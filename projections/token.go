package projections

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/keyledger/keyledger/domain"
)

// position is what a page token holds. Sum covers the position and the filter of
// the query: it finds tokens that were mangled or belong to another query. It is
// no protection against forging, and needs none: a token gives nobody more than
// the query it comes with.
type position struct {
	Seq uint64 `json:"s"`           // keys or entries before it follow
	Now int64  `json:"n,omitempty"` // the Now of the first page, in microseconds
	Sum string `json:"h"`
}

const maxTokenLength = 200

func makeToken(p position, filter string) string {
	p.Sum = p.sum(filter)
	text, err := json.Marshal(p)
	if err != nil {
		panic(err) // two numbers and a string of hex
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// parseToken reads a token. Only the very text that makeToken made is accepted.
func parseToken(token, filter string) (position, error) {
	var p position
	if len(token) > maxTokenLength {
		return p, errPageToken()
	}
	text, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || json.Unmarshal(text, &p) != nil {
		return position{}, errPageToken()
	}
	if makeToken(p, filter) != token {
		return position{}, errPageToken()
	}
	return p, nil
}

func (p position) sum(filter string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %d %s", p.Seq, p.Now, filter))
	return hex.EncodeToString(sum[:8])
}

func errPageToken() error {
	return domain.Invalid(CodeInvalidPageToken, "/page_token", "not a page token of this query",
		"send next_page_token as it was given, with the same filters, or leave it out to begin again")
}
