package server

import (
	"testing"

	"github.com/keyledger/keyledger/client"
)

func TestHarmless(t *testing.T) {
	for cell, want := range map[string]string{
		"":                             "",
		"plain; text, and more":        "plain; text, and more",
		"a=b-c":                        "a=b-c",
		"=1":                           "'=1",
		"a;=cmd|calc":                  "a;'=cmd|calc",
		"a,+1;-2\t@SUM(1)":             "a,'+1;'-2\t'@SUM(1)",
		"a\n=1\r=2":                    "a\n'=1\r'=2",
		";=1":                          ";'=1",
		"\t=1":                         "'\t'=1",
		"\n":                           "'\n",
		"\uff1d1;\uff0b2,\uff0d3":      "'\uff1d1;'\uff0b2,'\uff0d3",
		"\uff20SUM(1)":                 "'\uff20SUM(1)",
		"ü;=1\xff;=2":                  "ü;'=1\xff;'=2",
		`[{"field":"a","before":"b"}]`: `[{"field":"a","before":"b"}]`,
	} {
		if got := harmless(cell); got != want {
			t.Errorf("%q became %q, want %q", cell, got, want)
		}
	}
}

func TestAccepted(t *testing.T) {
	for accept, want := range map[string]string{
		"":                                       client.MediaTypeJSON,
		"text/csv":                               client.MediaTypeCSV,
		"Text/CSV; header=present":               client.MediaTypeCSV,
		"text/csv;q=0.5":                         client.MediaTypeCSV,
		"text/csv;q=0":                           client.MediaTypeJSON,
		"text/csv; header=present ; Q=0.000":     client.MediaTypeJSON,
		"text/csv;q=0, application/x-ndjson;q=1": client.MediaTypeNDJSON,
		"application/json;q=0, text/csv":         client.MediaTypeCSV,
		"text/html, */*":                         client.MediaTypeJSON,
	} {
		if got := accepted(accept, client.MediaTypeNDJSON, client.MediaTypeCSV); got != want {
			t.Errorf("%q: %s, want %s", accept, got, want)
		}
	}
}
