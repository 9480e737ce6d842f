package main

import (
	"cmp"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// clean makes a text safe to print: customers write names, reasons and metadata,
// and a terminal obeys escape sequences. What does not print is shown as its escape.
func clean(s string) string {
	if !strings.ContainsFunc(s, unprintable) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if !unprintable(r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}

// unprintable is true of controls, of direction marks that reorder what stands
// around them, of line ends, and of bytes that are no UTF-8.
func unprintable(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }

// table lines columns up for people.
type table struct{ w *tabwriter.Writer }

func newTable(out io.Writer) table {
	return table{tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)}
}

func (t table) row(cells ...string) {
	for i, cell := range cells {
		cells[i] = clean(cell)
	}
	_, _ = io.WriteString(t.w, strings.Join(cells, "\t")+"\n")
}

// pair is a row of a name and a value; without a value there is no row.
func (t table) pair(name, value string) {
	if value != "" {
		t.row(name, value)
	}
}

func (t table) flush() error { return t.w.Flush() }

// minute renders a time for people; the headings say that it is UTC.
func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") }

// instant renders a time with its seconds, or other where there is none.
func instant(t *time.Time, other string) string {
	if t == nil || t.IsZero() {
		return other
	}
	return t.UTC().Format(time.RFC3339)
}

// second renders a time for people with its seconds; the headings say that it is UTC.
func second(t time.Time) string { return t.UTC().Format(time.DateTime) }

func number(n uint64) string { return strconv.FormatUint(n, 10) }

// orDash fills an empty cell, so that columns can be told apart.
func orDash(text string) string { return cmp.Or(text, "-") }
