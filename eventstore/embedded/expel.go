package embedded

import (
	"context"
	"log/slog"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// defaultAllowedInterval is the bound on how long a connection outlives its right.
const defaultAllowedInterval = 2 * time.Second

// expelLoop ends connections whose user is no longer allowed, until the server is
// shut down. The server asks for credentials once, when a connection begins, and
// an auditor's may last for months.
func (s *Server) expelLoop(cfg Config) {
	interval := cfg.AllowedInterval
	if interval == 0 {
		interval = defaultAllowedInterval
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.expel(context.Background(), cfg.Allowed, cfg.Logger)
		case <-s.stopping:
			return
		}
	}
}

// expel looks once at every connection. The user that the server names is the one
// that the authenticator has checked, and nodeUser is the node.
func (s *Server) expel(ctx context.Context, allowed func(user string) bool, logger *slog.Logger) {
	open, err := s.nats.Connz(&server.ConnzOptions{Username: true, Limit: server.DEFAULT_MAX_CONNECTIONS})
	if err != nil {
		logger.ErrorContext(ctx, "the open nats connections cannot be listed", slog.Any("error", err))
		return
	}
	for _, c := range open.Conns {
		// One without a user has not given its credentials yet.
		if c.AuthorizedUser == "" || c.AuthorizedUser == nodeUser || allowed(c.AuthorizedUser) {
			continue
		}
		// What fails has ended by itself meanwhile.
		if err := s.nats.DisconnectClientByID(c.Cid); err == nil {
			logger.InfoContext(ctx, "a nats connection was ended: its key may not read any more", slog.String("user", c.AuthorizedUser))
		}
	}
}
