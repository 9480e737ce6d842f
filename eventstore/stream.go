package eventstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// maxMessageBytes bounds body and headers together.
const maxMessageBytes = 40 << 10

// maxConsumerIdle is how long the server keeps a consumer, durable or not, that
// nobody reads. Whoever may read the log may create consumers, of any sort. It is
// what the clients' ordered consumers ask for; one that asks for more is refused.
const maxConsumerIdle = 5 * time.Minute

// streamConfig is how the stream must be configured: a log from which nothing can
// be removed, neither by request nor by a limit, an age or a schedule.
func streamConfig(replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:               StreamName,
		Description:        "keyledger: every change to every key, in order",
		Subjects:           []string{SubjectPrefix + ".>"},
		Retention:          jetstream.LimitsPolicy,
		Discard:            jetstream.DiscardNew,
		MaxConsumers:       -1,
		ConsumerLimits:     jetstream.StreamConsumerLimits{InactiveThreshold: maxConsumerIdle},
		MaxMsgs:            -1,
		MaxBytes:           -1,
		MaxMsgsPerSubject:  -1,
		MaxMsgSize:         maxMessageBytes,
		Storage:            jetstream.FileStorage,
		Replicas:           replicas,
		Duplicates:         2 * time.Minute,
		DenyDelete:         true,
		DenyPurge:          true,
		AllowDirect:        true,
		AllowAtomicPublish: true,
	}
}

// drift compares what decides whether the log keeps its promises, and leaves out
// what does not: description, placement, metadata, compression.
func drift(want, got jetstream.StreamConfig) error {
	var fields []DriftField
	add := func(name string, w, g any) {
		ws, gs := fmt.Sprint(w), fmt.Sprint(g)
		if ws != gs {
			fields = append(fields, DriftField{Name: name, Want: ws, Got: gs})
		}
	}
	add("subjects", want.Subjects, got.Subjects)
	add("retention", want.Retention, got.Retention)
	add("discard", want.Discard, got.Discard)
	add("discard_new_per_subject", want.DiscardNewPerSubject, got.DiscardNewPerSubject)
	add("max_consumers", want.MaxConsumers, got.MaxConsumers)
	add("consumer_limits.inactive_threshold", want.ConsumerLimits.InactiveThreshold, got.ConsumerLimits.InactiveThreshold)
	add("max_msgs", want.MaxMsgs, got.MaxMsgs)
	add("max_bytes", want.MaxBytes, got.MaxBytes)
	add("max_age", want.MaxAge, got.MaxAge)
	add("max_msgs_per_subject", want.MaxMsgsPerSubject, got.MaxMsgsPerSubject)
	add("max_msg_size", want.MaxMsgSize, got.MaxMsgSize)
	add("storage", want.Storage, got.Storage)
	add("num_replicas", want.Replicas, got.Replicas)
	add("no_ack", want.NoAck, got.NoAck)
	add("duplicate_window", want.Duplicates, got.Duplicates)
	add("sealed", want.Sealed, got.Sealed)
	add("deny_delete", want.DenyDelete, got.DenyDelete)
	add("deny_purge", want.DenyPurge, got.DenyPurge)
	add("allow_rollup_hdrs", want.AllowRollup, got.AllowRollup)
	add("allow_direct", want.AllowDirect, got.AllowDirect)
	add("allow_msg_ttl", want.AllowMsgTTL, got.AllowMsgTTL)
	add("subject_delete_marker_ttl", want.SubjectDeleteMarkerTTL, got.SubjectDeleteMarkerTTL)
	add("allow_msg_counter", want.AllowMsgCounter, got.AllowMsgCounter)
	add("allow_atomic", want.AllowAtomicPublish, got.AllowAtomicPublish)
	add("allow_msg_schedules", want.AllowMsgSchedules, got.AllowMsgSchedules)
	add("allow_batched", want.AllowBatchPublish, got.AllowBatchPublish)
	add("persist_mode", want.PersistMode, got.PersistMode)
	add("first_seq", uint64(1), max(got.FirstSeq, 1))
	add("mirror", "none", presence(got.Mirror != nil))
	add("sources", "none", presence(len(got.Sources) > 0))
	add("subject_transform", "none", presence(got.SubjectTransform != nil))
	add("republish", "none", presence(got.RePublish != nil))
	if len(fields) == 0 {
		return nil
	}
	return &DriftError{Fields: fields}
}

func presence(set bool) string {
	if set {
		return "some"
	}
	return "none"
}

// openStream finds or creates the stream and checks it. Nodes may start together:
// the one that comes second finds the stream of the first.
func (l *Log) openStream(ctx context.Context) error {
	want := streamConfig(l.replicas)
	return l.retry(ctx, "open the stream", func(ctx context.Context) error {
		stream, err := l.js.Stream(ctx, StreamName)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			stream, err = l.js.CreateStream(ctx, want)
		}
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			stream, err = l.js.Stream(ctx, StreamName)
		}
		if err != nil {
			return err
		}
		info := stream.CachedInfo()
		if err := drift(want, info.Config); err != nil {
			return definite(err)
		}
		if err := whole(info); err != nil {
			return definite(err)
		}
		l.stream, l.created = stream, info.Created
		l.observe(info.State.LastSeq)
		return nil
	})
}

// whole checks that nothing is missing from the stream.
func whole(info *jetstream.StreamInfo) error {
	s := info.State
	switch {
	case s.LastSeq > 0 && s.FirstSeq != 1:
		return fmt.Errorf("%w: it begins at %d", ErrHistoryReplaced, s.FirstSeq)
	case s.NumDeleted > 0:
		return fmt.Errorf("%w: %d events inside it are missing", ErrHistoryReplaced, s.NumDeleted)
	default:
		return nil
	}
}

// peerSilence is how long a replica may not have been heard of by the leader,
// which sends heartbeats every second.
const peerSilence = 5 * time.Second

// settled reports whether the stream's answer can be believed about what is not
// there. A node that is cut off from the majority goes on answering for a while,
// with old numbers; then it does not hear of the others.
func settled(info *jetstream.StreamInfo) bool {
	c := info.Cluster
	if c == nil || len(c.Replicas) == 0 {
		return true
	}
	heard := 1
	for _, r := range c.Replicas {
		if !r.Offline && r.Active < peerSilence {
			heard++
		}
	}
	return c.Leader != "" && heard > (len(c.Replicas)+1)/2
}
