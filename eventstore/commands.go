package eventstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/domain"
)

// ReplyHeader names the inbox that a producer waits at for the outcome of its
// command: JetStream takes a message's own reply address for its acknowledgement.
const ReplyHeader = "Keyledger-Reply"

// CodeNoOutcome says that nothing is known of a command; CodeNoDeadLetter that there
// is no dead letter with a sequence.
const (
	CodeNoOutcome    = "command_not_found"
	CodeNoDeadLetter = "dead_letter_not_found"
)

// CommandStreams are the streams that commands leave traces in: outcomes and dead
// letters. They are safe for concurrent use.
type CommandStreams struct {
	log      *Log
	outcomes jetstream.Stream
	dead     jetstream.Stream
}

// OpenCommands finds or creates the streams of commands: those on their way,
// outcomes and dead letters.
func (l *Log) OpenCommands(ctx context.Context) (*CommandStreams, error) {
	c := &CommandStreams{log: l}
	if _, err := l.OpenSide(ctx, SideCommands); err != nil {
		return nil, err
	}
	var err error
	if c.outcomes, err = l.OpenSide(ctx, SideOutcomes); err != nil {
		return nil, err
	}
	c.dead, err = l.OpenSide(ctx, SideDead)
	return c, err
}

// PutOutcome stores what became of a command, in the place of what was stored under
// its id before; unless keep, which lets that stand. It returns when it is stored.
func (c *CommandStreams) PutOutcome(ctx context.Context, account domain.AccountID, id string, body []byte, keep bool) error {
	subject, err := OutcomeSubject(account, id)
	if err != nil {
		return err
	}
	var opts []jetstream.PublishOpt
	if keep {
		opts = append(opts, jetstream.WithExpectLastSequencePerSubject(0))
	}
	ctx, cancel := context.WithTimeout(ctx, c.log.ackTimeout)
	defer cancel()
	_, err = c.log.js.Publish(ctx, subject, body, opts...)
	if keep && conflicting(err) {
		return nil
	}
	if err != nil {
		return unavailable("store the outcome of a command", err)
	}
	return nil
}

func conflicting(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// Outcome returns what became of a command, or a KindNotFound error.
func (c *CommandStreams) Outcome(ctx context.Context, account domain.AccountID, id string) ([]byte, error) {
	subject, err := OutcomeSubject(account, id)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.log.ackTimeout)
	defer cancel()
	msg, err := c.outcomes.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, domain.NewError(domain.KindNotFound, CodeNoOutcome, "nothing is known of this command",
			"see that the id and the account are right; a command that waits has no outcome yet, and outcomes are kept for 7 days")
	}
	if err != nil {
		return nil, unavailable("read the outcome of a command", err)
	}
	return msg.Data, nil
}

// Reply sends an outcome to the inbox that its producer waits at. Nobody keeps it:
// it may hold a token.
func (c *CommandStreams) Reply(inbox string, body []byte) error {
	if err := c.log.nc.Publish(inbox, body); err != nil {
		return fmt.Errorf("reply to a producer: %w", err)
	}
	return nil
}

// CheckReply refuses an inbox that does not lie under a producer's own prefix, or is
// not one plain subject.
func CheckReply(inbox string, producer domain.KeyID) error {
	const longest = 256
	rest, ok := strings.CutPrefix(inbox, InboxPrefix(string(producer))+".")
	ok = ok && len(inbox) <= longest
	for part := range strings.SplitSeq(rest, ".") {
		ok = ok && domain.ValidID(part)
	}
	if !ok || domain.ContainsToken(inbox) {
		return domain.NewError(domain.KindInvalid, "invalid_reply", "the header "+ReplyHeader+" does not name an inbox of the producer",
			"send one subject under "+InboxPrefix(string(producer))+". made of letters, digits, '-', '_' and dots")
	}
	return nil
}

// DeadLetter is a command that can never succeed, as it is kept.
type DeadLetter struct {
	Seq     uint64 // in the stream of dead letters
	Time    time.Time
	Address CommandAddress
	Headers map[string]string
	Body    []byte
}

// DeadLetters returns dead letters from a sequence on, oldest first, and the
// sequence to go on from; 0 if there are no more. account "" means all.
func (c *CommandStreams) DeadLetters(ctx context.Context, account domain.AccountID, from uint64, limit int) (list []DeadLetter, next uint64, err error) {
	filter := DeadPrefix + ".>"
	if account != "" {
		if filter, err = subject(DeadPrefix, string(account)); err != nil {
			return nil, 0, err
		}
		filter += ".>"
	}
	for from = max(from, 1); ; {
		msg, err := c.getDead(ctx, from, jetstream.WithGetMsgSubject(filter))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return list, 0, nil
		}
		if err != nil {
			return nil, 0, unavailable("read dead letters", err)
		}
		if len(list) == limit {
			return list, msg.Sequence, nil
		}
		letter, err := deadLetter(msg)
		if err != nil {
			return nil, 0, err
		}
		list = append(list, letter)
		from = msg.Sequence + 1
	}
}

// DeadLetter returns the dead letter with a sequence, or a KindNotFound error.
func (c *CommandStreams) DeadLetter(ctx context.Context, seq uint64) (DeadLetter, error) {
	msg, err := c.getDead(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) || seq == 0 {
		return DeadLetter{}, NoDeadLetter()
	}
	if err != nil {
		return DeadLetter{}, unavailable("read a dead letter", err)
	}
	return deadLetter(msg)
}

// NoDeadLetter is the answer about a dead letter that there is not, or that is none
// of the caller's.
func NoDeadLetter() error {
	return domain.NewError(domain.KindNotFound, CodeNoDeadLetter, "there is no such dead letter", "see the list of dead letters; they are kept for 90 days")
}

func (c *CommandStreams) getDead(ctx context.Context, seq uint64, opts ...jetstream.GetMsgOpt) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, c.log.ackTimeout)
	defer cancel()
	return c.dead.GetMsg(ctx, seq, opts...)
}

func deadLetter(msg *jetstream.RawStreamMsg) (DeadLetter, error) {
	address, err := ParseDeadSubject(msg.Subject)
	if err != nil {
		return DeadLetter{}, fmt.Errorf("dead letter %d: %w", msg.Sequence, err)
	}
	d := DeadLetter{Seq: msg.Sequence, Time: msg.Time, Address: address, Headers: map[string]string{}, Body: slices.Clip(msg.Data)}
	for name := range msg.Header {
		d.Headers[name] = msg.Header.Get(name)
	}
	return d, nil
}
