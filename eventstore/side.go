package eventstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Side names a stream beside the log. None of them is history: they hold what is
// on its way, or what is kept for a while, and may be limited and purged.
type Side string

// The streams beside the log.
const (
	// SideCommands keeps what producers publish until it was carried out.
	SideCommands Side = "KEYLEDGER_COMMANDS"
	// SideOutcomes keeps what became of each command, without any token.
	SideOutcomes Side = "KEYLEDGER_OUTCOMES"
	// SideDead keeps commands that can never succeed, with the reason.
	SideDead Side = "KEYLEDGER_DEAD"
	// SideUsage keeps verifiers' reports of when and how often keys were used.
	SideUsage Side = "KEYLEDGER_USAGE"
)

const (
	// maxCommandMessageBytes leaves room for headers beside the 64 KiB that a
	// command's body may have.
	maxCommandMessageBytes = 80 << 10

	outcomesAge = 7 * 24 * time.Hour
	deadAge     = 90 * 24 * time.Hour
	usageAge    = 30 * 24 * time.Hour
)

// sideConfig is how a stream beside the log is made. An operator may change its
// limits; what it carries and how it is read may not differ, see [sideDrift].
func sideConfig(side Side, replicas int) (jetstream.StreamConfig, error) {
	cfg := jetstream.StreamConfig{
		Name: string(side), Storage: jetstream.FileStorage, Replicas: replicas,
		Retention: jetstream.LimitsPolicy, AllowDirect: true, Duplicates: 2 * time.Minute,
	}
	switch side {
	case SideCommands:
		// Limits retention, purged up to what was carried out: a work queue pays a
		// synced write for every acknowledgement. Nothing goes by age: a command that
		// waits for a node is not forgotten.
		cfg.Description = "keyledger: commands on their way"
		cfg.Subjects = []string{CommandPrefix + ".>"}
		cfg.MaxMsgSize = maxCommandMessageBytes
		cfg.Discard = jetstream.DiscardNew
	case SideOutcomes:
		cfg.Description = "keyledger: what became of commands"
		cfg.Subjects = []string{OutcomePrefix + ".>"}
		cfg.MaxAge, cfg.MaxMsgsPerSubject = outcomesAge, 1
		cfg.RePublish = &jetstream.RePublish{Source: OutcomePrefix + ".>", Destination: AnnouncePrefix + ".>"}
	case SideDead:
		cfg.Description = "keyledger: commands that cannot succeed"
		cfg.Subjects = []string{DeadPrefix + ".>"}
		cfg.MaxAge = deadAge
	case SideUsage:
		cfg.Description = "keyledger: when keys were used"
		cfg.Subjects = []string{UsagePrefix + ".>"}
		cfg.MaxAge = usageAge
		cfg.Compression = jetstream.S2Compression // reports are much alike
	default:
		return cfg, fmt.Errorf("no stream beside the log is called %q", side)
	}
	return cfg, nil
}

// OpenSide finds or creates a stream beside the log. One that carries something
// else, or in another way, is a *[DriftError].
func (l *Log) OpenSide(ctx context.Context, side Side) (jetstream.Stream, error) {
	want, err := sideConfig(side, l.replicas)
	if err != nil {
		return nil, err
	}
	var stream jetstream.Stream
	err = l.retry(ctx, "open the stream "+want.Name, func(ctx context.Context) error {
		found, err := l.js.Stream(ctx, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			found, err = l.js.CreateStream(ctx, want)
		}
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another node was faster
			found, err = l.js.Stream(ctx, want.Name)
		}
		if err != nil {
			return err
		}
		if err := sideDrift(want, found.CachedInfo().Config); err != nil {
			return definite(err)
		}
		stream = found
		return nil
	})
	return stream, err
}

// JetStream returns the API that the log uses, for what reads and writes the
// streams beside it. Nobody else writes to the log itself.
func (l *Log) JetStream() jetstream.JetStream { return l.js }

// Replicas is how many copies there are of the log, and of what is kept beside it.
func (l *Log) Replicas() int { return l.replicas }

func sideDrift(want, got jetstream.StreamConfig) error {
	var fields []DriftField
	if !slices.Equal(want.Subjects, got.Subjects) {
		fields = append(fields, DriftField{Name: "subjects", Want: fmt.Sprint(want.Subjects), Got: fmt.Sprint(got.Subjects)})
	}
	if want.Retention != got.Retention {
		fields = append(fields, DriftField{Name: "retention", Want: want.Retention.String(), Got: got.Retention.String()})
	}
	if want.Storage != got.Storage {
		fields = append(fields, DriftField{Name: "storage", Want: want.Storage.String(), Got: got.Storage.String()})
	}
	if want.RePublish != nil && (got.RePublish == nil || *got.RePublish != *want.RePublish) {
		fields = append(fields, DriftField{Name: "republish", Want: fmt.Sprint(*want.RePublish), Got: fmt.Sprint(got.RePublish)})
	}
	if got.NoAck {
		fields = append(fields, DriftField{Name: "no_ack", Want: "false", Got: "true"})
	}
	if len(fields) == 0 {
		return nil
	}
	return &DriftError{Stream: want.Name, Fields: fields}
}
