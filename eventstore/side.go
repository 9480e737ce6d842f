package eventstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
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

	// What the streams beside the log may take of the disk that they share with it:
	// enough for what they are for, however much garbage a producer sends.
	commandsBytes = 4 << 30
	outcomesBytes = 1 << 30
	deadBytes     = 1 << 30
	usageBytes    = 2 << 30
	// minDuplicates is the shortest time that the server remembers ids of messages for.
	minDuplicates = 100 * time.Millisecond

	// minSideBytes is the least that is worth a limit.
	minSideBytes = 1 << 20
)

// sideConfig is how a stream beside the log is made. An operator may change its
// limits in age, messages and bytes; what it carries, how it is read and what goes
// when it is full may not differ, see [sideDrift].
func sideConfig(side Side, replicas int) (jetstream.StreamConfig, error) {
	cfg := jetstream.StreamConfig{
		Name: string(side), Storage: jetstream.FileStorage, Replicas: replicas,
		Retention: jetstream.LimitsPolicy, AllowDirect: true, Duplicates: 2 * time.Minute, MaxMsgsPerSubject: -1,
	}
	switch side {
	case SideCommands:
		// Limits retention, purged up to what was carried out: a work queue pays a
		// synced write for every acknowledgement. Nothing goes by age: a command that
		// waits for a node is not forgotten, and one for which there is no room is refused.
		cfg.Description = "keyledger: commands on their way"
		cfg.Subjects = []string{CommandPrefix + ".>"}
		cfg.MaxMsgSize = maxCommandMessageBytes
		cfg.Discard, cfg.MaxBytes = jetstream.DiscardNew, commandsBytes
		// The ids of messages are one namespace for all producers: by one that another
		// has used, a command would be dropped, and all of them are kept in memory. The
		// command's own id is what makes it happen once.
		cfg.Duplicates = minDuplicates
	case SideOutcomes:
		cfg.Description = "keyledger: what became of commands"
		cfg.Subjects = []string{OutcomePrefix + ".>"}
		cfg.MaxAge, cfg.MaxMsgsPerSubject, cfg.MaxBytes = outcomesAge, 1, outcomesBytes
		cfg.RePublish = &jetstream.RePublish{Source: OutcomePrefix + ".>", Destination: AnnouncePrefix + ".>"}
	case SideDead:
		cfg.Description = "keyledger: commands that cannot succeed"
		cfg.Subjects = []string{DeadPrefix + ".>"}
		cfg.MaxAge, cfg.MaxBytes = deadAge, deadBytes
	case SideUsage:
		cfg.Description = "keyledger: when keys were used"
		cfg.Subjects = []string{UsagePrefix + ".>"}
		cfg.MaxAge, cfg.MaxBytes = usageAge, usageBytes
		cfg.Compression = jetstream.S2Compression // reports are much alike
	default:
		return cfg, fmt.Errorf("no stream beside the log is called %q", side)
	}
	return cfg, nil
}

// OpenSide finds or creates a stream beside the log. One that carries something
// else, or in another way, is a *[DriftError]. One that is there keeps its limits.
func (l *Log) OpenSide(ctx context.Context, side Side) (jetstream.Stream, error) {
	want, err := sideConfig(side, l.replicas)
	if err != nil {
		return nil, err
	}
	var stream jetstream.Stream
	err = l.retry(ctx, "open the stream "+want.Name, func(ctx context.Context) error {
		found, err := l.js.Stream(ctx, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			found, err = l.createSide(ctx, want)
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

// createSide creates a stream. The server sets aside all the bytes that a stream may
// ever take, so that a limit for which there is no room is halved until there is.
// Twice the limit is asked for first, so that as much is left for the other streams.
func (l *Log) createSide(ctx context.Context, want jetstream.StreamConfig) (jetstream.Stream, error) {
	wanted := want.MaxBytes
	var refusal error
	for limit := wanted; limit >= minSideBytes; limit /= 2 {
		want.MaxBytes = 2 * limit
		_, err := l.js.CreateStream(ctx, want)
		if noRoom(err) {
			refusal = err
			continue
		}
		if err != nil {
			return nil, err
		}
		if limit < wanted {
			l.logger.WarnContext(ctx, "the storage of the NATS server is small; a stream beside the log may take less of it than is usual",
				slog.String("stream", want.Name), slog.Int64("max_bytes", limit), slog.Int64("usual", wanted))
		}
		want.MaxBytes = limit
		return l.js.UpdateStream(ctx, want)
	}
	if noPeers(refusal) {
		return nil, refusal // perhaps the servers do not know each other's storage yet: tried again
	}
	l.logger.WarnContext(ctx, "the storage of the NATS server is very small; a stream beside the log has no limit in bytes", slog.String("stream", want.Name))
	want.MaxBytes = -1
	return l.js.CreateStream(ctx, want)
}

// noRoom reports whether the server cannot set aside what a stream may take.
func noRoom(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && (api.ErrorCode == codeStorageExceeded || api.ErrorCode == codeInsufficientResources || noPeers(err))
}

// noPeers reports whether there are not as many servers of a cluster that can.
func noPeers(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && api.ErrorCode == codeNoSuitablePeers && strings.Contains(api.Description, "insufficient storage")
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
	if want.Discard != got.Discard {
		fields = append(fields, DriftField{Name: "discard", Want: want.Discard.String(), Got: got.Discard.String()})
	}
	// A limit by subject is for dead letters an operator's choice; elsewhere it would
	// drop what was not read yet, or keep what nobody asks for.
	if want.MaxMsgsPerSubject != got.MaxMsgsPerSubject && want.Name != string(SideDead) {
		fields = append(fields, DriftField{Name: "max_msgs_per_subject", Want: fmt.Sprint(want.MaxMsgsPerSubject), Got: fmt.Sprint(got.MaxMsgsPerSubject)})
	}
	if !got.AllowDirect {
		fields = append(fields, DriftField{Name: "allow_direct", Want: "true", Got: "false"})
	}
	if got.NoAck {
		fields = append(fields, DriftField{Name: "no_ack", Want: "false", Got: "true"})
	}
	if len(fields) == 0 {
		return nil
	}
	return &DriftError{Stream: want.Name, Fields: fields}
}
