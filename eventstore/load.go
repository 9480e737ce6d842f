package eventstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

const (
	// loadSingly is how many events of an aggregate are asked for one by one,
	// 50 µs each, before a batch, which takes 1.5 ms and more, pays.
	loadSingly = 16
	// loadPage is how many events one batch returns.
	loadPage = 256
)

// Load reads the history of an aggregate; empty if there is none.
//
// The last event is asked for first. An unknown aggregate needs no more than
// that, nor does one whose last event was appended as its first, and for others
// it says where the history ends: a batch read that stops short (a stale
// follower, a lost packet) is completed by the leader, never taken for the whole.
func (l *Log) Load(ctx context.Context, a Aggregate, c Consistency) (History, error) {
	subject, err := a.Subject()
	if err != nil {
		return History{}, fmt.Errorf("load: %w", err)
	}
	what := "load " + a.String()
	last, err := l.lastOf(ctx, what, subject, c)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return History{}, nil
	}
	if err != nil {
		return History{}, err
	}
	msgs, err := l.upTo(ctx, what, last)
	if err != nil {
		return History{}, err
	}
	h := History{Events: make([]Event, len(msgs)), LastSeq: last.Sequence}
	for i, m := range msgs {
		if h.Events[i], err = decode(m.Sequence, a, m.Data); err != nil {
			return History{}, fmt.Errorf("%s: %w", what, err)
		}
	}
	l.observe(last.Sequence)
	return h, nil
}

// Head returns the seq of the last event as the leader knows it, 0 if there is none.
func (l *Log) Head(ctx context.Context) (uint64, error) {
	var head uint64
	err := l.retry(ctx, "read the end of the log", func(ctx context.Context) error {
		info, err := l.stream.Info(ctx)
		if err == nil {
			head = info.State.LastSeq
		}
		return err
	})
	return head, err
}

// ServerTime returns the time by the clock of the server that leads the log: on a
// cluster that of another machine, and on the embedded server this one's.
func (l *Log) ServerTime(ctx context.Context) (time.Time, error) {
	var now time.Time
	err := l.retry(ctx, "read the clock of the server", func(ctx context.Context) error {
		info, err := l.stream.Info(ctx)
		if err == nil {
			now = info.TimeStamp
		}
		return err
	})
	return now, err
}

// At returns the event with this seq, or [ErrNoEvent].
func (l *Log) At(ctx context.Context, seq uint64) (Event, error) {
	what := fmt.Sprintf("read event %d", seq)
	if seq == 0 {
		return Event{}, fmt.Errorf("%s: %w", what, ErrNoEvent)
	}
	var msg *jetstream.RawStreamMsg
	err := l.retry(ctx, what, func(ctx context.Context) (err error) {
		if msg, err = l.stream.GetMsg(ctx, seq); errors.Is(err, jetstream.ErrMsgNotFound) {
			msg, err = l.fromLeader(ctx, leaderRequest{Seq: seq})
		}
		return err
	})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Event{}, fmt.Errorf("%s: %w", what, ErrNoEvent)
	}
	if err != nil {
		return Event{}, err
	}
	a, err := parseSubject(msg.Subject)
	if err != nil {
		return Event{}, fmt.Errorf("%s: %w", what, err)
	}
	return decode(msg.Sequence, a, msg.Data)
}

// lastOf returns the last message of a subject, or jetstream.ErrMsgNotFound.
func (l *Log) lastOf(ctx context.Context, what, subject string, c Consistency) (msg *jetstream.RawStreamMsg, err error) {
	err = l.retry(ctx, what, func(ctx context.Context) (err error) {
		if c == Leader {
			msg, err = l.fromLeader(ctx, leaderRequest{LastFor: subject})
		} else {
			msg, err = l.stream.GetLastMsgForSubject(ctx, subject)
		}
		return err
	})
	return msg, err
}

// upTo returns the messages of last's subject up to last. The seq that last was
// appended upon, which the server has checked, tells when nothing is missing.
func (l *Log) upTo(ctx context.Context, what string, last *jetstream.RawStreamMsg) (msgs []*jetstream.RawStreamMsg, err error) {
	before := last.Header.Get(jetstream.ExpectedLastSubjSeqHeader)
	next := uint64(1)
	complete := func() bool { return next > last.Sequence || strconv.FormatUint(next-1, 10) == before }
	add := func(got ...*jetstream.RawStreamMsg) {
		msgs = append(msgs, got...)
		next = got[len(got)-1].Sequence + 1
	}
	for !complete() {
		got, err := l.some(ctx, last.Subject, next, last.Sequence, len(msgs) < loadSingly)
		if err != nil || len(got) == 0 {
			break
		}
		add(got...)
	}
	for !complete() {
		var msg *jetstream.RawStreamMsg
		err := l.retry(ctx, what, func(ctx context.Context) (err error) {
			msg, err = l.fromLeader(ctx, leaderRequest{Seq: next, NextFor: last.Subject})
			return err
		})
		if err != nil {
			return nil, err
		}
		add(msg)
	}
	if next <= last.Sequence {
		add(last)
	}
	return msgs, nil
}

// some asks any replica for messages of a subject from next to last, one or
// several. It may return fewer than there are.
func (l *Log) some(ctx context.Context, subject string, next, last uint64, one bool) (msgs []*jetstream.RawStreamMsg, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.ackTimeout)
	defer cancel()
	if one {
		msg, err := l.stream.GetMsg(ctx, next, jetstream.WithGetMsgSubject(subject))
		if err != nil || msg.Sequence > last {
			return nil, err
		}
		return append(msgs, msg), nil
	}
	page, err := jetstreamext.GetBatch(ctx, l.js, StreamName, loadPage, jetstreamext.GetBatchSeq(next), jetstreamext.GetBatchSubject(subject))
	if err != nil {
		return nil, err
	}
	for msg, err := range page {
		if err != nil {
			return msgs, err
		}
		if msg.Sequence > last {
			break
		}
		msgs = append(msgs, msg)
	}
	return msgs, nil
}

// leaderRequest is the body of $JS.API.STREAM.MSG.GET, which only the stream's
// leader answers; nats.go sends direct requests, which any replica answers, once
// the stream allows them.
type leaderRequest struct {
	Seq     uint64 `json:"seq,omitempty"`
	LastFor string `json:"last_by_subj,omitempty"`
	NextFor string `json:"next_by_subj,omitempty"`
}

type leaderResponse struct {
	Error   *jetstream.APIError `json:"error"`
	Message *struct {
		Subject  string    `json:"subject"`
		Sequence uint64    `json:"seq"`
		Header   []byte    `json:"hdrs"`
		Data     []byte    `json:"data"`
		Time     time.Time `json:"time"`
	} `json:"message"`
}

func (l *Log) fromLeader(ctx context.Context, req leaderRequest) (*jetstream.RawStreamMsg, error) {
	return l.fromLeaderOf(ctx, StreamName, req)
}

func (l *Log) fromLeaderOf(ctx context.Context, stream string, req leaderRequest) (*jetstream.RawStreamMsg, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return nil, definite(err)
	}
	reply, err := l.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, body)
	if err != nil {
		return nil, err
	}
	var resp leaderResponse
	if err := json.Unmarshal(reply.Data, &resp); err != nil {
		return nil, fmt.Errorf("read the leader's answer: %w", err)
	}
	switch {
	case resp.Error != nil && resp.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return nil, jetstream.ErrMsgNotFound
	case resp.Error != nil:
		return nil, resp.Error
	case resp.Message == nil:
		return nil, errors.New("the leader's answer has neither message nor error")
	}
	m := resp.Message
	msg := &jetstream.RawStreamMsg{Subject: m.Subject, Sequence: m.Sequence, Data: m.Data, Time: m.Time}
	if len(m.Header) > 0 {
		if msg.Header, err = nats.DecodeHeadersMsg(m.Header); err != nil {
			return nil, fmt.Errorf("read the leader's answer: %w", err)
		}
	}
	return msg, nil
}
