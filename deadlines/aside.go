package deadlines

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/keyledger/keyledger/eventstore"
)

// How long a key is set aside, at first and at most: one that others change all the
// time, and one whose event cannot be written.
const (
	rivalFirst = 10 * time.Millisecond
	rivalMost  = time.Second
	stuckFirst = time.Minute
	stuckMost  = time.Hour
)

// trouble is why a key was set aside, and until when.
type trouble struct {
	err   error
	tries int
	pause time.Duration
	until time.Time // by the monotonic clock: the other may be set
	aside bool
}

// setAside keeps a key out of batches for a while, twice as long each time.
func (w *Worker) setAside(ctx context.Context, j job, err error, pause time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	k, known := w.troubles[j.key.ID]
	if !known {
		k = &trouble{}
		w.troubles[j.key.ID] = k
	}
	most := stuckMost
	if pause == rivalFirst {
		most = rivalMost
	}
	if k.pause >= pause {
		pause = min(2*k.pause, most)
	}
	*k = trouble{err: err, tries: k.tries + 1, pause: pause, until: time.Now().Add(pause), aside: true}
	w.index.setAside(j.key.ID)
	if !k.rival() {
		w.logger.ErrorContext(ctx, "a deadline cannot be written; it is tried again later", slog.String("key_id", string(j.key.ID)),
			slog.String("account", string(j.key.Account)), slog.Uint64("key_seq", j.seq), slog.Int("tries", k.tries),
			slog.Duration("pause", pause), slog.String("error", err.Error()))
	}
}

// rival reports whether the trouble is that others change the key.
func (k *trouble) rival() bool { return errors.Is(k.err, eventstore.ErrConflict) }

// readmit takes back the keys whose time has come, and forgets those that others have
// ended, before that or since they were taken back.
func (w *Worker) readmit() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, k := range w.troubles {
		if k.aside && time.Now().Before(k.until) {
			continue
		}
		k.aside = false
		if !w.index.readmit(id, w.now()) {
			delete(w.troubles, id) // nothing is due any more
		}
	}
}

// readmitAll takes back every key: who leads next may have no trouble with it.
func (w *Worker) readmitAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id := range w.troubles {
		w.index.readmit(id, time.Time{})
	}
	clear(w.troubles)
}

// forget ends the troubles of keys whose events were written.
func (w *Worker) forget(jobs []job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.troubles) == 0 {
		return
	}
	for _, j := range jobs {
		delete(w.troubles, j.key.ID)
	}
}

// stuck counts the keys whose events cannot be written. The caller holds mu.
func (w *Worker) stuck() int {
	n := 0
	for _, k := range w.troubles {
		if !k.rival() {
			n++
		}
	}
	return n
}

// stuckNow is stuck for those who do not hold mu.
func (w *Worker) stuckNow() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stuck()
}
