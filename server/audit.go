package server

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

const pathAudit = "/v1/audit"

// auditRoutes registers the audit log. It is a plain handler, since it has three forms.
func (s *Server) auditRoutes() {
	e := endpointOf(http.MethodGet, pathAudit, "list-audit", tagAudit, "Read the audit log", domain.ScopeAuditRead,
		"One entry for every event. As JSON, pages of {entries, next_page_token, prev_page_token}, newest first. A search that finds little stops now and then: "+
			"a page may hold fewer entries than page_size, or none, and yet have a next_page_token; searched_to_seq says how far it came.\n\n"+
			"With Accept: application/x-ndjson or text/csv, or format, everything that matches up to the present end of the log, oldest first. "+
			"The header Export-To-Seq is that end, and the trailer Export-Rows the number of entries; an export whose connection breaks off is not complete. "+
			"In CSV, a value that a spreadsheet would take for a formula has a ' before it. "+
			"A management key has only so many streams and exports open at once; beyond that the answer is 503 with the code too_many_streams.")
	text := func() *huma.Schema { return &huma.Schema{Type: huma.TypeString} }
	words := func(list ...any) *huma.Schema { return &huma.Schema{Type: huma.TypeString, Enum: list} }
	actions := make([]any, 0, len(projections.Actions()))
	for _, a := range projections.Actions() {
		actions = append(actions, string(a))
	}
	e.Parameters = append(e.Parameters,
		queryParam("account", "", text()),
		queryParam("actor", "What the management key with this id did; _system for what nobody asked for.", text()),
		queryParam("action", "Entries of this action.", words(actions...)),
		queryParam("key_id", "What was done to the key with this id.", text()),
		queryParam("command", "What commands of this name did, for example revoke_key.", text()),
		queryParam("command_id", "What the command with this Idempotency-Key did.", text()),
		queryParam("request_id", "What the request with this id did.", text()),
		queryParam("from_time", "Entries from this instant on, by the log's clock, which never goes back.", timeParam("").Schema(nil)),
		queryParam("to_time", "Entries before this instant, by the log's clock.", timeParam("").Schema(nil)),
		queryParam("from_seq", "Entries from this sequence number on.", seqParam("").Schema(nil)),
		queryParam("to_seq", "Entries up to this sequence number.", seqParam("").Schema(nil)),
		queryParam("order", "Absent: newest. Exports are oldest first.", words("newest", "oldest")),
		queryParam("format", "The form of the answer, in the place of Accept.", words("json", "ndjson", "csv")),
		queryParam("page_size", "", sizeParam("").Schema(nil)),
		queryParam("page_token", "", text()),
		queryParam("min_seq", "", seqParam("").Schema(nil)),
	)
	e.Responses = map[string]*huma.Response{"200": {
		Description: "The entries",
		Headers: map[string]*huma.Param{
			client.HeaderExportToSeq: {Description: "Of an export: the sequence number up to which it goes.", Schema: seqParam("").Schema(nil)},
		},
		Content: map[string]*huma.MediaType{
			client.MediaTypeJSON:   {Schema: schemaOf[client.AuditPage](s), Example: client.AuditPage{Entries: []client.AuditEntry{exampleEntry()}}},
			client.MediaTypeNDJSON: {Schema: schemaOf[client.AuditEntry](s)},
			client.MediaTypeCSV:    {Schema: text()},
		},
	}}
	s.handlePlain(e, s.audit)
}

// audit answers GET /v1/audit in the form that the caller asks for.
func (s *Server) audit(x *exchange, r *http.Request) {
	bounded, cancel := s.withTimeout(x, r)
	defer cancel()
	form, err := auditForm(r)
	var q projections.AuditQuery
	if err == nil {
		q, err = s.auditQuery(bounded.Context(), r)
	}
	switch {
	case err != nil:
	case form == client.MediaTypeJSON:
		err = s.pageAudit(bounded.Context(), x, q)
	default:
		err = s.exportAudit(x, r, q, form)
	}
	s.endLong(x, r, err)
}

// auditForm returns the media type of the answer. A link cannot have an Accept.
func auditForm(r *http.Request) (string, error) {
	switch r.URL.Query().Get("format") {
	case "":
		return accepted(r.Header.Get("Accept"), client.MediaTypeNDJSON, client.MediaTypeCSV), nil
	case "json":
		return client.MediaTypeJSON, nil
	case "ndjson":
		return client.MediaTypeNDJSON, nil
	case "csv":
		return client.MediaTypeCSV, nil
	default:
		return "", badParameter(domain.CodeValidation, "format", "not a form of the audit log", "use json, ndjson or csv")
	}
}

// auditQuery reads what is asked for, within the caller's reach, and waits until the
// tables can answer it.
func (s *Server) auditQuery(ctx context.Context, r *http.Request) (q projections.AuditQuery, err error) {
	query := r.URL.Query()
	q = projections.AuditQuery{
		Actor: domain.ActorID(query.Get("actor")), Action: projections.Action(query.Get("action")), Key: domain.KeyID(query.Get("key_id")),
		Command: domain.CommandName(query.Get("command")), CommandID: query.Get("command_id"), RequestID: query.Get("request_id"),
		Page: query.Get("page_token"),
	}
	if q.Clock, err = rangeOf(timeParam(query.Get("from_time")), "from_time", timeParam(query.Get("to_time")), "to_time"); err != nil {
		return q, err
	}
	if q.FromSeq, err = seqParam(query.Get("from_seq")).read("from_seq"); err != nil {
		return q, err
	}
	if q.ToSeq, err = seqParam(query.Get("to_seq")).read("to_seq"); err != nil {
		return q, err
	}
	switch query.Get("order") {
	case "", "newest":
	case "oldest":
		q.OldestFirst = true
	default:
		return q, badParameter(domain.CodeValidation, "order", "not an order of the audit log", "use newest or oldest")
	}
	if q.PageSize, err = sizeParam(query.Get("page_size")).read(); err != nil {
		return q, err
	}
	if q.Account, err = s.reach(ctx, domain.AccountID(query.Get("account"))); err != nil {
		return q, err
	}
	return q, s.awaitAsked(ctx, &s.tables, seqParam(query.Get("min_seq")))
}

// pageAudit answers one page.
func (s *Server) pageAudit(ctx context.Context, x *exchange, q projections.AuditQuery) error {
	release, err := s.reads.acquire(ctx, x.authority.Actor, false)
	if err != nil {
		return err
	}
	page, err := s.cfg.Audit.Audit(ctx, q)
	release()
	if err != nil {
		return fromTables(err)
	}
	out := client.AuditPage{
		Entries:       make([]client.AuditEntry, len(page.Entries)),
		NextPageToken: page.Next, PrevPageToken: page.Prev, SearchedToSeq: page.SearchedTo,
	}
	for i := range page.Entries {
		out.Entries[i] = wireEntry(&page.Entries[i])
	}
	var body bytes.Buffer
	if err := marshalJSON(&body, out); err != nil {
		return err
	}
	x.Header()["Content-Type"] = contentJSON
	_, _ = x.Write(body.Bytes()) // the caller is gone if it fails
	return nil
}

// wireEntry shows an entry as the API does.
func wireEntry(e *projections.AuditEntry) client.AuditEntry {
	w := client.AuditEntry{
		Seq: e.Seq, Time: e.Time.UTC(), Account: string(e.Account), Actor: string(e.Actor), Action: string(e.Action),
		Command: string(e.Command), Subject: e.Subject, Changes: make([]client.AuditChange, len(e.Changes)),
		Reason: e.Reason, Void: string(e.Void), CommandID: e.CommandID, RequestID: e.RequestID, EventID: e.EventID,
	}
	for i, c := range e.Changes {
		w.Changes[i] = client.AuditChange{Field: c.Field, Before: orNull(c.Before), After: orNull(c.After)}
	}
	return w
}

func orNull(value json.RawMessage) json.RawMessage {
	if len(value) == 0 {
		return json.RawMessage("null")
	}
	return value
}

func exampleEntry() client.AuditEntry {
	return client.AuditEntry{
		Seq: 57, Time: exampleTime(), Account: "default", Actor: "key_9bQwXr3LmZ0vTc7K", Action: string(projections.ActionKeyRevoked),
		Command: string(domain.CommandRevokeKey), Subject: exampleID, Reason: "laptop lost",
		Changes: []client.AuditChange{{
			Field: "revoked_at", Before: json.RawMessage("null"), After: json.RawMessage(`"` + exampleTime().Format(time.RFC3339) + `"`),
		}},
		CommandID: "ticket-4711", RequestID: "0198c0de-0000-7000-8000-000000000001", EventID: "0198c0de-0000-7000-8000-000000000002",
	}
}
