package wire

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
)

// FuzzDecode holds the decoder against encoding/json, which takes more: what
// is accepted must mean the same to both, nest no deeper than allowed and hold no
// null; what is refused must be the caller's fault and not be quoted.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"key":"x","scopes":["a:b"]}`, `{"key":"x","key":"y"}`, `{"KEY":"x"}`, `{"key":null}`, `[[[]]]`, `{"key":"\ud800"}`,
		`{"key":"x"} x`, `{"scopes":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, "", "{", "\"canarycanary\"", `{"canarycanary":1}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var strict, lax client.VerifyRequest
		err := Decode(data, &strict)
		if err != nil {
			if kind := domain.KindOf(err); kind != domain.KindInvalid {
				t.Errorf("%q is refused as %s", data, kind)
			}
			e, ok := errors.AsType[*domain.Error](err)
			if !ok || e.Code == "" || e.Fix == "" {
				t.Errorf("%q is refused with %v", data, err)
			}
			return
		}
		if err := json.Unmarshal(data, &lax); err != nil {
			t.Fatalf("%q was accepted, and is no JSON to encoding/json: %v", data, err)
		}
		if mustText(t, strict) != mustText(t, lax) {
			t.Errorf("%q is %+v here and %+v there", data, strict, lax)
		}
		if depth, null := shape(data); depth > MaxDepth || null {
			t.Errorf("%q was accepted: depth %d, null %t", data, depth, null)
		}
	})
}

// shape reads all tokens and returns how deep they nest and whether null is one.
func shape(data []byte) (depth int, null bool) {
	d := jsontext.NewDecoder(strings.NewReader(string(data)))
	for {
		token, err := d.ReadToken()
		if errors.Is(err, io.EOF) || err != nil {
			return depth, null
		}
		depth = max(depth, d.StackDepth())
		null = null || token.Kind() == jsontext.KindNull
	}
}

// FuzzSuspicious: the quick look may suspect too much, and never too little.
func FuzzSuspicious(f *testing.F) {
	f.Add([]byte(`{"a":"\\","b":["\"null\""]}`))
	f.Add([]byte(`{"a":null}`))
	f.Add([]byte(strings.Repeat(`{"a":[`, 20)))
	f.Fuzz(func(t *testing.T, data []byte) {
		if depth, null := shape(data); (depth > MaxDepth || null) && json.Valid(data) && !suspicious(data) {
			t.Errorf("%q: depth %d, null %t, and not suspected", data, depth, null)
		}
	})
}

func mustText(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTraceParent(t *testing.T) {
	const good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	if TraceParent(good) != good {
		t.Error("a traceparent was dropped")
	}
	for _, bad := range []string{"", "x", good + "0", strings.ToUpper(good), strings.Replace(good, "-", "_", 1), good[:54] + "\n"} {
		if TraceParent(bad) != "" {
			t.Errorf("%q was taken", bad)
		}
	}
}
