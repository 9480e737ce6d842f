package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/keyledger/keyledger/domain"
)

// serverLogger hands the server's log lines to ours. It listens for two things
// that the server says nowhere else: the first fatal line is why it did not start,
// and a critical write error is why it does not answer publishes any more.
type serverLogger struct {
	logger *slog.Logger
	fatal  chan error
	fault  atomic.Pointer[error]
}

// Noticef implements server.Logger. Notices are of interest to people who look
// for something in the server, not to everybody.
func (l *serverLogger) Noticef(format string, v ...any) { l.log(slog.LevelDebug, format, v) }

// Warnf implements server.Logger.
func (l *serverLogger) Warnf(format string, v ...any) { l.log(slog.LevelWarn, format, v) }

// Errorf implements server.Logger.
func (l *serverLogger) Errorf(format string, v ...any) {
	// A test breaks a disk, so that other words in another release are noticed.
	if strings.Contains(strings.ToLower(format), "critical write error") || strings.HasPrefix(format, "JetStream out of") {
		fault := fmt.Errorf(format, v...)
		l.fault.CompareAndSwap(nil, &fault)
	}
	l.log(slog.LevelError, format, v)
}

// Debugf implements server.Logger.
func (l *serverLogger) Debugf(format string, v ...any) { l.log(slog.LevelDebug, format, v) }

// Tracef implements server.Logger. Traces hold what clients send, so they are dropped.
func (l *serverLogger) Tracef(string, ...any) {}

// Fatalf implements server.Logger.
func (l *serverLogger) Fatalf(format string, v ...any) {
	select {
	case l.fatal <- fmt.Errorf(format, v...):
	default:
		l.log(slog.LevelError, format, v)
	}
}

func (l *serverLogger) log(level slog.Level, format string, v []any) {
	ctx := context.Background()
	if !l.logger.Enabled(ctx, level) {
		return
	}
	text := fmt.Sprintf(format, v...)
	if domain.ContainsToken(text) { // it repeats what clients send as user, name or subject
		text = "left out: it held a key"
	}
	l.logger.LogAttrs(ctx, level, "nats server", slog.String("text", text))
}
