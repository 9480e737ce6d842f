package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// needle is one form of a secret that must not be found.
type needle struct {
	secret string // whose it is, for messages
	form   string
	bytes  []byte
}

// The places of a token's secret: after the prefix and the 16 characters of the id,
// before the 6 of the checksum.
const (
	tokenTail   = 16 + 32 + 6
	secretFrom  = 16
	secretChars = 32
	// partChars is how many characters of a secret in a row count as a leak. Ten
	// of 62 signs do not come about by chance.
	partChars = 10
)

// needlesOf returns the forms of a token: every part of its secret, the secret in
// the usual encodings, and the hash of the token, by which it can be guessed at.
func needlesOf(name, token string) []needle {
	body := token[len(token)-tokenTail:]
	secret := body[secretFrom : secretFrom+secretChars]
	var out []needle
	add := func(form string, b []byte) { out = append(out, needle{name, form, b}) }
	for i := 0; i+partChars <= len(secret); i++ {
		add(fmt.Sprintf("characters %d to %d of its secret", i, i+partChars), []byte(secret[i:i+partChars]))
	}
	add("its secret in hex", []byte(hex.EncodeToString([]byte(secret))))
	add("its secret in upper-case hex", []byte(strings.ToUpper(hex.EncodeToString([]byte(secret)))))
	add("its secret percent-encoded", []byte(percentEncoded(secret)))
	add("its secret in UTF-16", utf16(secret))
	for n, b := range base64Forms([]byte(secret)) {
		add(fmt.Sprintf("its secret in base64, %d", n), b)
	}
	sum := sha256.Sum256([]byte(token))
	return append(out, hashNeedles(name, "its SHA-256", sum[:])...)
}

// hashNeedles returns the forms of bytes that are random by themselves.
func hashNeedles(name, what string, b []byte) []needle {
	out := []needle{
		{name, what, b},
		{name, what + " in hex", []byte(hex.EncodeToString(b))},
		{name, what + " in upper-case hex", []byte(strings.ToUpper(hex.EncodeToString(b)))},
	}
	for n, form := range base64Forms(b) {
		out = append(out, needle{name, fmt.Sprintf("%s in base64, %d", what, n), form})
	}
	return out
}

// base64Forms returns what base64 makes of bytes wherever they stand in a longer
// text: three ways to fall into groups of three, less the signs at both ends that
// the neighbours have a part in.
func base64Forms(b []byte) [][]byte {
	var out [][]byte
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 {
			text := encoding.EncodeToString(append(make([]byte, before), b...))
			from, to := (before*8+5)/6, (before+len(b))*8/6
			out = append(out, []byte(text[from:to]))
		}
	}
	return out
}

func percentEncoded(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, "%%%02X", s[i])
	}
	return b.String()
}

func utf16(s string) []byte {
	var out []byte
	for i := range len(s) {
		out = append(out, s[i], 0)
	}
	return out
}

// scanner looks for many needles at once: by the first bytes of each, at every byte
// of a text.
type scanner map[[partChars]byte][]needle

func newScanner(needles ...[]needle) scanner {
	s := scanner{}
	for _, n := range slices.Concat(needles...) {
		start := [partChars]byte(n.bytes) // no needle is shorter: a shorter one would panic here
		s[start] = append(s[start], n)
	}
	return s
}

// scan returns what it finds in a text, once for each secret. allowed says which
// needles the text may hold; nil: none.
func (s scanner) scan(text []byte, allowed func(needle) bool) (found []string) {
	told := map[string]bool{}
	for at := 0; at+partChars <= len(text); at++ {
		for _, n := range s[[partChars]byte(text[at:])] {
			if !bytes.HasPrefix(text[at:], n.bytes) || told[n.secret] || allowed != nil && allowed(n) {
				continue
			}
			told[n.secret] = true
			found = append(found, fmt.Sprintf("%s of %s at byte %d", n.form, n.secret, at))
		}
	}
	return found
}

// scanDir scans the bytes and the names of all files below a directory. allowed
// says which needles a file may hold; nil: none.
func (s scanner) scanDir(t *testing.T, dir string, allowed func(file string, n needle) bool) (found []string, files int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		file, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		here := func(n needle) bool { return allowed != nil && allowed(file, n) }
		for _, what := range s.scan([]byte(file), here) {
			found = append(found, "the name "+file+": "+what)
		}
		if entry.IsDir() {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		for _, what := range s.scan(text, here) {
			found = append(found, file+": "+what)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found, files
}

// TestScanFinds plants a token in every form and looks for it: a scanner that could
// not find it would prove nothing.
func TestScanFinds(t *testing.T) {
	token, other := mustToken(t), mustToken(t)
	secret := token[len(token)-tokenTail+secretFrom:][:secretChars]
	sum := sha256.Sum256([]byte(token))
	mangled := func(from, to int) string { return "xx" + secret[from:to] + "yy" }
	planted := map[string]string{
		"the token":            token,
		"in a JSON string":     `{"name":"` + token + `"}`,
		"the secret alone":     secret,
		"its beginning":        mangled(0, partChars),
		"its middle":           mangled(11, 11+partChars),
		"its end":              mangled(secretChars-partChars, secretChars),
		"base64 of the token":  base64.StdEncoding.EncodeToString([]byte(token)),
		"base64, moved by 1":   base64.StdEncoding.EncodeToString([]byte("x" + token)),
		"base64, moved by 2":   base64.StdEncoding.EncodeToString([]byte("xy" + token)),
		"a basic credential":   base64.StdEncoding.EncodeToString([]byte("user:" + token)),
		"base64url":            base64.URLEncoding.EncodeToString([]byte(token)),
		"hex of the token":     hex.EncodeToString([]byte(token)),
		"upper-case hex":       strings.ToUpper(hex.EncodeToString([]byte(token))),
		"percent-encoded":      percentEncoded(token),
		"UTF-16":               string(utf16(token)),
		"the hash":             string(sum[:]),
		"the hash in hex":      hex.EncodeToString(sum[:]),
		"the hash in base64":   base64.StdEncoding.EncodeToString(sum[:]),
		"the hash, moved by 1": base64.StdEncoding.EncodeToString(append([]byte{7}, sum[:]...)),
		"the hash, moved by 2": base64.StdEncoding.EncodeToString(append([]byte{7, 7}, sum[:]...)),
	}
	mine, others := newScanner(needlesOf("the token", token)), newScanner(needlesOf("another token", other))
	for name, text := range planted {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "file"), []byte("\x00before "+text+" after\xff"), 0o600); err != nil {
			t.Fatal(err)
		}
		if found, _ := mine.scanDir(t, dir, nil); len(found) == 0 {
			t.Errorf("%s was not found", name)
		}
		if found, _ := others.scanDir(t, dir, nil); len(found) != 0 {
			t.Errorf("%s: another token was found: %q", name, found)
		}
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, token), 0o700); err != nil {
		t.Fatal(err)
	}
	if found, _ := mine.scanDir(t, dir, nil); len(found) == 0 {
		t.Error("the token in a file's name was not found")
	}
}
