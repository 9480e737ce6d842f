package eventstore

import (
	"context"
	"errors"
	"log/slog"

	"github.com/nats-io/nats.go"
)

// ConnectConfig says how to reach a NATS server that runs elsewhere.
type ConnectConfig struct {
	// URL, or several separated by commas; required.
	URL string
	// Name shows in the server's list of connections; "" means "keyledger".
	Name string
	// User and Password, or a credentials file (JWT), or an nkey seed file; all
	// empty means no credentials.
	User, Password  string
	CredentialsFile string
	NKeySeedFile    string
	// CAFile, CertFile and KeyFile are PEM files for TLS; "" means the system's
	// roots and no client certificate.
	CAFile, CertFile, KeyFile string
	// Logger; nil discards.
	Logger *slog.Logger
}

// Connect connects to an external NATS server. The connection reconnects for
// ever; while it is down, calls fail or wait, nothing is buffered.
func Connect(ctx context.Context, cfg ConnectConfig) (*nats.Conn, error) {
	return nil, errors.ErrUnsupported
}
