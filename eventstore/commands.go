package eventstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/domain"
)

// ReplyHeader names the inbox that a producer waits at for the outcome of its
// command: JetStream takes a message's own reply address for its acknowledgement.
const ReplyHeader = "Keyledger-Reply"

// CodeNoDeadLetter says that there is no dead letter with a sequence.
const CodeNoDeadLetter = "dead_letter_not_found"

// CommandStreams are the streams that commands leave traces in: outcomes and dead
// letters. Each is opened when it is first needed, so that what is wrong with one
// keeps only what needs it from going on. They are safe for concurrent use.
type CommandStreams struct {
	log *Log

	mu   sync.Mutex
	open map[Side]jetstream.Stream // guarded by mu
}

// Commands returns the streams of commands; it opens none of them.
func (l *Log) Commands() *CommandStreams {
	return &CommandStreams{log: l, open: map[Side]jetstream.Stream{}}
}

// OpenCommands is [Log.Commands] and [CommandStreams.Open].
func (l *Log) OpenCommands(ctx context.Context) (*CommandStreams, error) {
	c := l.Commands()
	if err := c.Open(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// Open finds or creates the streams of commands: those on their way, outcomes and
// dead letters. It looks at each anew, however often it is called.
func (c *CommandStreams) Open(ctx context.Context) error {
	for _, side := range []Side{SideCommands, SideOutcomes, SideDead} {
		if _, err := c.find(ctx, side); err != nil {
			return err
		}
	}
	return nil
}

func (c *CommandStreams) find(ctx context.Context, side Side) (jetstream.Stream, error) {
	stream, err := c.log.OpenSide(ctx, side)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[side] = stream
	return stream, nil
}

// stream returns a stream that was opened, or opens it. One that cannot be is a
// KindUnavailable error: an operator can put it right.
func (c *CommandStreams) stream(ctx context.Context, side Side) (jetstream.Stream, error) {
	c.mu.Lock()
	stream := c.open[side]
	c.mu.Unlock()
	if stream != nil {
		return stream, nil
	}
	stream, err := c.find(ctx, side)
	if err != nil && domain.KindOf(err) != domain.KindUnavailable && ctx.Err() == nil {
		return nil, &domain.Error{
			Kind: domain.KindUnavailable, Code: CodeLogUnavailable, Message: "the stream " + string(side) + " cannot be opened",
			Fix: "have the operator look at GET /readyz and at the log of the node", Cause: err,
		}
	}
	return stream, err
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

// Senders narrows dead letters to those in an account's and a producer's name. ""
// means any.
type Senders struct {
	Account  domain.AccountID
	Producer domain.KeyID
}

// Include says whether a dead letter with this account and producer is meant.
func (s Senders) Include(account domain.AccountID, producer domain.KeyID) bool {
	return (s.Account == "" || s.Account == account) && (s.Producer == "" || s.Producer == producer)
}

func (s Senders) filter() (string, error) {
	const each = "*"
	for _, part := range []string{string(s.Account), string(s.Producer)} {
		if part == "" {
			continue
		}
		if _, err := subject(DeadPrefix, part); err != nil {
			return "", err
		}
	}
	return strings.Join([]string{DeadPrefix, or(string(s.Account), each), or(string(s.Producer), each), ">"}, "."), nil
}

// DeadLetters returns dead letters from a sequence on, oldest first, and the
// sequence to go on from; 0 if there are no more.
func (c *CommandStreams) DeadLetters(ctx context.Context, of Senders, from uint64, limit int) (list []DeadLetter, next uint64, err error) {
	filter, err := of.filter()
	if err != nil {
		return nil, 0, err
	}
	for from = max(from, 1); ; {
		msg, err := c.getDead(ctx, from, jetstream.WithGetMsgSubject(filter))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return list, 0, nil
		}
		if err != nil {
			return nil, 0, cannot("read dead letters", err)
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
		return DeadLetter{}, cannot("read a dead letter", err)
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
	dead, err := c.stream(ctx, SideDead)
	if err != nil {
		return nil, err
	}
	return dead.GetMsg(ctx, seq, opts...)
}

// cannot is unavailable, unless err says already what is.
func cannot(what string, err error) error {
	if domain.KindOf(err) == domain.KindUnavailable {
		return err
	}
	return unavailable(what, err)
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
