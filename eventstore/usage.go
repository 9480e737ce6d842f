package eventstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/domain"
)

// UsageReport says how keys were used, as a verifier saw it: one message of the
// stream KEYLEDGER_USAGE. docs/usage.md documents its form.
type UsageReport struct {
	// Reporter is the node or verifier that reports; it is the last token of the subject.
	Reporter string `json:"reporter"`
	// Run names one run of the reporter. Numbers begin with 1 in each and go up with
	// every report, in the order of the stream, so that one that came twice is known.
	Run    string `json:"run"`
	Number uint64 `json:"number"`
	// Day is the day, UTC, to which the counts belong: 2006-01-02.
	Day  string    `json:"day"`
	From time.Time `json:"from"` // the uses are of this time…
	To   time.Time `json:"to"`   // …to this
	Uses []KeyUse  `json:"uses"`
}

// KeyUse is the use of one key in a [UsageReport].
type KeyUse struct {
	Key   domain.KeyID `json:"key"`
	Last  int64        `json:"last"` // microseconds since 1970
	Count uint64       `json:"count"`
}

// MaxUsesPerReport keeps a report below 256 KiB.
const MaxUsesPerReport = 2000

// ID names the report, over all reporters.
func (r UsageReport) ID() string { return fmt.Sprintf("%s-%d", r.Run, r.Number) }

// PublishUsage stores a report and returns when it is acknowledged. After an error it
// may be stored or not; sent again it is dropped within the stream's window for
// repeats, and known by its number after that.
func (l *Log) PublishUsage(ctx context.Context, r UsageReport) error {
	subject, err := UsageSubject(r.Reporter)
	if err != nil {
		return fmt.Errorf("report uses: %w", err)
	}
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("report uses: %w", err)
	}
	err = l.publishUsage(ctx, subject, data, r.ID())
	if errors.Is(err, jetstream.ErrNoStreamResponse) { // nobody has made the stream, or it was removed
		if _, opening := l.OpenSide(ctx, SideUsage); opening == nil {
			err = l.publishUsage(ctx, subject, data, r.ID())
		}
	}
	if err != nil {
		return &domain.Error{
			Kind: domain.KindUnavailable, Code: CodeLogUnavailable, Message: "report uses: the stream " + string(SideUsage) + " does not answer",
			Fix: "nothing: it is tried again; if it lasts, look at the NATS server's log", Cause: err,
		}
	}
	return nil
}

func (l *Log) publishUsage(ctx context.Context, subject string, data []byte, id string) error {
	ctx, cancel := context.WithTimeout(ctx, l.ackTimeout)
	defer cancel()
	_, err := l.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: data}, jetstream.WithMsgID(id), jetstream.WithExpectStream(string(SideUsage)))
	return err
}

// UsagePosition is a place in the stream KEYLEDGER_USAGE: in which stream of that
// name, by the time it was made at, and after which message. Zero is before the first.
type UsagePosition struct {
	Stream time.Time
	Seq    uint64
}

// UsageBatch is consecutive reports.
type UsageBatch struct {
	Reports  []UsageReport
	At       UsagePosition // after the last of them
	CaughtUp bool          // no more are waiting
}

// TailUsage hands over the reports after a position, in order, for ever; it lives
// through reconnections and changes of leader. What the stream does not hold any more
// is left out. Of a position in another stream than there is, or beyond its end, it
// begins with the first report. What is no report is left out and logged.
//
// It returns when the context ends (its error), when handle fails (that error), or
// when the stream is not configured as it must be (*[DriftError]).
func (l *Log) TailUsage(ctx context.Context, from UsagePosition, handle func(context.Context, UsageBatch) error) error {
	t := &usageTail{log: l, at: from, handle: handle}
	for pause := retryFirst; ; pause = min(2*pause, retryMost) {
		before := t.at
		err := t.session(ctx)
		if f, ok := errors.AsType[finalError](err); ok {
			return f.err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if t.at != before {
			pause = retryFirst
		}
		l.logger.InfoContext(ctx, "reading reports of use starts anew", attrErr(err))
		if !sleep(ctx, pause) {
			return ctx.Err()
		}
	}
}
