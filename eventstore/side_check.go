package eventstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// SideState is what [Log.LookAside] finds of a stream beside the log.
type SideState struct {
	// Stream is its name in NATS.
	Stream string
	// Missing says that it is not there: a node makes it when it needs it.
	Missing bool
	// Bytes it takes, and may take; MaxBytes is -1 without a limit.
	Bytes    uint64
	MaxBytes int64
	// Err is a *[DriftError], or why nothing is known of it.
	Err error
}

// LookAside looks at the streams beside the log and at the bucket of leases. It
// makes and changes nothing.
func (l *Log) LookAside(ctx context.Context) []SideState {
	sides := []Side{SideCommands, SideOutcomes, SideDead, SideUsage}
	states := make([]SideState, 0, len(sides)+1)
	for _, side := range sides {
		states = append(states, l.lookAt(ctx, string(side), func(got jetstream.StreamConfig) error {
			want, err := sideConfig(side, l.replicas)
			if err != nil {
				return err
			}
			return sideDrift(want, got)
		}))
	}
	const bucket = "KV_" + leaseBucket
	return append(states, l.lookAt(ctx, bucket, func(got jetstream.StreamConfig) error {
		if got.MaxAge > 0 {
			return nil
		}
		return &DriftError{Stream: bucket, Fields: []DriftField{{Name: "max_age", Want: "some seconds", Got: "none"}}}
	}))
}

func (l *Log) lookAt(ctx context.Context, name string, check func(jetstream.StreamConfig) error) SideState {
	ctx, cancel := context.WithTimeout(ctx, l.ackTimeout)
	defer cancel()
	state := SideState{Stream: name}
	stream, err := l.js.Stream(ctx, name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		state.Missing = true
	case err != nil:
		state.Err = fmt.Errorf("look at the stream %s: %w", name, err)
	default:
		info := stream.CachedInfo()
		state.Bytes, state.MaxBytes, state.Err = info.State.Bytes, info.Config.MaxBytes, check(info.Config)
	}
	return state
}
