package natsclient

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/keyledger/keyledger/client"
)

const (
	replyHeader = "Keyledger-Reply"

	ackWait   = 5 * time.Second        // for one attempt to be acknowledged
	firstWait = 100 * time.Millisecond // between attempts; it doubles
	mostWait  = 2 * time.Second
	askEvery  = 2 * time.Second // for an outcome whose announcement may have been missed
)

// Sent is a command that is durable.
type Sent struct {
	ID    string       // for [Producer.Outcome]
	Token client.Token // made here or given; zero for commands that make no key
}

// PendingError says that the outcome of a command is not known. Ask [Producer.Outcome]
// for it later, or send the command again under the same id and with the same token.
type PendingError struct {
	ID string // of the command
	// Durable says that the command is stored: it will be carried out. Otherwise it may
	// be stored or not.
	Durable bool
	Err     error // why nobody waited any longer
}

// Error says whether the command is stored.
func (e *PendingError) Error() string {
	if e.Durable {
		return fmt.Sprintf("command %s is stored and has no outcome yet: %v", e.ID, e.Err)
	}
	return fmt.Sprintf("command %s may be stored or not: %v", e.ID, e.Err)
}

// Unwrap returns the cause.
func (e *PendingError) Unwrap() error { return e.Err }

var errClosed = errors.New("the producer is closed")

// send stores a command in the stream.
func (p *Producer) send(ctx context.Context, c command, err error) (Sent, error) {
	if err != nil {
		return Sent{}, err
	}
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	sent := Sent{ID: c.id, Token: c.token}
	return sent, p.publish(ctx, c, "")
}

// do sends a command and waits for its outcome.
func (p *Producer) do(ctx context.Context, c command, err error) (Outcome, error) {
	if err != nil {
		return Outcome{}, err
	}
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	out := Outcome{Token: c.token}
	out.ID = c.id
	// What became of this id before is no answer to what is sent now: a refusal is
	// decided anew.
	var before uint64
	if c.named {
		if before, err = p.lastOutcome(ctx, c.id); err != nil {
			return out, err
		}
	}
	inbox, replies, done := p.await()
	defer done()
	if err := p.publish(ctx, c, inbox); err != nil {
		return out, err
	}
	reply, err := p.outcome(ctx, c.id, before, replies)
	if err != nil {
		return out, err
	}
	out.CommandOutcome, out.Key = reply.CommandOutcome, reply.Key
	if reply.Token != "" {
		out.Token = client.TokenOf(reply.Token)
	}
	return out, refusalOf(out.CommandOutcome)
}

// publish sends a command until the stream has it or ctx ends.
func (p *Producer) publish(ctx context.Context, c command, inbox string) error {
	// Named after this call, not after the command: the stream drops a second message
	// of the same name without a word, and whoever sends the command again waits for an
	// answer. That it is carried out once is up to its id.
	name := c.id + "." + nuid.Next()
	for wait := firstWait; ; wait = min(2*wait, mostWait) {
		err := p.attempt(ctx, c, inbox, name)
		if _, refused := errors.AsType[*client.Error](err); refused || err == nil {
			return err
		}
		p.logger.WarnContext(ctx, "a command was not stored; trying again", slog.String("command_id", c.id), slog.Any("error", err))
		if !p.pause(ctx, wait) {
			return &PendingError{ID: c.id, Err: cmp.Or(p.ended(ctx), err)}
		}
	}
}

func (p *Producer) attempt(ctx context.Context, c command, inbox, name string) error {
	msg := &nats.Msg{Subject: c.subject, Data: c.body, Header: nats.Header{}}
	if inbox != "" {
		msg.Header.Set(replyHeader, inbox)
	}
	msg.Header.Set(jetstream.MsgIDHeader, name)
	refused, done := p.mayRefuse(c.subject)
	defer done()
	ctx, cancel := context.WithTimeout(ctx, ackWait)
	defer cancel()
	var err error
	acked := make(chan struct{})
	go func() {
		defer close(acked)
		_, err = p.js.PublishMsg(ctx, msg, jetstream.WithRetryAttempts(0))
	}()
	select {
	case <-acked:
		return storeError(err)
	case <-refused:
		cancel()
		<-acked
		return &client.Error{
			Code: "forbidden", Detail: "NATS does not let this key publish " + c.subject,
			Fix: "see that the account is that of the management key, and that the key holds keyledger.commands",
		}
	case <-p.closed:
		cancel()
		<-acked
		return errClosed
	}
}

// storeError turns what the stream says no to for good into an error for the caller.
func storeError(err error) error {
	api, ok := errors.AsType[*jetstream.APIError](err)
	if ok && api.ErrorCode == codeMessageTooLarge || errors.Is(err, nats.ErrMaxPayload) {
		return &client.Error{Code: "body_too_large", Detail: "the command is larger than 64 KiB", Fix: "send less"}
	}
	return err
}

// codeMessageTooLarge is the server's "message size exceeds maximum allowed".
const codeMessageTooLarge jetstream.ErrorCode = 10054

// pause waits, or until there is a connection again; false at the end of it all.
func (p *Producer) pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.backAgain():
		return true
	case <-ctx.Done():
	case <-p.closed:
	}
	return false
}

// ended says what has ended; nil if nothing has.
func (p *Producer) ended(ctx context.Context) error {
	select {
	case <-p.closed:
		return errClosed
	default:
		return ctx.Err()
	}
}

// Outcome returns what became of a command, and waits for it until ctx or the timeout
// ends; then the error is a [*PendingError]. Outcomes are kept for 7 days. A command
// that was refused, or can never be carried out, is a [*client.Error], as it is from
// the call that sends it.
func (p *Producer) Outcome(ctx context.Context, id string) (Outcome, error) {
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	out := Outcome{CommandOutcome: client.CommandOutcome{ID: id}}
	reply, err := p.outcome(ctx, id, 0, nil)
	if err != nil {
		return out, err
	}
	out.CommandOutcome = reply.CommandOutcome
	return out, refusalOf(out.CommandOutcome)
}

// outcome waits for an outcome that was stored after the one before: told to an inbox,
// announced, or found by asking, which no lost message can hide.
func (p *Producer) outcome(ctx context.Context, id string, before uint64, replies <-chan *nats.Msg) (client.CommandReply, error) {
	announced := make(chan *nats.Msg, 1)
	sub, err := p.conn.ChanSubscribe(p.outcomeSubject(id), announced)
	if err == nil {
		defer func() { _ = sub.Unsubscribe() }()
	} // otherwise there is no connection, and asking finds it later
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for ask := replies == nil; ; ask = true {
		if ask {
			body, seq, err := p.stored(ctx, id)
			if err == nil && seq > before {
				reply, err := readReply(body)
				if err != nil || reply.Producer == p.keyID { // another producer may use the same id
					return reply, err
				}
			}
			if err != nil && ctx.Err() == nil {
				p.logger.WarnContext(ctx, "an outcome cannot be asked for; trying again", slog.String("command_id", id), slog.Any("error", err))
			}
		}
		select {
		case msg := <-replies:
			return readReply(msg.Data)
		case <-announced: // the inbox says more, and is told a moment later
			announced = nil
			tick.Reset(askEvery)
			if replies == nil {
				continue
			}
			if msg := p.soon(ctx, replies); msg != nil {
				return readReply(msg.Data)
			}
		case <-tick.C:
		case <-p.backAgain():
		case <-ctx.Done():
			return client.CommandReply{}, &PendingError{ID: id, Durable: replies != nil, Err: ctx.Err()}
		case <-p.closed:
			return client.CommandReply{}, &PendingError{ID: id, Durable: replies != nil, Err: errClosed}
		}
	}
}

// soon waits a moment for a reply.
func (p *Producer) soon(ctx context.Context, replies <-chan *nats.Msg) *nats.Msg {
	timer := time.NewTimer(askEvery)
	defer timer.Stop()
	select {
	case msg := <-replies:
		return msg
	case <-timer.C:
	case <-ctx.Done():
	case <-p.closed:
	}
	return nil
}

func (p *Producer) outcomeSubject(id string) string {
	return "keyledger.outcomes." + p.cfg.Account + "." + id
}

// lastOutcome returns the place of the last outcome in the stream; 0 if there is none.
// While NATS does not answer it asks again, until ctx ends.
func (p *Producer) lastOutcome(ctx context.Context, id string) (seq uint64, err error) {
	for wait := firstWait; ; wait = min(2*wait, mostWait) {
		_, seq, err := p.stored(ctx, id)
		if err == nil {
			return seq, nil
		}
		p.logger.WarnContext(ctx, "an outcome cannot be asked for; trying again", slog.String("command_id", id), slog.Any("error", err))
		if !p.pause(ctx, wait) {
			return 0, &PendingError{ID: id, Err: cmp.Or(p.ended(ctx), err)}
		}
	}
}

// stored asks once for the outcome in the stream and its place there; 0 if there is
// none.
func (p *Producer) stored(ctx context.Context, id string) (body []byte, seq uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, ackWait)
	defer cancel()
	msg, err := p.conn.RequestWithContext(ctx, "$JS.API.DIRECT.GET.KEYLEDGER_OUTCOMES."+p.outcomeSubject(id), nil)
	if err != nil {
		return nil, 0, fmt.Errorf("ask for the outcome of %s: %w", id, err)
	}
	switch status := msg.Header.Get("Status"); status {
	case "":
		seq, err = strconv.ParseUint(msg.Header.Get(jetstream.SequenceHeader), 10, 64)
		return msg.Data, seq, err
	case "404":
		return nil, 0, nil
	default:
		return nil, 0, fmt.Errorf("ask for the outcome of %s: NATS answers with status %s", id, status)
	}
}

func readReply(body []byte) (client.CommandReply, error) {
	var reply client.CommandReply
	if err := json.Unmarshal(body, &reply); err != nil || reply.Outcome == "" {
		// Not wrapped: the text may quote the body, which may hold a token.
		return reply, errors.New("natsclient: what came is no outcome of keyledger")
	}
	return reply, nil
}

// refusalOf returns the error of a command that was not carried out.
func refusalOf(o client.CommandOutcome) error {
	if o.Outcome == client.OutcomeDone {
		return nil
	}
	return &client.Error{Code: o.Code, Title: o.Outcome, Detail: o.Message, Fix: o.Fix}
}
