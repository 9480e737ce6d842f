package natsclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
)

// Outcome is what became of a command. It may be printed, logged and marshalled: the
// token in it does not show.
type Outcome struct {
	client.CommandOutcome

	// Key is the key that the command made or changed; of a rotation, the new one. It
	// is nil where the outcome was not told to this call directly.
	Key *client.Key
	// Token is that of the key that the command makes. One that was made here is set
	// whatever came of the command, with an error too; one that was made by a server
	// is told once, and only to the call itself.
	Token client.Token
}

// Option changes one command.
type Option func(*options)

type options struct {
	id          string
	token       client.Token
	serverToken bool
}

// WithID names the command: however often a command of the same id is sent, by
// whatever process, it takes effect once. 1 to 64 letters, digits, '-' and '_', such as
// [client.NewCommandID] makes. Without it every call has a fresh one.
func WithID(id string) Option { return func(o *options) { o.id = id } }

// WithToken gives the key a token that the caller has made and kept.
func WithToken(t client.Token) Option { return func(o *options) { o.token = t } }

// WithServerToken has the token made by the server. It is told only to the inbox of
// this call, once: if that is lost, so is the token, and the key must be rotated.
func WithServerToken() Option { return func(o *options) { o.serverToken = true } }

// CreateKey creates a key and waits for the outcome.
//
// The token is made here unless the request has a TokenSHA256, or an option says
// otherwise. It is in the Outcome with an error too: after a [*PendingError] the same
// command is sent again with WithID(err.ID) and WithToken(outcome.Token).
//
// With an id of the caller's own the choice is the caller's too, since another token
// would be another command: make the token with [client.NewToken], keep it with the
// id, and use [WithToken], or say [WithServerToken].
func (p *Producer) CreateKey(ctx context.Context, req client.CreateKeyRequest, opts ...Option) (Outcome, error) {
	c, err := p.createKey(req, opts)
	return p.do(ctx, c, err)
}

// SendCreateKey is [Producer.CreateKey] that returns when the command is durable, with
// the id that [Producer.Outcome] takes, and the token.
func (p *Producer) SendCreateKey(ctx context.Context, req client.CreateKeyRequest, opts ...Option) (Sent, error) {
	c, err := p.createKey(req, opts)
	return p.send(ctx, c, err)
}

// UpdateKey changes what the request names and leaves the rest.
func (p *Producer) UpdateKey(ctx context.Context, keyID string, req client.UpdateKeyRequest, opts ...Option) (Outcome, error) {
	c, err := p.onKey(domain.CommandUpdateKey, keyID, req, collect(opts))
	return p.do(ctx, c, err)
}

// SendUpdateKey is [Producer.UpdateKey] that returns when the command is durable.
func (p *Producer) SendUpdateKey(ctx context.Context, keyID string, req client.UpdateKeyRequest, opts ...Option) (Sent, error) {
	c, err := p.onKey(domain.CommandUpdateKey, keyID, req, collect(opts))
	return p.send(ctx, c, err)
}

// RotateKey puts a new key in a key's place. Its token, which is made here, needs to
// know the environment; for everything else about tokens see [Producer.CreateKey].
func (p *Producer) RotateKey(ctx context.Context, keyID, environment string, req client.RotateKeyRequest, opts ...Option) (Outcome, error) {
	c, err := p.rotateKey(keyID, environment, req, opts)
	return p.do(ctx, c, err)
}

// SendRotateKey is [Producer.RotateKey] that returns when the command is durable.
func (p *Producer) SendRotateKey(ctx context.Context, keyID, environment string, req client.RotateKeyRequest, opts ...Option) (Sent, error) {
	c, err := p.rotateKey(keyID, environment, req, opts)
	return p.send(ctx, c, err)
}

// RevokeKey ends a key for good. Revoking a revoked key changes nothing.
func (p *Producer) RevokeKey(ctx context.Context, keyID string, req client.RevokeKeyRequest, opts ...Option) (Outcome, error) {
	c, err := p.onKey(domain.CommandRevokeKey, keyID, req, collect(opts))
	return p.do(ctx, c, err)
}

// SendRevokeKey is [Producer.RevokeKey] that returns when the command is durable.
func (p *Producer) SendRevokeKey(ctx context.Context, keyID string, req client.RevokeKeyRequest, opts ...Option) (Sent, error) {
	c, err := p.onKey(domain.CommandRevokeKey, keyID, req, collect(opts))
	return p.send(ctx, c, err)
}

func (p *Producer) createKey(req client.CreateKeyRequest, opts []Option) (command, error) {
	o := collect(opts)
	if err := p.chooseToken(&o, req.Environment, &req.TokenSHA256); err != nil {
		return command{}, err
	}
	return p.command(domain.CommandCreateKey, req, o)
}

func (p *Producer) rotateKey(keyID, environment string, req client.RotateKeyRequest, opts []Option) (command, error) {
	o := collect(opts)
	if err := p.chooseToken(&o, environment, &req.TokenSHA256); err != nil {
		return command{}, err
	}
	return p.onKey(domain.CommandRotateKey, keyID, req, o)
}

// chooseToken sets the hash that is sent, and makes a token if nobody has.
func (p *Producer) chooseToken(o *options, environment string, hash *string) (err error) {
	given := !o.token.IsZero()
	switch {
	case o.serverToken && (given || *hash != ""):
		return errors.New("natsclient: a token of the server's and one of the caller's exclude each other")
	case given && *hash != "" && *hash != o.token.SHA256():
		return errors.New("natsclient: TokenSHA256 is not that of the token")
	case o.serverToken, *hash != "":
		return nil
	case !given && o.id != "":
		return errors.New("natsclient: a command with an id of its own needs WithToken, TokenSHA256 or WithServerToken: another token would be another command")
	case !given:
		if o.token, err = client.NewToken(client.TokenSpec{Environment: environment, Brand: p.cfg.Brand}); err != nil {
			return err
		}
	}
	*hash = o.token.SHA256()
	return nil
}

func collect(opts []Option) options {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// command is one command, as it is sent however often.
type command struct {
	id      string
	subject string
	body    []byte
	token   client.Token // made here, or given
	named   bool         // by the caller: it may have been sent before
}

// onKey makes a command about a key: the body that HTTP takes, with the key's id.
func (p *Producer) onKey(name domain.CommandName, keyID string, req any, o options) (command, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return command{}, fmt.Errorf("natsclient: %s: the request cannot be written as JSON", name)
	}
	data := map[string]json.RawMessage{}
	if err := json.Unmarshal(body, &data); err != nil {
		return command{}, fmt.Errorf("natsclient: %s: the request is not an object", name)
	}
	id, err := json.Marshal(keyID)
	if err != nil {
		return command{}, fmt.Errorf("natsclient: %s: the key's id cannot be written as JSON", name)
	}
	maps.Copy(data, map[string]json.RawMessage{"key_id": id})
	return p.command(name, data, o)
}

// event is the CloudEvent of a command (CloudEvents 1.0, JSON format).
type event struct {
	SpecVersion     string `json:"specversion"`
	ID              string `json:"id"`
	Source          string `json:"source"`
	Type            string `json:"type"`
	DataContentType string `json:"datacontenttype"`
	Data            any    `json:"data"`
}

func (p *Producer) command(name domain.CommandName, data any, o options) (command, error) {
	c := command{id: o.id, named: o.id != "", token: o.token}
	if !c.named {
		c.id = client.NewCommandID()
	}
	if !domain.ValidID(c.id) || domain.ContainsToken(c.id) {
		return command{}, errors.New("natsclient: the id of the command is not 1 to 64 letters, digits, '-' and '_'")
	}
	c.subject = fmt.Sprintf("keyledger.commands.%s.%s.%s", p.cfg.Account, p.keyID, name)
	var err error
	c.body, err = json.Marshal(event{
		SpecVersion: "1.0", ID: c.id, Source: p.cfg.Source, Type: fmt.Sprintf("keyledger.command.%s.v1", name),
		DataContentType: client.MediaTypeJSON, Data: data,
	})
	if err != nil { // the text of err may quote the value
		return command{}, fmt.Errorf("natsclient: %s: the request cannot be written as JSON", name)
	}
	return c, nil
}
