package server

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/verify"
)

// verifyAnswers writes client.VerifyResult as JSON. What depends on the code alone
// is rendered once.
type verifyAnswers struct {
	heads map[verify.Code]string
	other string // for a code that is none of ours
}

func newVerifyAnswers() verifyAnswers {
	a := verifyAnswers{heads: map[verify.Code]string{}, other: head(verify.CodeStale)}
	for _, code := range verify.Codes() {
		a.heads[code] = head(code)
	}
	return a
}

// head renders the members that a code decides, without the closing brace.
func head(code verify.Code) string {
	text := fmt.Sprintf(`{"valid":%t,"code":%q`, code == verify.CodeValid, string(code))
	if code != verify.CodeValid {
		words := verify.Explain(code)
		text += `,"cause":` + quote(words.Cause) + `,"solution":` + quote(words.Solution)
	}
	return text
}

// append adds the answer to b. Ids, accounts, environments and scopes are made of
// characters that JSON takes as they are; see domain.ValidID and domain.NewCatalogue.
func (a verifyAnswers) append(b []byte, r verify.Result) []byte {
	h, known := a.heads[r.Code]
	if !known {
		h = a.other
	}
	b = append(b, h...)
	b = member(b, `,"key_id":"`, string(r.KeyID))
	b = member(b, `,"account":"`, string(r.Account))
	b = member(b, `,"environment":"`, string(r.Environment))
	if len(r.Scopes) > 0 {
		b = appendScopes(append(b, `,"scopes":[`...), r.Scopes)
	}
	if !r.ExpiresAt.IsZero() {
		b = append(b, `,"expires_at":"`...)
		b = append(r.ExpiresAt.UTC().AppendFormat(b, time.RFC3339Nano), '"')
	}
	b = append(b, `,"as_of_seq":`...)
	b = strconv.AppendUint(b, r.AsOfSeq, 10)
	return append(b, '}')
}

func member(b []byte, opening, value string) []byte {
	if value == "" {
		return b
	}
	return append(append(append(b, opening...), value...), '"')
}

func appendScopes(b []byte, scopes domain.Scopes) []byte {
	for i, scope := range scopes {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), scope...), '"')
	}
	return append(b, ']')
}

func quote(text string) string {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err) // strings always marshal
	}
	return string(b)
}
