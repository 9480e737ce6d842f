package intake

import (
	"context"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/go-json-experiment/json"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/feed"
)

// Records reads what became of commands, and sends dead ones again. It is safe for
// concurrent use, and needs no running intake.
type Records struct {
	streams *eventstore.CommandStreams
	sender  *feed.Publisher
}

// NewRecords makes the records of a log's commands. streams are what
// eventstore.Log.Commands returned; each is opened when it is first read.
func NewRecords(log *eventstore.Log, streams *eventstore.CommandStreams) (*Records, error) {
	sender, err := feed.NewPublisher(feed.PublisherConfig{JetStream: log.JetStream()})
	if err != nil {
		return nil, err
	}
	return &Records{streams: streams, sender: sender}, nil
}

// Outcome returns what became of a command that was sent over NATS, or a
// KindNotFound error.
func (r *Records) Outcome(ctx context.Context, account domain.AccountID, id string) (client.CommandOutcome, error) {
	stored, err := r.streams.Outcome(ctx, account, id)
	if err != nil {
		return client.CommandOutcome{}, err
	}
	var o client.CommandOutcome
	if err := json.Unmarshal(stored.Body, &o); err != nil {
		return o, fmt.Errorf("read the outcome of a command: %w", err)
	}
	return o, nil
}

// DeadLetters returns at most limit dead letters from a seq on, oldest first, and the
// seq to go on from; 0 if there are no more.
func (r *Records) DeadLetters(ctx context.Context, of eventstore.Senders, from uint64, limit int) ([]client.DeadLetter, uint64, error) {
	found, next, err := r.streams.DeadLetters(ctx, of, from, limit)
	if err != nil {
		return nil, 0, err
	}
	list := make([]client.DeadLetter, len(found))
	for i, d := range found {
		list[i] = wireLetter(d)
	}
	return list, next, nil
}

// DeadLetter returns one dead letter, or a KindNotFound error.
func (r *Records) DeadLetter(ctx context.Context, seq uint64) (client.DeadLetter, error) {
	d, err := r.streams.DeadLetter(ctx, seq)
	if err != nil {
		return client.DeadLetter{}, err
	}
	return wireLetter(d), nil
}

// Resend publishes a dead command on its subject again, as its producer sent it, but
// without anybody who waits for a reply; a header says who had it sent. One that was
// never a command of anybody, or had something taken out, is a KindConflict error.
func (r *Records) Resend(ctx context.Context, seq uint64, by domain.ActorID) (client.Resent, error) {
	d, err := r.streams.DeadLetter(ctx, seq)
	if err != nil {
		return client.Resent{}, err
	}
	switch {
	case d.Headers[headerRedacted] == strconv.FormatBool(true):
		return client.Resent{}, domain.NewError(domain.KindConflict, "dead_letter_redacted",
			"the command held what looks like a token, which was not kept", "have its producer send the command again, without the token; revoke the key if the token was real")
	case d.Address.Producer == nobody:
		return client.Resent{}, domain.NewError(domain.KindConflict, "dead_letter_without_producer",
			"the message was published on a subject of no producer", "have its sender publish it on keyledger.commands.<account>.<producer>.<command>")
	}
	subject, err := d.Address.Subject()
	if err != nil {
		return client.Resent{}, err
	}
	m := message.NewMessageWithContext(ctx, "", d.Body)
	m.Metadata.Set(headerResent, strconv.FormatUint(seq, 10))
	m.Metadata.Set(headerResentBy, string(by))
	if err := r.sender.Publish(subject, m); err != nil {
		return client.Resent{}, &domain.Error{
			Kind: domain.KindUnavailable, Code: eventstore.CodeLogUnavailable, Message: "the command could not be published", Fix: "try again", Cause: err,
		}
	}
	return client.Resent{ID: d.Headers[headerID], Account: string(d.Address.Account), Subject: subject}, nil
}

func wireLetter(d eventstore.DeadLetter) client.DeadLetter {
	w := client.DeadLetter{
		Seq: d.Seq, Time: d.Time.UTC(), Account: string(d.Address.Account), Producer: string(d.Address.Producer), Command: string(d.Address.Command),
		ID: d.Headers[headerID], Code: d.Headers[headerReason], Message: d.Headers[headerMessage], Fix: d.Headers[headerFix],
		Subject: d.Headers[headerSubject], Redacted: d.Headers[headerRedacted] == strconv.FormatBool(true), BodyBytes: len(d.Body),
	}
	w.SentSeq, _ = strconv.ParseUint(d.Headers[headerSeq], 10, 64)
	if utf8.Valid(d.Body) {
		w.Body = string(d.Body)
	}
	return w
}
