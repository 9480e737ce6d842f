package server

import (
	"context"
	"fmt"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// What the documentation says of reads.
const (
	aboutLists = "A page can be read in both directions: next_page_token and prev_page_token. In the orders by created_at no key is on two pages, " +
		"and keys that are created while pages are read appear on none of the later ones. " +
		"A search that finds little stops now and then: a page may hold fewer keys than page_size, or none, and yet have a next_page_token."
	aboutPast = "\n\nWith at or seq, the keys as they were then, in an order by created_at; nothing is known of past use. " +
		"as_of_seq is the last event that the answer takes into account."
	aboutPastKey = "With at or seq, the key as it was then: 404 before it was created. The ETag is that version's."
)

// KeyFilters are the parameters that both lists of keys have. huma finds them in
// what embeds them by an exported name only.
type KeyFilters struct {
	Account        string    `query:"account"`
	Status         string    `query:"status" enum:"active,revoked,expired" doc:"What the keys are now, by the server's clock; with at or seq, what they were then."`
	Scope          string    `query:"scope" doc:"Keys that hold it, by name, by resource:* or by full access."`
	Q              string    `query:"q" doc:"Text in the name, the description or the metadata, whatever the case."`
	CreatedBy      string    `query:"created_by" doc:"Keys that the management key with this id made."`
	CreatedAfter   timeParam `query:"created_after" doc:"Keys created at this instant or later."`
	CreatedBefore  timeParam `query:"created_before" doc:"Keys created before this instant."`
	ExpiringAfter  timeParam `query:"expiring_after" doc:"Keys with an expiry at this instant or later."`
	ExpiringBefore timeParam `query:"expiring_before" doc:"Keys with an expiry before this instant."`
	Sort           string    `query:"sort" enum:"-created_at,created_at,name,-name,expires_at,-expires_at,last_used_at,-last_used_at" doc:"The order; - turns it round. Keys that never expire come after all that do, keys that were never used before all that were. Absent: newest first."`
	Count          flagParam `query:"count" doc:"Whether the answer says how many keys match, whatever the page."`
	At             timeParam `query:"at"`
	Seq            seqParam  `query:"seq"`
	PageSize       sizeParam `query:"page_size"`
	PageToken      string    `query:"page_token"`
	MinSeq         seqParam  `query:"min_seq"`
}

type listKeysInput struct {
	KeyFilters

	Environment string    `query:"environment" enum:"live,test" doc:"Keys of this environment."`
	UsedAfter   timeParam `query:"used_after" doc:"Keys last used at this instant or later."`
	UsedBefore  timeParam `query:"used_before" doc:"Keys last used before this instant."`
	UnusedSince timeParam `query:"unused_since" doc:"Keys created before this instant and not used at it or later."`
}

type keyPageOutput struct {
	Body client.KeyPage
}

func (s *Server) listKeys(ctx context.Context, in *listKeysInput) (*keyPageOutput, error) {
	q := projections.KeyQuery{Type: domain.KeyTypeAPI, Environment: domain.Environment(in.Environment)}
	var err error
	if q.LastUsed, err = rangeOf(in.UsedAfter, "used_after", in.UsedBefore, "used_before"); err != nil {
		return nil, err
	}
	if q.UnusedSince, err = in.UnusedSince.read("unused_since"); err != nil {
		return nil, err
	}
	return s.list(ctx, &in.KeyFilters, q)
}

// list answers one page of a query, within the caller's reach. q holds what the
// common parameters do not say.
func (s *Server) list(ctx context.Context, in *KeyFilters, q projections.KeyQuery) (*keyPageOutput, error) {
	count, past, err := in.read(&q)
	if err != nil {
		return nil, err
	}
	if q.Account, err = s.reach(ctx, q.Account); err != nil {
		return nil, err
	}
	if err := s.awaitAsked(ctx, &s.tables, in.MinSeq); err != nil {
		return nil, err
	}
	out := &keyPageOutput{}
	if past.asked {
		if q.At, err = s.moment(ctx, past); err != nil {
			return nil, err
		}
		out.Body.AsOfSeq = &q.At.Seq
	}
	release, err := s.reads.acquire(ctx, exchangeOf(ctx).authority.Actor, count)
	if err != nil {
		return nil, err
	}
	defer release()
	q.Now = s.now()
	page, err := s.cfg.Keys.Keys(ctx, q)
	if err != nil {
		return nil, fromTables(err)
	}
	out.Body.Keys = make([]client.Key, len(page.Keys))
	out.Body.NextPageToken, out.Body.PrevPageToken = page.Next, page.Prev
	for i, record := range page.Keys {
		out.Body.Keys[i] = wireRecord(record, page.Now)
	}
	if count {
		q.Now = page.Now // count what the pages show
		n, err := s.cfg.Keys.CountKeys(ctx, q)
		if err != nil {
			return nil, fromTables(err)
		}
		out.Body.Count = &client.KeyCount{Keys: n.Keys, AtLeast: n.AtLeast}
	}
	return out, nil
}

// read puts the parameters into a query.
func (in *KeyFilters) read(q *projections.KeyQuery) (count bool, past pastParams, err error) {
	q.Account, q.Status, q.Scope = domain.AccountID(in.Account), domain.Status(in.Status), domain.Scope(in.Scope)
	q.Text, q.CreatedBy = in.Q, domain.ActorID(in.CreatedBy)
	q.Sort, q.Page = projections.KeySort(in.Sort), in.PageToken
	if q.Created, err = rangeOf(in.CreatedAfter, "created_after", in.CreatedBefore, "created_before"); err != nil {
		return count, past, err
	}
	if q.Expires, err = rangeOf(in.ExpiringAfter, "expiring_after", in.ExpiringBefore, "expiring_before"); err != nil {
		return count, past, err
	}
	if q.PageSize, err = in.PageSize.read(); err != nil {
		return count, past, err
	}
	if count, err = in.Count.read("count"); err != nil {
		return count, past, err
	}
	past, err = readPast(in.At, in.Seq)
	return count, past, err
}

// reach returns the account that a read is limited to: the one named, the caller's
// own, or "" for all.
func (s *Server) reach(ctx context.Context, account domain.AccountID) (domain.AccountID, error) {
	authority := exchangeOf(ctx).authority
	if authority.Instance() && account == "" {
		return "", nil
	}
	if account != "" {
		if _, err := domain.ParseAccountID(string(account)); err != nil {
			return "", aboutParameters(err)
		}
	}
	return authority.ResolveAccount(account)
}

type getKeyInput struct {
	ID     idParam   `path:"id"`
	At     timeParam `query:"at"`
	Seq    seqParam  `query:"seq"`
	MinSeq seqParam  `query:"min_seq"`
}

func (s *Server) getKey(ctx context.Context, in *getKeyInput) (*keyOutput, error) {
	return s.get(ctx, domain.KeyTypeAPI, in)
}

func (s *Server) get(ctx context.Context, t domain.KeyType, in *getKeyInput) (*keyOutput, error) {
	past, err := readPast(in.At, in.Seq)
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
	out := &keyOutput{}
	var at *projections.Moment
	now := s.now()
	if past.asked {
		if at, err = s.moment(ctx, past); err != nil {
			return nil, err
		}
		now, out.Body.AsOfSeq = at.Time, &at.Seq
	}
	record, err := s.readKey(ctx, target.ID, at)
	if err != nil {
		return nil, err
	}
	if record.Account != target.Account || record.Type != t {
		return nil, disagree(target.ID)
	}
	exchangeOf(ctx).seq = record.Seq
	out.ETag, out.Body.Key, out.Body.Seq = etag(record.Seq), wireRecord(record, now), record.Seq
	return out, nil
}

// readKey reads a key, as it is or was. The table is asked for keys that the caller
// may see and for no other: see target.
func (s *Server) readKey(ctx context.Context, id domain.KeyID, at *projections.Moment) (projections.KeyRecord, error) {
	record, err := s.cfg.Keys.Key(ctx, id, at)
	if err != nil {
		return record, fromTables(err)
	}
	return record, nil
}

func disagree(id domain.KeyID) error {
	return fmt.Errorf("the key table and the verifier do not agree whose key %s is", id)
}
