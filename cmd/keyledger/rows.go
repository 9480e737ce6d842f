package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// heldRows is how many rows of a list are held back to line up its columns.
const heldRows = 1000

// rows prints a list of any length in columns, which are as wide as the first
// thousand rows ask for: a longer cell that comes later moves its own row only.
type rows struct {
	out    *bufio.Writer
	held   [][]string // headings first; nil once the widths are known
	widths []int
	count  int
}

func newRows(out io.Writer, headings ...string) *rows {
	return &rows{out: bufio.NewWriterSize(out, 64<<10), held: [][]string{headings}}
}

func (r *rows) add(cells ...string) error {
	r.count++
	for i, cell := range cells {
		cells[i] = clean(cell)
	}
	if r.held == nil {
		return r.print(cells)
	}
	if r.held = append(r.held, cells); len(r.held) <= heldRows {
		return nil
	}
	return r.release()
}

// release lines up what was held back and prints it.
func (r *rows) release() error {
	held := r.held
	r.held = nil
	for _, cells := range held {
		for i, cell := range cells {
			if i == len(r.widths) {
				r.widths = append(r.widths, 0)
			}
			r.widths[i] = max(r.widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, cells := range held {
		if err := r.print(cells); err != nil {
			return err
		}
	}
	return nil
}

func (r *rows) print(cells []string) error {
	var line strings.Builder
	for i, cell := range cells {
		line.WriteString(cell)
		if i < len(cells)-1 {
			line.WriteString(strings.Repeat(" ", max(0, r.widths[i]-utf8.RuneCountInString(cell))+3))
		}
	}
	line.WriteByte('\n')
	_, err := r.out.WriteString(line.String())
	return outputError(err)
}

// done prints what is left. A list without rows prints nothing, headings included.
func (r *rows) done() error {
	if r.count > 0 && r.held != nil {
		if err := r.release(); err != nil {
			return err
		}
	}
	return outputError(r.out.Flush())
}

// jsonList prints {"<name>": [...]} for programs, value by value: a list may be
// longer than what one would hold in memory. An error before the first value
// leaves nothing on standard output.
type jsonList struct {
	out   *bufio.Writer
	name  string
	count int
}

func newJSONList(out io.Writer, name string) *jsonList {
	return &jsonList{out: bufio.NewWriterSize(out, 64<<10), name: name}
}

func (l *jsonList) add(v any) error {
	before := ",\n    "
	if l.count++; l.count == 1 {
		before = fmt.Sprintf("{\n  %q: [\n    ", l.name)
	}
	text, err := indented(v, "    ")
	if err != nil {
		return err
	}
	_, err = l.out.WriteString(before + text)
	return outputError(err)
}

// member is what a list says beside its values.
type member struct {
	name  string
	value any
}

// done closes the list, with members behind it.
func (l *jsonList) done(members ...member) error {
	end := "\n  ]"
	if l.count == 0 {
		end = fmt.Sprintf("{\n  %q: []", l.name)
	}
	for _, m := range members {
		text, err := indented(m.value, "  ")
		if err != nil {
			return err
		}
		end += fmt.Sprintf(",\n  %q: %s", m.name, text)
	}
	if _, err := l.out.WriteString(end + "\n}\n"); err != nil {
		return outputError(err)
	}
	return outputError(l.out.Flush())
}

func indented(v any, prefix string) (string, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent(prefix, "  ")
	err := encoder.Encode(v)
	return strings.TrimSuffix(b.String(), "\n"), err
}
