package eventstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/domain"
)

// CodeNoOutcome says that nothing is known of a command.
const CodeNoOutcome = "command_not_found"

// headerSent is on a stored outcome: which message of the stream of commands it is of.
const headerSent = "Keyledger-Sent"

// Sent says which message carried a command: its place in the stream of commands, when
// the stream got it (which tells it from one of an earlier stream), and a digest of
// its subject and body, which a repeat has too.
type Sent struct {
	Seq    uint64
	Time   time.Time
	Digest string // lower-case hex
}

// Same reports whether both are of one message.
func (s Sent) Same(o Sent) bool { return s.Seq == o.Seq && s.Seq > 0 && s.Time.Equal(o.Time) }

// Repeats reports whether s is of a later message than o that says the same.
func (s Sent) Repeats(o Sent) bool {
	return s.Digest != "" && s.Digest == o.Digest && s.Time.After(o.Time)
}

func (s Sent) header() string { return fmt.Sprintf("%d %d %s", s.Seq, s.Time.UnixNano(), s.Digest) }

// parseSent is zero for what is no header of a stored outcome.
func parseSent(header string) (s Sent) {
	var nano int64
	if n, _ := fmt.Sscanf(header, "%d %d %s", &s.Seq, &nano, &s.Digest); n < 3 {
		return Sent{}
	}
	s.Time = time.Unix(0, nano).UTC()
	return s
}

// StoredOutcome is what became of a command, as it is kept.
type StoredOutcome struct {
	Body []byte
	Sent Sent   // of the message that it is of; zero if that is not known
	Seq  uint64 // its place in the stream of outcomes; not used by PutOutcome
}

// PutOutcome stores what became of a command, in the place of what was stored under
// its id before. It returns when it is stored.
func (c *CommandStreams) PutOutcome(ctx context.Context, account domain.AccountID, id string, o StoredOutcome) error {
	return c.putOutcome(ctx, account, id, o)
}

// PutOutcomeAfter is PutOutcome if what was stored last has the seq after, 0 if there
// was nothing. Otherwise it lets stand what is there.
func (c *CommandStreams) PutOutcomeAfter(ctx context.Context, account domain.AccountID, id string, o StoredOutcome, after uint64) error {
	err := c.putOutcome(ctx, account, id, o, jetstream.WithExpectLastSequencePerSubject(after))
	if conflicting(err) {
		return nil
	}
	return err
}

func (c *CommandStreams) putOutcome(ctx context.Context, account domain.AccountID, id string, o StoredOutcome, opts ...jetstream.PublishOpt) error {
	subject, err := OutcomeSubject(account, id)
	if err != nil {
		return err
	}
	msg := &nats.Msg{Subject: subject, Data: o.Body}
	if o.Sent.Seq > 0 {
		msg.Header = nats.Header{headerSent: {o.Sent.header()}}
	}
	ctx, cancel := context.WithTimeout(ctx, c.log.ackTimeout)
	defer cancel()
	if _, err = c.log.js.PublishMsg(ctx, msg, opts...); err != nil {
		return unavailable("store the outcome of a command", err)
	}
	return nil
}

func conflicting(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// Outcome returns what became of a command, or a KindNotFound error. Any replica
// answers, and one that lags behind may not know it yet.
func (c *CommandStreams) Outcome(ctx context.Context, account domain.AccountID, id string) (StoredOutcome, error) {
	return c.outcome(ctx, account, id, func(ctx context.Context, subject string) (*jetstream.RawStreamMsg, error) {
		outcomes, err := c.stream(ctx, SideOutcomes)
		if err != nil {
			return nil, err
		}
		return outcomes.GetLastMsgForSubject(ctx, subject)
	})
}

// LeaderOutcome is Outcome of the stream's leader, who knows what was stored last.
func (c *CommandStreams) LeaderOutcome(ctx context.Context, account domain.AccountID, id string) (StoredOutcome, error) {
	return c.outcome(ctx, account, id, func(ctx context.Context, subject string) (*jetstream.RawStreamMsg, error) {
		return c.log.fromLeaderOf(ctx, string(SideOutcomes), leaderRequest{LastFor: subject})
	})
}

func (c *CommandStreams) outcome(ctx context.Context, account domain.AccountID, id string, last func(context.Context, string) (*jetstream.RawStreamMsg, error)) (StoredOutcome, error) {
	subject, err := OutcomeSubject(account, id)
	if err != nil {
		return StoredOutcome{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.log.ackTimeout)
	defer cancel()
	msg, err := last(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return StoredOutcome{}, NoOutcome()
	}
	if err != nil {
		return StoredOutcome{}, cannot("read the outcome of a command", err)
	}
	return StoredOutcome{Body: msg.Data, Sent: parseSent(msg.Header.Get(headerSent)), Seq: msg.Sequence}, nil
}

// NoOutcome is the answer about a command of which nothing is known.
func NoOutcome() error {
	return domain.NewError(domain.KindNotFound, CodeNoOutcome, "nothing is known of this command",
		"see that the id and the account are right; a command that waits for a node has no outcome yet, and what changed nothing is known for 7 days")
}
