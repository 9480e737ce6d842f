package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/access"
)

// serveCommand holds the settings of a node. Without any of them it runs alone:
// everything is kept in the data dir and nothing beyond this machine can reach it.
type serveCommand struct {
	Addr    string `default:"127.0.0.1:8080" placeholder:"HOST:PORT" fromenv:"KEYLEDGER_ADDR" help:"Where the HTTP API listens; port 0 for any. Default: ${default}."`
	DataDir string `default:"./keyledger-data" placeholder:"DIR" fromenv:"KEYLEDGER_DATA_DIR" help:"Where everything is kept. Default: ${default}."`
	Keyring string `placeholder:"FILE" fromenv:"KEYLEDGER_KEYRING" help:"The keyring. Default: keyring.json in the data dir."`

	ScopesFile string `placeholder:"FILE" fromenv:"KEYLEDGER_SCOPES_FILE" help:"JSON list of {\"scope\",\"description\"}: the scopes that keys may hold."`
	Brand      string `placeholder:"NAME" fromenv:"KEYLEDGER_BRAND" help:"Put in front of tokens: acme makes them acme_sk_live_…"`

	ExpiryNotices expiryNotices `default:"7d" placeholder:"30d,7d,1d" fromenv:"KEYLEDGER_EXPIRY_NOTICES" help:"How long before a key expires the notice of it is given: whole numbers of days (d), hours (h) or minutes (m), a notice for each; none for no notices. Default: ${default}."`

	TLSCert             string `name:"tls-cert" placeholder:"FILE" fromenv:"KEYLEDGER_TLS_CERT" help:"Certificate chain (PEM) of the HTTP API."`
	TLSKey              string `name:"tls-key" placeholder:"FILE" fromenv:"KEYLEDGER_TLS_KEY" help:"Its private key (PEM)."`
	AllowInsecureListen bool   `fromenv:"KEYLEDGER_ALLOW_INSECURE_LISTEN" help:"Listen beyond this machine without TLS, where every key that is sent can be read on the way."`

	LogLevel  slog.Level `default:"info" placeholder:"LEVEL" fromenv:"KEYLEDGER_LOG_LEVEL" help:"debug, info, warn or error. Default: ${default}."`
	LogFormat string     `default:"text" placeholder:"text|json" enum:"text,json" fromenv:"KEYLEDGER_LOG_FORMAT" help:"Form of the log on standard error. Default: ${default}."`

	NATSListen string `group:"The embedded log" name:"nats-listen" default:"127.0.0.1:4222" placeholder:"HOST:PORT" fromenv:"KEYLEDGER_NATS_LISTEN" help:"Where producers and auditors reach the embedded NATS server; none for nowhere. Default: ${default}."`
	Sync       string `group:"The embedded log" default:"always" placeholder:"always|1s|lazy" enum:"always,1s,lazy" fromenv:"KEYLEDGER_SYNC" help:"When events are synced to the disk. always, the default: before each answer. With 1s and lazy a power cut can lose acknowledged events."`
	externalNATS
	database
}

// database says where the tables are that people query.
type database struct {
	DatabaseURL         string `group:"The tables" name:"database-url" placeholder:"URL" fromenv:"KEYLEDGER_DATABASE_URL" help:"PostgreSQL database for the tables that people query (postgres://user@host/name), shared by any number of nodes. Give a password in the variable or a PGPASSFILE, not here. Default: a file in the data dir."`
	DatabaseConnections int    `group:"The tables" name:"database-connections" default:"8" placeholder:"N" fromenv:"KEYLEDGER_DATABASE_CONNECTIONS" help:"How many connections reads may use; two more are for writing. Default: ${default}."`
}

// externalNATS says how to reach a NATS cluster that is used instead of the
// embedded server.
type externalNATS struct {
	NATSURL          string `group:"An external log" name:"nats-url" placeholder:"URL" fromenv:"KEYLEDGER_NATS_URL" help:"NATS cluster to use instead of the embedded server. Secrets are given then (--keyring), not generated. What is acknowledged is on its disks only if its servers run with jetstream.sync_interval: always."`
	NATSReplicas     int    `group:"An external log" name:"nats-replicas" default:"3" placeholder:"1|3" enum:"1,3" fromenv:"KEYLEDGER_NATS_REPLICAS" help:"How many of its servers keep the log. Default: ${default}."`
	NATSSecrets      string `group:"An external log" name:"nats-secrets" placeholder:"FILE" fromenv:"KEYLEDGER_NATS_SECRETS" help:"File that keyledger nats setup made together with the configuration of the servers. Nodes that have it say who may connect to them with a management key; it also holds the credentials of the nodes themselves."`
	NATSCreds        string `group:"An external log" name:"nats-creds" placeholder:"FILE" fromenv:"KEYLEDGER_NATS_CREDS" help:"Credentials file (JWT)."`
	NATSNkey         string `group:"An external log" name:"nats-nkey" placeholder:"FILE" fromenv:"KEYLEDGER_NATS_NKEY" help:"File with an nkey seed."`
	NATSUser         string `group:"An external log" name:"nats-user" placeholder:"NAME" fromenv:"KEYLEDGER_NATS_USER" help:"User; its password is in --nats-password-file."`
	NATSPasswordFile string `group:"An external log" name:"nats-password-file" placeholder:"FILE" fromenv:"KEYLEDGER_NATS_PASSWORD_FILE" help:"File with the password."`
	NATSCA           string `group:"An external log" name:"nats-ca" placeholder:"FILE" fromenv:"KEYLEDGER_NATS_CA" help:"Roots to trust (PEM)."`
	NATSCert         string `group:"An external log" name:"nats-cert" placeholder:"FILE" fromenv:"KEYLEDGER_NATS_CERT" help:"Client certificate (PEM)."`
	NATSKey          string `group:"An external log" name:"nats-key" placeholder:"FILE" fromenv:"KEYLEDGER_NATS_KEY" help:"Its private key (PEM)."`
}

func (serveCommand) Help() string {
	return `Without any flag: everything in ./keyledger-data, on this machine only. At the first start an operator token is printed and kept in operator.token in the data dir.

Examples:

    keyledger serve
    keyledger serve --addr 127.0.0.1:9000 --data-dir /var/lib/keyledger --log-format json
    keyledger serve --addr :8443 --tls-cert cert.pem --tls-key key.pem
    keyledger serve --database-url postgres://keyledger@db.internal/keyledger`
}

// Run runs a node until it is told to stop or cannot go on.
func (c serveCommand) Run(a *app) error {
	if err := checkDatabaseURL(c.DatabaseURL, a.env("KEYLEDGER_DATABASE_URL")); err != nil {
		return err
	}
	settings, err := c.settings()
	if err != nil {
		return err
	}
	syscall.Umask(0o077) // whatever the libraries below write is this user's alone
	n, err := startNode(a.ctx, settings, a.logger(c.LogLevel, c.LogFormat), a.now)
	if err != nil {
		return explainNode(err)
	}
	return explainNode(n.run(a.ctx, func() { a.printBanner(n) }))
}

// settings is what a node is made from: the flags, checked, and the files that
// they name, read.
type settings struct {
	serveCommand
	catalogue *domain.Catalogue
	format    domain.TokenFormat
	tls       *tls.Config // nil: plain HTTP
	nats      eventstore.ConnectConfig
	secrets   *access.Secrets // nil on a cluster that is not asked about clients

	usageEvery time.Duration // how often use is reported; 0: every minute. Tests do not wait so long
}

func (c serveCommand) settings() (settings, error) {
	s := settings{serveCommand: c, catalogue: domain.DefaultCatalogue()}
	var err error
	if s.format, err = domain.NewTokenFormat(c.Brand); err != nil {
		return s, usagef("use 1 to 16 lower-case letters and digits, beginning with a letter", "--brand %q is not the form of a brand", c.Brand)
	}
	if c.ScopesFile != "" {
		if s.catalogue, err = readCatalogue(c.ScopesFile); err != nil {
			return s, err
		}
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return s, usagef("give both", "--tls-cert and --tls-key belong together")
	}
	if c.TLSCert != "" {
		certificate, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
		if err != nil {
			return s, failf("check the two files", "read the TLS certificate: %w", err)
		}
		s.tls = &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, Certificates: []tls.Certificate{certificate}}
	}
	if err := c.checkListen("--addr", c.Addr, s.tls != nil); err != nil {
		return s, err
	}
	if c.NATSURL != "" {
		s.nats, s.secrets, err = c.connectConfig()
		return s, err
	}
	if c.NATSListen == "none" {
		s.NATSListen = ""
		return s, nil
	}
	return s, c.checkListen("--nats-listen", c.NATSListen, false)
}

// checkListen refuses to listen where keys would cross a network in clear.
func (c serveCommand) checkListen(flag, address string, secured bool) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return usagef("use a host and a port, for example 127.0.0.1:8080", "%s %q is not an address", flag, address)
	}
	if secured || c.AllowInsecureListen || isLoopback(host) {
		return nil
	}
	return usagef("give --tls-cert and --tls-key, or listen on 127.0.0.1 behind a proxy that has them; --allow-insecure-listen does it anyway",
		"%s %s would listen beyond this machine without TLS", flag, address)
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// connectConfig reads what is needed to connect to the cluster, and the secrets of
// its nodes if they were given.
func (e externalNATS) connectConfig() (eventstore.ConnectConfig, *access.Secrets, error) {
	cfg := eventstore.ConnectConfig{
		URL: e.NATSURL, Name: "keyledger", User: e.NATSUser, CredentialsFile: e.NATSCreds, NKeySeedFile: e.NATSNkey,
		CAFile: e.NATSCA, CertFile: e.NATSCert, KeyFile: e.NATSKey,
	}
	for address := range strings.SplitSeq(e.NATSURL, ",") {
		if u, err := url.Parse(address); err != nil || u.User != nil {
			return cfg, nil, usagef("use nats://host:port; credentials go into --nats-creds, --nats-nkey, or --nats-user and --nats-password-file",
				"--nats-url is not an address, or holds credentials")
		}
	}
	if e.NATSSecrets != "" {
		if e.NATSCreds+e.NATSNkey+e.NATSUser+e.NATSPasswordFile != "" {
			return cfg, nil, usagef("leave out --nats-creds, --nats-nkey, --nats-user and --nats-password-file", "--nats-secrets holds the credentials already")
		}
		secrets, err := access.LoadSecrets(e.NATSSecrets)
		if err != nil {
			return cfg, nil, failf("give the file that keyledger nats setup made", "%w", err)
		}
		cfg.Identity, err = secrets.Options(access.AccountLog)
		return cfg, secrets, err
	}
	if e.NATSPasswordFile == "" {
		return cfg, nil, nil
	}
	password, err := os.ReadFile(e.NATSPasswordFile)
	if err != nil {
		return cfg, nil, failf("check the path and who may read it", "read the password for NATS: %w", err)
	}
	cfg.Password = strings.TrimSpace(string(password))
	return cfg, nil, nil
}

func readCatalogue(path string) (*domain.Catalogue, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, failf("check the path and who may read it", "read the scopes: %w", err)
	}
	defer func() { _ = f.Close() }()
	decoder := json.NewDecoder(io.LimitReader(f, 1<<20))
	decoder.DisallowUnknownFields()
	var scopes []domain.ScopeInfo
	if err := decoder.Decode(&scopes); err != nil {
		return nil, failf(`write a list: [{"scope":"orders:read","description":"View orders"}]`, "the scopes in %s cannot be read: %w", path, err)
	}
	catalogue, err := domain.NewCatalogue(scopes)
	if e, ok := errors.AsType[*domain.Error](err); ok {
		return nil, failf(e.Fix, "the scopes in %s: %w", path, err)
	}
	return catalogue, err
}

func (a *app) logger(level slog.Level, format string) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(a.stderr, opts))
	}
	return slog.New(slog.NewTextHandler(a.stderr, opts))
}

// printBanner tells the person who started a node what they have, and what to do next.
func (a *app) printBanner(n *node) {
	self, dataDir := "keyledger", ""
	if path, err := os.Executable(); err == nil && strings.Contains(path, "go-build") {
		self = "go run ./cmd/keyledger"
	}
	if n.DataDir != "./keyledger-data" {
		dataDir = " --data-dir " + n.DataDir
	}
	a.printf("keyledger is ready.\n\n")
	t := newTable(a.stdout)
	t.pair("  address", n.address.URL+"   (the API is described at /docs)")
	t.pair("  data dir", n.DataDir)
	t.pair("  NATS", n.address.NATSURL)
	if n.DatabaseURL != "" {
		t.pair("  tables", "in PostgreSQL (keyledger projections status)")
	}
	t.pair("  operator token", n.operator.path())
	_ = t.flush()
	if token := n.operator.fresh; !token.IsZero() {
		a.printf("\nThis is the operator token. It is shown this once and kept in the file above:\n\n%s\n", token.Reveal())
	}
	a.printf("\nNext, in another terminal:\n\n  %s keys create --name \"Production Server\" --environment live --full-access%s\n\n", self, dataDir)
}
