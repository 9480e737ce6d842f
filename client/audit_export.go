package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"
)

// ExportFormat is the form of an export.
type ExportFormat string

// The forms.
const (
	ExportNDJSON ExportFormat = "ndjson" // one AuditEntry a line
	ExportCSV    ExportFormat = "csv"    // RFC 4180 with a row of names, safe to open in a spreadsheet
)

// ExportProgress is how far an export is.
type ExportProgress struct {
	Rows  int64  // entries written
	Seq   uint64 // the last of them
	ToSeq uint64 // where the export ends
}

// maxExportRow has room for an entry whose every character is escaped.
const maxExportRow = 4 << 20

// ExportAudit writes every entry that matches to w, oldest first, up to the end of
// the log at the time of the call. Order and pages of the query do not count. w gets
// whole rows only. A connection that breaks is resumed behind the last row, so that
// no row is missing or there twice; nil says that w has them all. [WithProgress]
// tells how far it is.
func (c *Client) ExportAudit(ctx context.Context, q AuditQuery, format ExportFormat, w io.Writer, opts ...CallOption) error {
	e := &export{client: c, query: q, format: format, w: w, opts: collect(opts)}
	switch format {
	case ExportNDJSON:
		e.accept = MediaTypeNDJSON
	case ExportCSV:
		e.accept = MediaTypeCSV
	default:
		return fmt.Errorf("export the audit log: no such format: %q", format)
	}
	e.query.OldestFirst, e.query.PageSize, e.query.PageToken = false, 0, ""
	for failures := 0; ; failures++ {
		before := e.done.Seq
		err := e.once(ctx)
		if err == nil {
			return nil
		}
		if e.done.Seq != before {
			failures = 0
		}
		if ctx.Err() != nil {
			return fmt.Errorf("export the audit log: %w", ctx.Err())
		}
		wait, again := c.retry.wait(failures, err)
		if !again || failures+1 >= c.retry.Attempts {
			return err
		}
		c.logger.WarnContext(ctx, "trying again", slog.String("call", e.call().String()),
			slog.Uint64("from_seq", e.query.FromSeq), slog.String("error", err.Error()), slog.Duration("wait", wait))
		_ = sleep(ctx, wait) // the next round sees that ctx has ended
	}
}

// export is one call of ExportAudit, over all its connections.
type export struct {
	client *Client
	query  AuditQuery
	format ExportFormat
	accept string
	w      io.Writer
	opts   callOptions
	done   ExportProgress
	headed bool // w has the row of names
}

func (e *export) call() call {
	return call{
		method: http.MethodGet, path: []string{"v1", "audit"}, query: e.opts.query(e.query.values()), accept: e.accept, opts: e.opts,
	}
}

// once copies the rows of one connection, and moves the query behind every row.
func (e *export) once(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(e.client.timeout, func() { cancel(errTimeout) })
	defer idle.Stop()
	spec := e.call()
	resp, err := e.client.send(ctx, spec, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if e.query.ToSeq, err = strconv.ParseUint(resp.Header.Get(HeaderExportToSeq), 10, 64); err != nil {
		return fmt.Errorf("%s: %w", spec, errNotKeyledger)
	}
	e.done.ToSeq = e.query.ToSeq // a resumed export ends where it was to end at first

	silence := max(e.client.timeout, maxSilence)
	rows := bufio.NewScanner(&watchedReader{r: resp.Body, alive: func() { idle.Reset(silence) }})
	rows.Buffer(make([]byte, 0, 64<<10), maxExportRow)
	rows.Split(wholeRows(e.format))
	got, err := e.copy(spec, rows, func() { idle.Stop() }, func() { idle.Reset(silence) })
	if err != nil {
		return err
	}
	if err := rows.Err(); err != nil {
		return &transportError{call: spec.String(), err: unwrapURLError(ctx, err)}
	}
	// Proxies may drop trailers; HTTP's own end of the body is known by now.
	if sent := resp.Trailer.Get(TrailerExportRows); sent != "" && sent != strconv.FormatInt(got, 10) {
		return &transportError{call: spec.String(), err: io.ErrUnexpectedEOF}
	}
	return nil
}

// copy writes the rows of a connection and returns how many there were, without
// the row of names. What writing takes is not the server's silence.
func (e *export) copy(spec call, rows *bufio.Scanner, pause, resume func()) (n int64, err error) {
	names := e.format == ExportCSV
	for rows.Scan() {
		row := rows.Bytes()
		pause()
		if names {
			names = false
			if e.headed {
				resume()
				continue
			}
			e.headed = true
		} else {
			seq, err := rowSeq(e.format, row)
			if err != nil {
				return n, fmt.Errorf("%s: %w", spec, err)
			}
			n++
			e.done.Rows++
			e.done.Seq, e.query.FromSeq = seq, seq+1
		}
		if _, err := e.w.Write(row); err != nil {
			return n, fmt.Errorf("write the export: %w", err)
		}
		if e.opts.progress != nil && e.done.Rows > 0 {
			e.opts.progress(e.done)
		}
		resume()
	}
	return n, nil
}

var errNotRow = errors.New("a row of the export does not begin with its seq")

// rowSeq reads the sequence number that a row begins with.
func rowSeq(format ExportFormat, row []byte) (uint64, error) {
	begins := true
	if format == ExportNDJSON {
		row, begins = bytes.CutPrefix(row, []byte(`{"seq":`))
	}
	digits, _, found := bytes.Cut(row, []byte(","))
	seq, err := strconv.ParseUint(string(digits), 10, 64)
	if !begins || !found || err != nil || seq == 0 {
		return 0, errNotRow
	}
	return seq, nil
}

// wholeRows splits an export into rows with their line ends. In CSV a line end
// between quotes is part of a value. What has no line end is half of something. The
// function remembers how far it has looked, so that a long row, which it sees piece
// by piece, is looked at once.
func wholeRows(format ExportFormat) bufio.SplitFunc {
	seen, quoted := 0, false // of the row that data begins with
	return func(data []byte, atEOF bool) (advance int, token []byte, err error) {
		for ; seen < len(data); seen++ {
			switch b := data[seen]; {
			case b == '"' && format == ExportCSV:
				quoted = !quoted
			case b == '\n' && !quoted:
				end := seen + 1
				seen = 0
				return end, data[:end], nil
			}
		}
		if atEOF && len(data) > 0 {
			return 0, nil, io.ErrUnexpectedEOF
		}
		return 0, nil, nil
	}
}
