package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/access"
	"github.com/keyledger/keyledger/server"
	"github.com/keyledger/keyledger/verify"
)

// openAccess begins to say who may connect to NATS, and with which rights. On a
// cluster it takes secrets that the cluster's configuration knows.
func (n *node) openAccess(ctx context.Context) error {
	if n.secrets == nil {
		n.logger.InfoContext(ctx, "this node does not say who may connect to nats (--nats-secrets): producers and auditors go through the HTTP API")
		return nil
	}
	system, err := n.connectTo(ctx, access.AccountSystem)
	if err != nil {
		return err
	}
	if n.clients, err = n.connectTo(ctx, access.AccountClients); err != nil {
		return err
	}
	door, err := access.Open(ctx, access.Config{
		Node: n.conn, System: system, Secrets: n.secrets,
		Keys:   managementKeys{verifier: n.verifier, log: n.log},
		Logger: n.logger, Registerer: n.metrics,
	})
	if err != nil {
		return err
	}
	n.door = door
	n.onClose(func(context.Context) error { door.Close(); return nil })
	return nil
}

// connectTo connects to an account of the NATS server that holds the log. The
// connection ends with the node.
func (n *node) connectTo(ctx context.Context, account string) (conn *nats.Conn, err error) {
	if n.natsServer != nil {
		conn, err = n.natsServer.ConnectTo(ctx, account)
	} else {
		cfg := n.nats
		if cfg.Identity, err = n.secrets.Options(account); err == nil {
			conn, err = eventstore.Connect(ctx, cfg)
		}
		if errors.Is(err, nats.ErrAuthorization) {
			err = failf("let its servers run with the configuration that keyledger nats setup made together with the file, and restart them",
				"the NATS servers do not know this node (--nats-secrets) in the account %s: %w", account, err)
		}
	}
	if err != nil {
		return nil, err
	}
	n.onClose(func(context.Context) error { conn.Close(); return nil })
	return conn, nil
}

// lookAfterClients ends connections to NATS whose key has ended.
func (n *node) lookAfterClients(ctx context.Context) error {
	if n.door == nil {
		<-ctx.Done()
		return nil
	}
	return n.door.Run(ctx)
}

// listenNATS opens the port of the embedded server, last of all: before, nobody
// could be told from a stranger, and a client that is refused as one gives up.
func (n *node) listenNATS(ctx context.Context) error {
	if n.natsServer == nil {
		return nil
	}
	if err := n.natsServer.Listen(); err != nil {
		return err
	}
	n.address.NATSURL = n.natsServer.ClientURL()
	n.logger.DebugContext(ctx, "nats clients are let in", slog.String("url", n.address.NATSURL))
	return nil
}

// accessPart reports on connections to NATS, where this node looks after them.
func (n *node) accessPart() []server.Part {
	if n.door == nil {
		return nil
	}
	return []server.Part{{Name: "nats clients", Check: func(context.Context) error { return n.door.Health() }, Optional: true}}
}

// managementKeys knows keys as package access asks for them.
type managementKeys struct {
	verifier *verify.Verifier
	log      *eventstore.Log
}

// Authenticate implements access.Keys.
func (k managementKeys) Authenticate(token string) (domain.Authority, error) {
	authority, result := k.verifier.Authenticate(token)
	switch {
	case result.Valid():
		return authority, nil
	case result.Code == verify.CodeStale:
		return domain.Authority{}, access.ErrNotReady
	default:
		return domain.Authority{}, access.ErrRefused
	}
}

// Active implements access.Keys.
func (k managementKeys) Active(id domain.KeyID) (domain.Authority, error) {
	authority, ok := k.verifier.Active(id)
	switch {
	case ok:
		return authority, nil
	case !k.verifier.Ready(): // asked after: a table that has stopped knows nothing
		return domain.Authority{}, access.ErrNotReady
	default:
		return domain.Authority{}, access.ErrRefused
	}
}

// CatchUp implements access.Keys.
func (k managementKeys) CatchUp(ctx context.Context) error {
	if !k.verifier.Ready() {
		return access.ErrNotReady
	}
	head, err := k.log.Head(ctx)
	if err != nil {
		return err
	}
	return k.verifier.WaitFor(ctx, head)
}
