// Package embedded runs a NATS server with JetStream inside the process, for an
// installation of one node.
//
// It may import eventstore and nats-server. Called by cmd, and by tests.
package embedded

import (
	"context"
	"errors"
	"log/slog"

	"github.com/nats-io/nats.go"
)

// Sync says when the server forces what it stored to the disk.
type Sync string

// The sync modes, from safe to fast.
const (
	// SyncAlways syncs before every acknowledgement. It is the default, and the
	// only mode in which a power failure loses nothing that was acknowledged.
	SyncAlways Sync = "always"
	// SyncSecond syncs every second. A power failure can lose the whole stream.
	SyncSecond Sync = "1s"
	// SyncNever leaves it to the server's default of two minutes. A power failure
	// can lose the whole stream.
	SyncNever Sync = "never"
)

// Config is what [Start] needs.
type Config struct {
	// DataDir holds the streams, in its subdirectory "jetstream"; required,
	// created with mode 0700 if missing. A lock file in it keeps a second process out.
	DataDir string
	// Listen is a host and port for clients outside the process ("127.0.0.1:4222",
	// port 0 for any); "" means none. They need credentials: see Authenticate.
	Listen string
	// ServerName; "" means "keyledger".
	ServerName string
	// Sync; "" means SyncAlways.
	Sync Sync
	// MaxStoreBytes bounds what the streams may take; 0 means what the disk has.
	MaxStoreBytes int64
	// Authenticate says whether a client may connect and what it may do. nil
	// refuses everybody. It runs on the connection's goroutine and must not log
	// or keep the password.
	Authenticate func(user, password string) (Permissions, bool)
	// Logger; nil discards.
	Logger *slog.Logger
}

// Permissions lists the subjects that a client may publish and subscribe to, as
// NATS subject patterns. What is not listed is refused.
type Permissions struct {
	Publish   []string
	Subscribe []string
}

// Auditor returns the permissions to read the whole event log, and to do nothing
// else. The client must use the inbox prefix [InboxPrefix] (user).
func Auditor(user string) Permissions { return Permissions{} }

// InboxPrefix is where the answers to a user's requests go. Each user has its
// own, so that nobody reads another's answers: pass it to nats.CustomInboxPrefix,
// or to the nats tool as --inbox-prefix.
func InboxPrefix(user string) string { return "_INBOX_" + user }

// Server is a running server.
type Server struct{}

// Start starts a server and returns when it is ready.
func Start(ctx context.Context, cfg Config) (*Server, error) { return nil, errors.ErrUnsupported }

// Connect returns a new connection inside the process, with every permission.
func (s *Server) Connect(ctx context.Context) (*nats.Conn, error) { return nil, errors.ErrUnsupported }

// ClientURL returns the address for clients outside the process; "" if there is none.
func (s *Server) ClientURL() string { return "" }

// Shutdown stops the server and returns when its files are closed, or when the
// context ends. It may be called again.
func (s *Server) Shutdown(ctx context.Context) error { return errors.ErrUnsupported }
