package projectionstest

import (
	"fmt"
	"reflect"

	"github.com/keyledger/keyledger/projections"
)

// fataler is what *testing.T and *rapid.T have in common.
type fataler interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// pager reads a list page by page, in both ways, and holds every page against what
// the whole list must be. That does not change meanwhile.
type pager[T any] struct {
	what string
	want []T
	read func(token string, size int) (onePage[T], error)
	// long says that the search may end before a page is full.
	long bool

	first, last int // the rows of the present page are want[first:last]
	page        onePage[T]
	short       int // pages in a row that were not full
}

type onePage[T any] struct {
	rows       []T
	next, prev string
}

// begin reads the first page.
func (p *pager[T]) begin(t fataler, size int) {
	t.Helper()
	p.first, p.last, p.short = 0, 0, 0
	p.forward(t, "", size)
	if p.page.prev != "" {
		t.Fatalf("%s: there is a page before the first", p.what)
	}
}

// next reads the page after the present one, and reports whether there is one.
func (p *pager[T]) next(t fataler, size int) bool {
	t.Helper()
	if p.page.next == "" {
		return false
	}
	p.forward(t, p.page.next, size)
	return true
}

func (p *pager[T]) forward(t fataler, token string, size int) {
	t.Helper()
	p.get(t, token, size)
	from := p.last
	same(t, p.what, p.page.rows, p.want[from:min(from+len(p.page.rows), len(p.want))])
	p.first, p.last = from, from+len(p.page.rows)
	p.ends(t, "next", p.page.next, p.last == len(p.want), size)
}

// prev reads the page before the present one, and reports whether there is one.
func (p *pager[T]) prev(t fataler, size int) bool {
	t.Helper()
	if p.page.prev == "" {
		return false
	}
	p.get(t, p.page.prev, size)
	to := p.first
	same(t, p.what+" (backwards)", p.page.rows, p.want[max(0, to-len(p.page.rows)):to])
	p.first, p.last = to-len(p.page.rows), to
	p.ends(t, "prev", p.page.prev, p.first == 0, size)
	return true
}

func (p *pager[T]) get(t fataler, token string, size int) {
	t.Helper()
	var err error
	if p.page, err = p.read(token, size); err != nil {
		t.Fatalf("%s: %v", p.what, err)
	}
	if len(p.page.rows) > size {
		t.Fatalf("%s: %d rows on a page of %d", p.what, len(p.page.rows), size)
	}
}

// ends checks the token that goes on in the direction of reading.
func (p *pager[T]) ends(t fataler, which, token string, atEnd bool, size int) {
	t.Helper()
	short := token != "" && len(p.page.rows) < size
	switch {
	case token == "" && !atEnd:
		t.Fatalf("%s: the list ends (%s) with rows %d to %d of %d", p.what, which, p.first, p.last, len(p.want))
	case token != "" && atEnd && !p.long:
		t.Fatalf("%s: the list goes on (%s) after the last of %d rows", p.what, which, len(p.want))
	case short && !p.long:
		t.Fatalf("%s: %d rows on a page of %d, and more to come (%s)", p.what, len(p.page.rows), size, which)
	}
	if p.short++; !short {
		p.short = 0
	}
	if p.short > 1000 {
		t.Fatalf("%s: a thousand pages that are not full", p.what)
	}
}

// same compares lists, naming the first difference.
func same[T any](t fataler, what string, got, want []T) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Fatalf("%s: %d, want %d; missing:\n%+v", what, len(got), len(want), want[i])
		case i >= len(want):
			t.Fatalf("%s: %d, want %d; too much:\n%+v", what, len(got), len(want), got[i])
		case !reflect.DeepEqual(got[i], want[i]):
			t.Fatalf("%s: number %d is\n%+v\nwant\n%+v", what, i, got[i], want[i])
		}
	}
}

// keyPages reads the keys of a query. Later pages are asked for with another Now,
// and must go on with the first's.
func keyPages(store projections.Reader, m *Model, q projections.KeyQuery) *pager[projections.KeyRecord] {
	now := projections.Micros(q.Now)
	if q.At != nil {
		now = projections.Micros(q.At.Time)
	}
	return &pager[projections.KeyRecord]{
		what: "keys of " + describe(q), want: m.Keys(q), long: len(m.all(q.At)) > projections.MaxKeysScanned/2,
		read: func(token string, size int) (onePage[projections.KeyRecord], error) {
			q := q
			q.Page, q.PageSize = token, size
			if token != "" && q.At == nil {
				q.Now = q.Now.AddDate(0, 1, 0)
			}
			page, err := store.Keys(ctx(), q)
			if err == nil && !page.Now.Equal(now) {
				err = fmt.Errorf("the page is of %s, not of %s", page.Now, now)
			}
			return onePage[projections.KeyRecord]{rows: page.Keys, next: page.Next, prev: page.Prev}, err
		},
	}
}

// entryPages reads the audit entries of a query.
func entryPages(store projections.Reader, m *Model, q projections.AuditQuery) *pager[projections.AuditEntry] {
	return &pager[projections.AuditEntry]{
		what: fmt.Sprintf("audit of %+v", q), want: m.Audit(q), long: len(m.log()) > projections.MaxEntriesScanned/2,
		read: func(token string, size int) (onePage[projections.AuditEntry], error) {
			q := q
			q.Page, q.PageSize = token, size
			page, err := store.Audit(ctx(), q)
			if err == nil && page.SearchedTo != 0 && (len(page.Entries) == size || page.Next == "" && page.Prev == "") {
				err = fmt.Errorf("the search ended at %d, with %d entries", page.SearchedTo, len(page.Entries))
			}
			return onePage[projections.AuditEntry]{rows: page.Entries, next: page.Next, prev: page.Prev}, err
		},
	}
}

// describe shows a query with the moment that it points to.
func describe(q projections.KeyQuery) string {
	if q.At == nil {
		return fmt.Sprintf("%+v", q)
	}
	at := *q.At
	q.At = nil
	return fmt.Sprintf("%+v at %+v", q, at)
}

// readAll reads a list from its first page to its last, and back again.
func readAll[T any](t fataler, p *pager[T], size int) {
	t.Helper()
	p.begin(t, size)
	for p.next(t, size) {
	}
	for p.prev(t, size) {
	}
}
