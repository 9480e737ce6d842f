package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/domain"
)

const (
	// quiet is how long no server answers before all are taken to have answered.
	quiet = 250 * time.Millisecond
	// lookTimeout bounds one look.
	lookTimeout = 10 * time.Second
)

// connection is what the server tells of a client.
type connection struct {
	ID   uint64 `json:"cid"`
	User string `json:"authorized_user"`
}

// page is an answer to a request for connections.
type page struct {
	Server struct {
		ID string `json:"id"`
	} `json:"server"`
	Data struct {
		Total       int          `json:"total"`
		Offset      int          `json:"offset"`
		Connections []connection `json:"connections"`
	} `json:"data"`
}

// pageRequest asks for connections, with their users.
type pageRequest struct {
	Auth    bool   `json:"auth"`
	Account string `json:"acc"`
	Offset  int    `json:"offset"`
	Limit   int    `json:"limit"`
}

// look looks once at every client's connection on every server and ends those
// whose key is not good any more. The server asks for credentials once, when a
// connection begins, and a connection may last for months.
func (d *Door) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	err := d.tryLook(ctx)
	switch {
	case errors.Is(ctx.Err(), context.Canceled), errors.Is(err, ErrNotReady):
		return // the node is ending, or does not know the keys and says so elsewhere
	case err == nil:
		if d.fault.Swap(nil) != nil {
			d.logger.InfoContext(ctx, "the open nats connections can be seen again")
		}
	default:
		err = fmt.Errorf("nats connections of keys that have ended may go on: %w", err)
		if d.fault.Swap(&err) == nil {
			d.logger.ErrorContext(ctx, "the open nats connections cannot be looked after", slog.Any("error", err))
		}
	}
}

func (d *Door) tryLook(ctx context.Context) error {
	pages, err := d.pages(ctx)
	if err != nil || !slices.ContainsFunc(pages, d.hasClients) {
		return err
	}
	// Whoever is in was let in by some node, which knew the key. This one knows it as
	// well after this, so that what it does not know then is not there.
	if err := d.cfg.Keys.CatchUp(ctx); err != nil {
		return fmt.Errorf("catch up with the log: %w", err)
	}
	for i := range pages {
		if err := d.judge(ctx, &pages[i]); err != nil {
			return err
		}
	}
	return nil
}

// pages lists all connections on all servers. It is done before any is ended, since
// that would shift what comes after.
func (d *Door) pages(ctx context.Context) ([]page, error) {
	pages, err := d.firstPages(ctx)
	if err != nil {
		return nil, err
	}
	for i := range pages {
		for p := &pages[i]; ; {
			next := p.Data.Offset + len(p.Data.Connections)
			if len(p.Data.Connections) == 0 || next >= p.Data.Total {
				break
			}
			if p, err = d.nextPage(ctx, p.Server.ID, next); err != nil {
				return nil, err
			}
			pages = append(pages, *p)
		}
	}
	return pages, nil
}

// firstPages asks all servers at once. How many there are nobody knows: the last
// is the one after which none comes.
func (d *Door) firstPages(ctx context.Context) ([]page, error) {
	inbox := d.cfg.System.NewRespInbox()
	sub, err := d.cfg.System.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("list the connections: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	body, err := json.Marshal(pageRequest{Auth: true, Account: AccountClients, Limit: d.cfg.PageSize})
	if err != nil {
		return nil, fmt.Errorf("list the connections: %w", err)
	}
	if err := d.cfg.System.PublishRequest("$SYS.REQ.SERVER.PING.CONNZ", inbox, body); err != nil {
		return nil, fmt.Errorf("list the connections: %w", err)
	}
	var pages []page
	for wait := 5 * time.Second; ; wait = quiet {
		bounded, cancel := context.WithTimeout(ctx, wait)
		msg, err := sub.NextMsgWithContext(bounded)
		cancel()
		switch {
		case err == nil:
			p, err := parsePage(msg)
			if err != nil {
				return nil, err
			}
			pages = append(pages, *p)
		case len(pages) > 0 && errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			return pages, nil
		default:
			return nil, fmt.Errorf("list the connections: %w", err)
		}
	}
}

func (d *Door) nextPage(ctx context.Context, server string, offset int) (*page, error) {
	body, err := json.Marshal(pageRequest{Auth: true, Account: AccountClients, Offset: offset, Limit: d.cfg.PageSize})
	if err != nil {
		return nil, fmt.Errorf("list the connections: %w", err)
	}
	msg, err := d.cfg.System.RequestWithContext(ctx, "$SYS.REQ.SERVER."+server+".CONNZ", body)
	if err != nil {
		return nil, fmt.Errorf("list the connections: %w", err)
	}
	return parsePage(msg)
}

func parsePage(msg *nats.Msg) (*page, error) {
	var p page
	if err := json.Unmarshal(msg.Data, &p); err != nil {
		return nil, fmt.Errorf("list the connections: %w", err)
	}
	return &p, nil
}

// judge ends the connections of a page whose keys are not good. The user that the
// server names is the one that a node has put into the permissions.
func (d *Door) judge(ctx context.Context, p *page) error {
	for _, c := range p.Data.Connections {
		if !d.isClient(c) {
			continue
		}
		authority, err := d.cfg.Keys.Active(domain.KeyID(c.User))
		switch {
		case err == nil && !For(authority).None():
			continue
		case err != nil && !errors.Is(err, ErrRefused):
			return err
		}
		if err := d.end(ctx, p.Server.ID, c); err != nil {
			return err
		}
	}
	return nil
}

// isClient leaves out nodes, and connections that have not given credentials yet.
func (d *Door) isClient(c connection) bool { return c.User != "" && c.User != d.public.Clients }

func (d *Door) hasClients(p page) bool { return slices.ContainsFunc(p.Data.Connections, d.isClient) }

func (d *Door) end(ctx context.Context, server string, c connection) error {
	body, err := json.Marshal(map[string]uint64{"cid": c.ID})
	if err != nil {
		return fmt.Errorf("end a connection: %w", err)
	}
	// An error in the answer means that the connection has ended by itself.
	if _, err := d.cfg.System.RequestWithContext(ctx, "$SYS.REQ.SERVER."+server+".KICK", body); err != nil {
		return fmt.Errorf("end a connection: %w", err)
	}
	d.metrics.ended.Inc()
	d.logger.InfoContext(ctx, "a nats connection was ended: its key is not good any more", slog.String("user", c.User))
	return nil
}
