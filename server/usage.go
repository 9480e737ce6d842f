package server

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// usageSpan is how many days are shown unless somebody asks for others.
const usageSpan = 30

const aboutUsage = "A use is a check that was answered VALID. Verifiers report their uses every minute, so that the last minute or two may be missing. " +
	"Days are those of UTC; days without use are left out. Without from and to, the 30 days up to today; at most 400 days at once, which is how long counts are kept."

// usageRoutes registers how often keys were used.
func (s *Server) usageRoutes() {
	handle(s, endpointOf(http.MethodGet, pathKey+"/usage", "get-key-usage", tagKeys, "Show how often a key was used", domain.ScopeKeysRead, aboutUsage).
		answers(exampleUsage(exampleID)), s.keyUsage)
	handle(s, endpointOf(http.MethodGet, pathManagementKey+"/usage", "get-management-key-usage", tagManagement, "Show how often a management key was used", domain.ScopeOperate, aboutUsage).
		answers(exampleUsage("key_9bQwXr3LmZ0vTc7K")), s.managementKeyUsage)
}

func exampleUsage(id string) client.KeyUsage {
	used := exampleTime()
	return client.KeyUsage{
		KeyID: id, From: "2029-12-17", To: "2030-01-15", Days: []client.DayUsage{{Day: "2030-01-14", Count: 12_034}, {Day: "2030-01-15", Count: 311}},
		Total: 12_345, LastUsedAt: &used,
	}
}

type keyUsageInput struct {
	ID   idParam  `path:"id"`
	From dayParam `query:"from" doc:"The first day."`
	To   dayParam `query:"to" doc:"The last day, included."`

	MinSeq seqParam `query:"min_seq"`
}

type keyUsageOutput struct {
	Body client.KeyUsage
}

func (s *Server) keyUsage(ctx context.Context, in *keyUsageInput) (*keyUsageOutput, error) {
	return s.usage(ctx, domain.KeyTypeAPI, in)
}

func (s *Server) managementKeyUsage(ctx context.Context, in *keyUsageInput) (*keyUsageOutput, error) {
	return s.usage(ctx, domain.KeyTypeManagement, in)
}

func (s *Server) usage(ctx context.Context, t domain.KeyType, in *keyUsageInput) (*keyUsageOutput, error) {
	from, to, err := in.span(s.now())
	if err != nil {
		return nil, err
	}
	if err := s.awaitAsked(ctx, &s.tables, in.MinSeq); err != nil {
		return nil, err
	}
	target, err := s.target(ctx, t, in.ID)
	if err != nil {
		return nil, err
	}
	// The days first: what is merged in between then shows in the last use, and no
	// count is given of a key that seems never to have been used.
	days, err := s.cfg.Usage.DailyUse(ctx, target.ID, from, to)
	if err != nil {
		return nil, fromTables(err)
	}
	record, err := s.readKey(ctx, target.ID, nil)
	if err != nil {
		return nil, err
	}
	if record.Account != target.Account || record.Type != t {
		return nil, disagree(target.ID)
	}
	out := &keyUsageOutput{Body: client.KeyUsage{
		KeyID: string(target.ID), From: from.String(), To: to.String(), Days: make([]client.DayUsage, len(days)), LastUsedAt: optionalTime(record.LastUsedAt),
	}}
	for i, d := range days {
		out.Body.Days[i] = client.DayUsage{Day: d.Day.String(), Count: d.Count}
		out.Body.Total += d.Count
	}
	return out, nil
}

// span reads which days are asked for.
func (in *keyUsageInput) span(now time.Time) (from, to projections.Day, err error) {
	to = projections.DayOf(now)
	if in.To != "" {
		if to, err = in.To.read("to"); err != nil {
			return from, to, err
		}
	}
	from = to - usageSpan + 1
	if in.From != "" {
		if from, err = in.From.read("from"); err != nil {
			return from, to, err
		}
	}
	switch {
	case from > to:
		return from, to, badParameter(domain.CodeValidation, "from", "after the last day", "give the first day as from and the last as to; to is today unless it is given")
	case to-from >= projections.UsageDays:
		return from, to, badParameter(domain.CodeValidation, "from", "more than 400 days before the last", "ask for at most 400 days at once")
	}
	return max(from, 0), to, nil
}

// dayParam is a day, UTC, from 1970 on.
type dayParam string

// Schema implements huma.SchemaProvider.
func (dayParam) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "date", Examples: []any{"2030-01-31"}}
}

func (p dayParam) read(name string) (projections.Day, error) {
	t, err := time.Parse(time.DateOnly, string(p))
	if err != nil || t.Before(time.Unix(0, 0)) {
		return 0, badParameter(domain.CodeValidation, name, "not a day", "use a date from 1970 on, for example 2030-01-31; days are those of UTC")
	}
	return projections.DayOf(t), nil
}

// optionalTime returns a time for the wire, where null stands for "not known".
func optionalTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	utc := t.UTC()
	return &utc
}

// usedSinceRotation returns when a key was last used, if that was after it was
// rotated; zero otherwise. The time of a use is never before the use, so that what is
// not after the rotation was not used since, as far as is reported.
func usedSinceRotation(r projections.KeyRecord) time.Time {
	if r.RotatedAt.IsZero() || !r.LastUsedAt.After(r.RotatedAt) {
		return time.Time{}
	}
	return r.LastUsedAt
}
