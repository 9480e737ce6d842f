package server

import (
	"sync"
	"time"

	"github.com/keyledger/keyledger/domain"
)

// streamRetry is what refused callers are told to wait. Streams end at no time that
// could be known, so it only keeps callers from asking in a loop.
const streamRetry = 10 * time.Second

// streamLimits counts the answers that go on for as long as their callers read:
// event streams and exports. Each holds a reader of the log and what it has read
// ahead, whether or not its caller reads, so that without a limit one management
// key could take all memory.
type streamLimits struct {
	perKey, total int

	mu   sync.Mutex
	open int
	of   map[domain.ActorID]int // by management key; only those with some
}

func newStreamLimits(perKey, total int) *streamLimits {
	return &streamLimits{perKey: perKey, total: total, of: map[domain.ActorID]int{}}
}

// acquire takes a place for a management key's stream, or refuses. Every place that
// was taken is given back with release.
func (l *streamLimits) acquire(key domain.ActorID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.of[key] >= l.perKey:
		return tooManyStreams("the management key has as many event streams and exports open as one may have",
			"close some of them, or follow the log once and share what comes")
	case l.open >= l.total:
		return tooManyStreams("the server has as many event streams and exports open as it takes",
			"try again later, or ask for JSON, a page at a time")
	}
	l.open++
	l.of[key]++
	return nil
}

func (l *streamLimits) release(key domain.ActorID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.of[key]--; l.of[key] == 0 {
		delete(l.of, key)
	}
}

func tooManyStreams(message, fix string) error {
	return &refusal{
		err:        domain.NewError(domain.KindUnavailable, "too_many_streams", message, fix),
		retryAfter: streamRetry,
	}
}
