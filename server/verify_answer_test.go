package server

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/verify"
	"github.com/keyledger/keyledger/wire"
)

// TestVerifyAnswer holds the answer written by hand against the wire type.
func TestVerifyAnswer(t *testing.T) {
	answers := newVerifyAnswers()
	results := []verify.Result{
		{Code: "SOMETHING_NEW", AsOfSeq: 1},
		{Code: verify.CodeValid, KeyID: "key_a", Account: "acme", Environment: domain.EnvironmentTest, AsOfSeq: 1<<64 - 1,
			Scopes: domain.Scopes{"a:b", "c:*"}, ExpiresAt: time.Date(2031, 2, 3, 4, 5, 6, 7_000, time.FixedZone("", 3600))},
	}
	for _, code := range verify.Codes() {
		results = append(results, verify.Result{Code: code, AsOfSeq: 7}, verify.Result{Code: code, KeyID: "key_a", Account: "acme", Scopes: domain.Scopes{"*"}})
	}
	for _, r := range results {
		want := client.VerifyResult{
			Valid: r.Valid(), Code: string(r.Code), KeyID: string(r.KeyID), Account: string(r.Account),
			Environment: string(r.Environment), ExpiresAt: wire.Instant(r.ExpiresAt), AsOfSeq: r.AsOfSeq,
		}
		if len(r.Scopes) > 0 {
			want.Scopes = wire.Texts(r.Scopes)
		}
		if r.Code == "SOMETHING_NEW" {
			want.Code = string(verify.CodeStale)
		}
		if !r.Valid() {
			words := verify.Explain(r.Code)
			want.Cause, want.Solution = words.Cause, words.Solution
		}
		text := answers.append(nil, r)
		var got client.VerifyResult
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", r.Code, got, want)
		}
	}
}
