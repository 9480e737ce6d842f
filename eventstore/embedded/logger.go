package embedded

import (
	"context"
	"fmt"
	"log/slog"
)

// serverLogger hands the server's log lines to ours. The first fatal one goes to
// fatal too: the server has no other way to say why it did not start.
type serverLogger struct {
	logger *slog.Logger
	fatal  chan error
}

// Noticef implements server.Logger. Notices are of interest to people who look
// for something in the server, not to everybody.
func (l *serverLogger) Noticef(format string, v ...any) { l.log(slog.LevelDebug, format, v) }

// Warnf implements server.Logger.
func (l *serverLogger) Warnf(format string, v ...any) { l.log(slog.LevelWarn, format, v) }

// Errorf implements server.Logger.
func (l *serverLogger) Errorf(format string, v ...any) { l.log(slog.LevelError, format, v) }

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
	l.logger.LogAttrs(ctx, level, "nats server", slog.String("text", fmt.Sprintf(format, v...)))
}
