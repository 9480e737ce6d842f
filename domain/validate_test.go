package domain

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

func TestValidID(t *testing.T) {
	for id, want := range map[string]bool{
		"a": true, "key_0-Z": true, strings.Repeat("a", 64): true,
		"": false, strings.Repeat("a", 65): false, "a.b": false, "*": false, ">": false, "a b": false,
		"a\r\n": false, "é": false, "a\x00": false, "a/b": false,
	} {
		if got := ValidID(id); got != want {
			t.Errorf("ValidID(%q) = %v", id, got)
		}
	}
}

func FuzzParseIDs(f *testing.F) {
	for _, s := range []string{"acme", "_root", "_x", "*", ">", "a.b", "a b", "\r\n", "é", "key_0123456789abcdef"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		_, accountErr := ParseAccountID(s)
		_, keyErr := ParseKeyID(s)
		if accountErr != nil && keyErr != nil {
			return
		}
		if strings.ContainsAny(s, "*>. \t\r\n\x00/") || len(s) > 64 || s == "" {
			t.Fatalf("%q passes as an id", s)
		}
	})
}

func TestParseAccountIDReservesUnderscore(t *testing.T) {
	for id, ok := range map[string]bool{"acme": true, "_root": true, "_other": false, "": false, "a.b": false} {
		if _, err := ParseAccountID(id); (err == nil) != ok {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestParseExpiresOnIsMidnightUTC(t *testing.T) {
	got, err := ParseExpiresOn("2026-12-31")
	if want := time.Date(2026, 12, 31, 0, 0, 0, 0, time.UTC); err != nil || !got.Equal(want) || got.Location() != time.UTC {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	for _, bad := range []string{"", "2026-02-30", "31.12.2026", "2026-12-31T00:00:00Z", "26-12-31", "20260-1-1"} {
		if _, err := ParseExpiresOn(bad); KindOf(err) != KindInvalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestParseAllowedIPs(t *testing.T) {
	got, err := ParseAllowedIPs([]string{"203.0.113.7/24", "::ffff:10.0.0.1", "2001:db8::1", "203.0.113.0/24", "::ffff:10.0.0.0/104"})
	if want := "[10.0.0.0/8 10.0.0.1/32 203.0.113.0/24 2001:db8::1/128]"; err != nil || fmt.Sprint(got) != want {
		t.Errorf("got %v, %v; want %s", got, err, want)
	}
	for _, bad := range []string{"", "10.0.0.0/33", "fe80::1%eth0", "10.0.0", "::ffff:0:0/80", "localhost"} {
		if _, err := ParseAllowedIPs([]string{bad}); KindOf(err) != KindInvalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestErrorKindsSurviveWrapping(t *testing.T) {
	err := fmt.Errorf("load: %w", NewError(KindNotFound, CodeKeyNotFound, "no", "check"))
	if KindOf(err) != KindNotFound || CodeOf(err) != CodeKeyNotFound {
		t.Errorf("kind %s code %s", KindOf(err), CodeOf(err))
	}
	if KindOf(io.EOF) != KindInternal || CodeOf(io.EOF) != "internal" || KindOf(nil) != "" || CodeOf(nil) != "" {
		t.Error("other errors have the wrong kind or code")
	}
	cause := &Error{Kind: KindUnavailable, Message: "m", Cause: io.EOF, Fields: []FieldError{{"/a", "b"}}}
	if !errors.Is(cause, io.EOF) || cause.Error() != "m; /a: b: EOF" {
		t.Errorf("%q", cause.Error())
	}
}
