package client

import (
	"bufio"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// TestWholeRows reads rows that come byte by byte, and one as long as a row may be.
func TestWholeRows(t *testing.T) {
	read := func(format ExportFormat, r io.Reader) (rows []string, err error) {
		lines := bufio.NewScanner(r)
		lines.Buffer(make([]byte, 0, 16), maxExportRow)
		lines.Split(wholeRows(format))
		for lines.Scan() {
			rows = append(rows, lines.Text())
		}
		return rows, lines.Err()
	}
	want := []string{"1,a\n", "2,\"b\n\"\"c\"\"\n\"\n", "3,\"\"\n"}
	got, err := read(ExportCSV, iotest.OneByteReader(strings.NewReader(strings.Join(want, ""))))
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	if got, err = read(ExportNDJSON, strings.NewReader("{\"\n\"}\n")); err != nil || len(got) != 2 {
		t.Errorf("%q, %v", got, err)
	}
	if _, err = read(ExportCSV, strings.NewReader("1,a\n2,\"b\n")); err == nil {
		t.Error("half a row was read")
	}
	// Looked at anew with every piece, this row would be 70 GB to look through.
	long := "1,\"" + strings.Repeat("\n", 3<<20) + "\"\n"
	began := time.Now()
	got, err = read(ExportCSV, &smallReads{r: strings.NewReader(long), size: 64})
	if err != nil || !slices.Equal(got, []string{long}) {
		t.Errorf("a long row: %d rows, %v", len(got), err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("a long row took %s", took)
	}
}

// smallReads gives a few bytes at a time.
type smallReads struct {
	r    io.Reader
	size int
}

func (s *smallReads) Read(p []byte) (int, error) { return s.r.Read(p[:min(len(p), s.size)]) }
