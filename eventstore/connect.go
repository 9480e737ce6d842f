package eventstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

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
	// Identity is another way to say who connects; nil means those above.
	Identity []nats.Option
	// CAFile, CertFile and KeyFile are PEM files for TLS; "" means the system's
	// roots and no client certificate.
	CAFile, CertFile, KeyFile string
	// Logger; nil discards.
	Logger *slog.Logger
}

// Connect connects to an external NATS server. The first connection must succeed at
// the first try, at one of the addresses: a refusal is told, not waited out; ctx
// bounds the try. Later connections are made again for ever. While there is none,
// calls fail or wait: nothing is buffered, since what was sent late could surprise.
func Connect(ctx context.Context, cfg ConnectConfig) (*nats.Conn, error) {
	opts, err := connectOptions(cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	type result struct {
		nc  *nats.Conn
		err error
	}
	done := make(chan result, 1)
	go func() {
		nc, err := nats.Connect(cfg.URL, opts...)
		done <- result{nc, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return nil, fmt.Errorf("connect to NATS: %w", r.err)
		}
		return r.nc, nil
	case <-ctx.Done():
		go func() {
			if r := <-done; r.nc != nil {
				r.nc.Close()
			}
		}()
		return nil, fmt.Errorf("connect to NATS: %w", ctx.Err())
	}
}

// checkURLs is stricter with its errors than with its URLs: what cannot be parsed
// may hold a password anywhere, so nothing of it is repeated.
func checkURLs(urls string) error {
	for u := range strings.SplitSeq(urls, ",") {
		u = strings.TrimSpace(u)
		if !strings.Contains(u, "://") {
			u = "nats://" + u
		}
		if parsed, err := url.Parse(u); err != nil || parsed.Host == "" {
			return errors.New("the URL is not of the form nats://host:port (or several, separated by commas)")
		}
	}
	return nil
}

func connectOptions(cfg ConnectConfig) ([]nats.Option, error) {
	if err := checkURLs(cfg.URL); err != nil {
		return nil, err
	}
	logger := or(cfg.Logger, slog.New(slog.DiscardHandler))
	opts := []nats.Option{
		nats.Name(or(cfg.Name, "keyledger")),
		nats.Timeout(5 * time.Second),
		nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(),
		nats.ReconnectWait(100 * time.Millisecond),
		nats.ReconnectJitter(200*time.Millisecond, time.Second),
		nats.ReconnectBufSize(-1),
		nats.PingInterval(5 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			if !nc.IsClosed() {
				logger.WarnContext(context.Background(), "connection to nats lost", slog.Any("error", err))
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			logger.InfoContext(context.Background(), "connection to nats is back", slog.String("server", nc.ConnectedServerName()))
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			logger.WarnContext(context.Background(), "nats reports an error", slog.Any("error", err))
		}),
	}
	if cfg.User != "" {
		opts = append(opts, nats.UserInfo(cfg.User, cfg.Password))
	}
	if cfg.CredentialsFile != "" {
		opts = append(opts, nats.UserCredentials(cfg.CredentialsFile))
	}
	if cfg.NKeySeedFile != "" {
		opt, err := nats.NkeyOptionFromSeed(cfg.NKeySeedFile)
		if err != nil {
			return nil, fmt.Errorf("nkey seed file: %w", err)
		}
		opts = append(opts, opt)
	}
	opts = append(opts, cfg.Identity...)
	if cfg.CAFile != "" {
		opts = append(opts, nats.RootCAs(cfg.CAFile))
	}
	if cfg.CertFile != "" || cfg.KeyFile != "" {
		opts = append(opts, nats.ClientCert(cfg.CertFile, cfg.KeyFile))
	}
	return opts, nil
}
