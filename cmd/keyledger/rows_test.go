package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestRows(t *testing.T) {
	var out bytes.Buffer
	r := newRows(&out, "NAME", "N", "ID")
	for _, cells := range [][]string{{"Käse", "1", "a"}, {"a longer name", "22", "b"}, {"esc\x1b[2J", "", "c"}} {
		if err := r.add(cells...); err != nil {
			t.Fatal(err)
		}
	}
	if out.Len() > 0 {
		t.Errorf("printed before the widths are known: %s", &out)
	}
	if err := r.done(); err != nil {
		t.Fatal(err)
	}
	const want = "NAME            N    ID\n" +
		"Käse            1    a\n" +
		"a longer name   22   b\n" +
		`esc\x1b[2J           c` + "\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", &out, want)
	}
}

func TestLongRowsComeAsTheyAre(t *testing.T) {
	var out bytes.Buffer
	r := newRows(&out, "N", "END")
	const count = 3 * heldRows
	for i := range count {
		cell := fmt.Sprint(i % 10)
		if i == 2*heldRows {
			cell = "wider than the column"
		}
		if err := r.add(cell, "end"); err != nil {
			t.Fatal(err)
		}
		if len(r.held) > heldRows {
			t.Fatalf("%d rows held back", len(r.held))
		}
	}
	if err := r.done(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != count+1 {
		t.Fatalf("%d lines", len(lines))
	}
	for i, line := range lines[1:] {
		want := fmt.Sprint(i%10, "   end")
		if i == 2*heldRows {
			want = "wider than the column   end"
		}
		if line != want {
			t.Fatalf("row %d is %q, want %q", i, line, want)
		}
	}
}

func TestEmptyRowsPrintNothing(t *testing.T) {
	var out bytes.Buffer
	if err := newRows(&out, "NAME").done(); err != nil || out.Len() > 0 {
		t.Errorf("%v: %s", err, &out)
	}
}

// TestJSONListIsOneValue compares lists with what printJSON makes of the same.
func TestJSONListIsOneValue(t *testing.T) {
	type value struct {
		Name string   `json:"name"`
		List []string `json:"list"`
	}
	for name, values := range map[string][]value{
		"none": {},
		"one":  {{"<a>", nil}},
		"two":  {{"a", []string{"x", "y"}}, {"b", []string{}}},
	} {
		var out, want bytes.Buffer
		l := newJSONList(&out, "values")
		for _, v := range values {
			if err := l.add(v); err != nil {
				t.Fatal(err)
			}
		}
		if out.Len() > 0 && len(values) == 0 {
			t.Errorf("%s: printed too early", name)
		}
		if err := l.done(member{"seq", 7}, member{"at", value{Name: "z"}}); err != nil {
			t.Fatal(err)
		}
		a := &app{stdout: &want}
		err := a.printJSON(struct {
			Values []value `json:"values"`
			Seq    int     `json:"seq"`
			At     value   `json:"at"`
		}{values, 7, value{Name: "z"}})
		if err != nil {
			t.Fatal(err)
		}
		if out.String() != want.String() || !json.Valid(out.Bytes()) {
			t.Errorf("%s: got\n%swant\n%s", name, &out, &want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 3_000_000: "3,000,000", -1234: "-1,234", -123: "-123"} {
		if got := grouped(n); got != want {
			t.Errorf("grouped(%d) = %s, want %s", n, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 5 << 30: "5.0 GiB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %s, want %s", n, got, want)
		}
	}
	for _, tc := range []struct {
		done, all uint64
		want      string
	}{{0, 0, ""}, {0, 10, "0 %"}, {999, 1000, "99 %"}, {10, 10, "100 %"}, {11, 10, "100 %"}} {
		if got := percent(tc.done, tc.all); got != tc.want {
			t.Errorf("percent(%d, %d) = %s, want %s", tc.done, tc.all, got, tc.want)
		}
	}
}
