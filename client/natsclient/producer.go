package natsclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
)

const (
	defaultTimeout = 30 * time.Second
	defaultSource  = "keyledger-go"
	defaultAccount = "default"

	connectTimeout = 5 * time.Second
	reconnectWait  = 500 * time.Millisecond
)

// Config says how to reach NATS and who sends. URL and Token, or Conn and KeyID, are
// required.
type Config struct {
	// URL of the NATS servers, several separated by commas:
	// tls://nats-1.example.com:4222.
	URL string
	// Token of the management key. It is asked for before every connection, so that
	// one that was replaced is picked up; it must stay one of the same key.
	Token client.TokenSource
	// Options are added to those of the connection: TLS, a name. nil: none.
	Options []nats.Option
	// Conn is a connection to use in the place of URL. It must have the inbox prefix
	// _INBOX_<key id>, and should not buffer while it is cut off
	// (nats.ReconnectBufSize(-1)). It stays the caller's to close. What NATS refuses is
	// not told to the producer then: calls wait until their time is over.
	Conn *nats.Conn

	// KeyID is the id of the management key. "": what Token says.
	KeyID string
	// Account is whose keys the commands are about: the management key's own; one of
	// the instance may name any. "": default.
	Account string
	// Brand of the tokens made here, the server's. "": none.
	Brand string
	// Source of the commands' CloudEvents: what program sends. "": keyledger-go.
	Source string
	// Timeout bounds a call whose context has no deadline. 0: 30 seconds.
	Timeout time.Duration
	// Logger is told of lost connections and of what is tried again; never of a token.
	// nil: nobody is told.
	Logger *slog.Logger
}

// Producer sends commands. It is safe for concurrent use.
type Producer struct {
	cfg    Config
	keyID  string
	conn   *nats.Conn
	js     jetstream.JetStream
	logger *slog.Logger
	inbox  string // what replies' subjects begin with, the dot included
	sub    *nats.Subscription

	mu      sync.Mutex
	waiting map[string]chan *nats.Msg // by inbox
	refused map[string]refusal        // by the subject that may not be published on
	back    chan struct{}             // closed, and made anew, at every reconnection
	closed  chan struct{}
	closing sync.Once
}

// refusal is closed when the server says no to a subject.
type refusal struct {
	done  chan struct{}
	users int
}

// New connects and begins to listen for replies. The caller must Close the producer.
func New(ctx context.Context, cfg Config) (*Producer, error) {
	p := &Producer{
		cfg: cfg, keyID: cfg.KeyID, conn: cfg.Conn, logger: cfg.Logger,
		waiting: map[string]chan *nats.Msg{}, refused: map[string]refusal{},
		back: make(chan struct{}), closed: make(chan struct{}),
	}
	if err := p.setDefaults(ctx); err != nil {
		return nil, err
	}
	if p.conn == nil {
		if err := p.connect(ctx); err != nil {
			return nil, err
		}
	}
	err := p.listen(ctx)
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (p *Producer) setDefaults(ctx context.Context) error {
	if p.logger == nil {
		p.logger = slog.New(slog.DiscardHandler)
	}
	if p.cfg.Timeout <= 0 {
		p.cfg.Timeout = defaultTimeout
	}
	if p.cfg.Source == "" {
		p.cfg.Source = defaultSource
	}
	if p.cfg.Account == "" {
		p.cfg.Account = defaultAccount
	}
	switch {
	case p.conn == nil && (p.cfg.URL == "" || p.cfg.Token == nil):
		return errors.New("natsclient: give URL and Token, or Conn and KeyID")
	case p.conn != nil && p.keyID == "":
		return errors.New("natsclient: KeyID is required with Conn")
	case p.keyID == "":
		token, err := p.cfg.Token(ctx)
		if err != nil {
			return fmt.Errorf("natsclient: get the token: %w", err)
		}
		parsed, err := domain.TokenFormat{}.ParseToken(strings.TrimSpace(token))
		if err != nil || parsed.Type != domain.KeyTypeManagement {
			return errors.New("natsclient: the token is none of a management key (kl_admin_…)")
		}
		p.keyID = string(parsed.KeyID)
	}
	if !domain.ValidID(p.keyID) || !domain.ValidID(p.cfg.Account) {
		return errors.New("natsclient: KeyID or Account has not the form of an id")
	}
	return nil
}

// connect connects as the management key. Lost connections are made anew for as long
// as it takes: while no server of keyledger is up, nobody is let in.
func (p *Producer) connect(ctx context.Context) error {
	options := append([]nats.Option{
		nats.Name(p.cfg.Source), nats.Timeout(connectTimeout), nats.CustomInboxPrefix(p.inboxPrefix()),
		nats.UserInfoHandler(func() (user, password string) {
			token, err := p.cfg.Token(context.WithoutCancel(ctx))
			if err != nil {
				p.logger.WarnContext(ctx, "the token cannot be had", slog.Any("error", err))
			}
			return p.keyID, strings.TrimSpace(token)
		}),
		nats.MaxReconnects(-1), nats.ReconnectWait(reconnectWait), nats.IgnoreAuthErrorAbort(), nats.ReconnectBufSize(-1),
		nats.ReconnectHandler(func(*nats.Conn) { p.reconnected() }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				p.logger.WarnContext(ctx, "the connection to nats is lost", slog.Any("error", err))
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			p.logger.WarnContext(ctx, "nats reports an error", slog.Any("error", err))
			p.permissionError(err)
		}),
	}, p.cfg.Options...)
	conn, err := nats.Connect(p.cfg.URL, options...)
	if errors.Is(err, nats.ErrAuthorization) {
		return &client.Error{
			Code: "unauthorized", Detail: "NATS does not let this management key in",
			Fix: "see that the key is active and holds keyledger.commands, and that a server of keyledger is up: without one nobody is let in",
		}
	}
	if err != nil {
		return fmt.Errorf("natsclient: connect to NATS: %w", err)
	}
	p.conn = conn
	return nil
}

func (p *Producer) inboxPrefix() string { return "_INBOX_" + p.keyID }

// listen subscribes to the inbox of this producer, and waits until the server knows.
func (p *Producer) listen(ctx context.Context) (err error) {
	if p.js, err = jetstream.New(p.conn); err != nil {
		return fmt.Errorf("natsclient: %w", err)
	}
	p.inbox = p.inboxPrefix() + "." + nuid.Next() + "."
	if p.sub, err = p.conn.Subscribe(p.inbox+"*", p.reply); err != nil {
		return fmt.Errorf("natsclient: listen for replies: %w", err)
	}
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	if err := p.conn.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("natsclient: listen for replies: %w", err)
	}
	return nil
}

// bounded gives a context without a deadline one.
func (p *Producer) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, p.cfg.Timeout)
}

// Close ends the producer; calls that wait return. It may be called more than once.
// A connection that was given stays open.
func (p *Producer) Close() {
	p.closing.Do(func() { close(p.closed) })
	if p.sub != nil {
		_ = p.sub.Unsubscribe() // the connection may be gone
	}
	if p.cfg.Conn == nil && p.conn != nil {
		p.conn.Close()
	}
}

func (p *Producer) reply(msg *nats.Msg) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if waiting, ok := p.waiting[msg.Subject]; ok {
		select {
		case waiting <- msg:
		default: // there is one already: the command was delivered twice
		}
	}
}

// await registers an inbox and returns it with what comes there.
func (p *Producer) await() (inbox string, replies <-chan *nats.Msg, done func()) {
	waiting := make(chan *nats.Msg, 1)
	p.mu.Lock()
	defer p.mu.Unlock()
	inbox = p.inbox + nuid.Next()
	p.waiting[inbox] = waiting
	return inbox, waiting, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.waiting, inbox)
	}
}

func (p *Producer) reconnected() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.back)
	p.back = make(chan struct{})
}

// backAgain is closed at the next reconnection.
func (p *Producer) backAgain() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.back
}

// permissionError ends calls that wait for an answer about a subject which this key
// may not use: the server tells of it by itself, and answers nothing.
func (p *Producer) permissionError(err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for subject, r := range p.refused {
		if strings.Contains(err.Error(), `"`+subject+`"`) {
			close(r.done)
			delete(p.refused, subject)
		}
	}
}

// mayRefuse returns a channel that is closed if the server refuses a subject.
func (p *Producer) mayRefuse(subject string) (refused <-chan struct{}, done func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r, ok := p.refused[subject]
	if !ok {
		r.done = make(chan struct{})
	}
	r.users++
	p.refused[subject] = r
	return r.done, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if now, ok := p.refused[subject]; ok && now.done == r.done {
			if now.users--; now.users == 0 {
				delete(p.refused, subject)
			} else {
				p.refused[subject] = now
			}
		}
	}
}
