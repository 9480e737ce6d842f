package server

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// exportAudit sends every entry that matches, oldest first, up to the end of the log
// at this time, for as long as the caller's credential is good.
func (s *Server) exportAudit(x *exchange, r *http.Request, q projections.AuditQuery, form string) error {
	if err := noPages(r); err != nil {
		return err
	}
	if r.URL.Query().Get("order") == "newest" {
		return badParameter(domain.CodeValidation, "order", "exports are oldest first", "leave it out, or ask for JSON")
	}
	if headOnly(x, r, form) {
		return nil
	}
	if err := s.limits.acquire(x.authority.Actor); err != nil {
		return err
	}
	defer s.limits.release(x.authority.Actor)
	ctx, cancel := s.streamContext(r)
	defer cancel()
	e := &auditExport{s: s, x: x, r: r, query: q, form: form}
	e.rows = newRowWriter(&e.piece, form)
	return e.run(ctx)
}

// auditExport is one export on its way.
type auditExport struct {
	s     *Server
	x     *exchange
	r     *http.Request
	query projections.AuditQuery
	form  string

	rows    rowWriter // into piece
	piece   bytes.Buffer
	stream  *stream // nil until the first page was read: what fails before is refused in order
	count   int64
	checked time.Time // when the credential was looked at last
}

func (e *auditExport) run(ctx context.Context) error {
	head, err := e.s.awaitHead(ctx, &e.s.tables)
	if err != nil {
		return err
	}
	if e.query.ToSeq == 0 || e.query.ToSeq > head {
		e.query.ToSeq = head
	}
	e.query.OldestFirst, e.query.PageSize = true, projections.MaxPageSize
	e.checked = time.Now() // the connection's clock, whatever Config.Now says
	for more := true; more; more = e.query.Page != "" {
		page, err := e.read(ctx)
		if err != nil {
			return err
		}
		if e.stream == nil {
			if err := e.open(); err != nil {
				return err
			}
		}
		if err := e.send(page.Entries); err != nil {
			return err
		}
		if err := context.Cause(ctx); err != nil { // a shutdown must not look like the end
			return err
		}
		e.query.Page = page.Next
	}
	e.x.Header().Set(client.TrailerExportRows, strconv.FormatInt(e.count, 10))
	return nil
}

// read reads the next page. It waits for its turn: an export that has begun cannot
// be refused.
func (e *auditExport) read(ctx context.Context) (page projections.AuditPage, err error) {
	release, err := e.s.reads.take(ctx, e.x.authority.Actor, false)
	if err != nil {
		return page, err
	}
	defer release()
	if page, err = e.s.cfg.Audit.Audit(ctx, e.query); err != nil {
		return page, fromTables(err)
	}
	return page, nil
}

// open begins the answer.
func (e *auditExport) open() (err error) {
	ending := "ndjson"
	if e.form == client.MediaTypeCSV {
		ending = "csv"
		if err := e.rows.head(); err != nil {
			return err
		}
	}
	h := e.x.Header()
	h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="keyledger-audit-%s.%s"`, e.s.now().UTC().Format("20060102T150405Z"), ending))
	h.Set(client.HeaderExportToSeq, strconv.FormatUint(e.query.ToSeq, 10))
	h.Set("Trailer", client.TrailerExportRows)
	e.stream, err = e.s.openStream(e.x, contentTypeOf(e.form))
	return err
}

func contentTypeOf(form string) string {
	if form == client.MediaTypeCSV {
		return "text/csv; charset=utf-8; header=present" // RFC 4180
	}
	return form
}

// send writes the entries of a page, and sees that they leave.
func (e *auditExport) send(entries []projections.AuditEntry) error {
	if now := time.Now(); now.Sub(e.checked) >= min(time.Second, e.s.cfg.Heartbeat) {
		e.checked = now
		if !e.s.stillGood(e.x, e.r, domain.ScopeAuditRead) {
			return errCredentialEnded
		}
	}
	for i := range entries {
		if err := e.rows.write(wireEntry(&entries[i])); err != nil {
			return err
		}
		e.count++
		e.x.seq = entries[i].Seq
		if e.piece.Len() >= flushBytes {
			if err := e.flush(); err != nil {
				return err
			}
		}
	}
	return e.flush()
}

func (e *auditExport) flush() error {
	if e.piece.Len() == 0 {
		return nil
	}
	err := e.stream.send(e.piece.Bytes())
	e.piece.Reset()
	return err
}

// rowWriter writes entries in one form.
type rowWriter interface {
	head() error
	write(client.AuditEntry) error
}

func newRowWriter(w io.Writer, form string) rowWriter {
	if form == client.MediaTypeCSV {
		return csvRows{csv.NewWriter(w)}
	}
	return lineRows{w}
}

type lineRows struct{ w io.Writer }

func (lineRows) head() error { return nil }

func (l lineRows) write(e client.AuditEntry) error { return marshalJSON(l.w, e) }

type csvRows struct{ w *csv.Writer }

func (c csvRows) head() error {
	return c.row("seq", "time", "account", "actor", "action", "command", "subject", "changes", "reason", "void", "command_id", "request_id", "event_id")
}

func (c csvRows) write(e client.AuditEntry) error {
	var changes bytes.Buffer
	if len(e.Changes) > 0 {
		encoder := json.NewEncoder(&changes)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(e.Changes); err != nil {
			return err
		}
		changes.Truncate(changes.Len() - 1) // the line end
	}
	return c.row(strconv.FormatUint(e.Seq, 10), e.Time.Format(time.RFC3339Nano), e.Account, e.Actor, e.Action, e.Command, e.Subject,
		changes.String(), e.Reason, e.Void, e.CommandID, e.RequestID, e.EventID)
}

func (c csvRows) row(cells ...string) error {
	for i := range cells {
		cells[i] = harmless(cells[i])
	}
	if err := c.w.Write(cells); err != nil {
		return err
	}
	c.w.Flush()
	return c.w.Error()
}

// harmless keeps a spreadsheet from taking a value for a formula (OWASP, CSV
// injection): people choose reasons and names of commands. Many places read CSV with
// semicolons or tabs between the cells, whatever is quoted, so that a formula can
// begin within a value too.
func harmless(cell string) string {
	var changed strings.Builder
	begins, kept := true, 0
	for i, r := range cell {
		if begins && formula(r) || i == 0 && separates(r) && r != ';' && r != ',' {
			changed.WriteString(cell[kept:i])
			changed.WriteByte('\'')
			kept = i
		}
		begins = separates(r)
	}
	if changed.Len() == 0 {
		return cell
	}
	changed.WriteString(cell[kept:])
	return changed.String()
}

// formula reports whether a formula can begin with the character. Some spreadsheets
// take the full-width ones for the narrow ones.
func formula(r rune) bool { return strings.ContainsRune("=+-@＝＋－＠", r) }

// separates reports whether a cell can end with the character.
func separates(r rune) bool { return strings.ContainsRune(";,\t\r\n", r) }
