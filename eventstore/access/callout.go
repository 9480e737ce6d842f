package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/domain"
)

// serverKeyHeader names the curve key that the server's request is sealed with.
const serverKeyHeader = "Nats-Server-Xkey"

// catchUpTimeout bounds how long somebody waits for a key that this node does not
// know yet. The server itself waits for two seconds.
const catchUpTimeout = 500 * time.Millisecond

// errMalformed says that a request is not one of the server's.
var errMalformed = errors.New("not a request of a nats server")

func (d *Door) work() {
	for {
		select {
		case msg := <-d.requests:
			d.answer(context.Background(), msg)
		case <-d.stop:
			return
		}
	}
}

// answer answers one request. A refusal is an answer too, so that a client learns
// of it at once. It says nothing about why: the reason would help only a guesser.
func (d *Door) answer(ctx context.Context, msg *nats.Msg) {
	request, err := d.open(msg)
	if err != nil {
		d.metrics.signIns.WithLabelValues("malformed").Inc()
		return
	}
	response := jwt.NewAuthorizationResponseClaims(request.UserNkey)
	response.Audience = request.Server.ID
	response.Jwt, err = d.permit(ctx, request)
	if err != nil {
		response.Jwt, response.Error = "", "refused"
	}
	switch {
	case err == nil:
		d.metrics.signIns.WithLabelValues("accepted").Inc()
	case errors.Is(err, ErrNotReady):
		d.unready.Add(1)
		d.metrics.signIns.WithLabelValues("not_ready").Inc()
	case errors.Is(err, ErrRefused):
		d.refused.Add(1)
		d.metrics.signIns.WithLabelValues("refused").Inc()
	default:
		d.metrics.signIns.WithLabelValues("failed").Inc()
		d.logger.ErrorContext(ctx, "a nats connection was refused by mistake", slog.Any("error", err))
	}
	body, err := response.Encode(d.cfg.Secrets.issuer)
	if err != nil {
		d.logger.ErrorContext(ctx, "an answer to nats could not be signed", slog.Any("error", err))
		return
	}
	sealed, err := d.cfg.Secrets.xkey.Seal([]byte(body), request.Server.XKey)
	if err != nil {
		d.logger.ErrorContext(ctx, "an answer to nats could not be sealed", slog.Any("error", err))
		return
	}
	if err := msg.Respond(sealed); err != nil {
		d.logger.WarnContext(ctx, "an answer to nats could not be sent", slog.Any("error", err))
	}
}

// open reads a request. One that is not sealed does not come from a server that is
// configured as ours are.
func (d *Door) open(msg *nats.Msg) (*jwt.AuthorizationRequestClaims, error) {
	serverKey := msg.Header.Get(serverKeyHeader)
	if serverKey == "" || msg.Reply == "" {
		return nil, errMalformed
	}
	text, err := d.cfg.Secrets.xkey.Open(msg.Data, serverKey)
	if err != nil {
		return nil, errMalformed
	}
	request, err := jwt.DecodeAuthorizationRequestClaims(string(text))
	if err != nil || request.Server.XKey != serverKey {
		return nil, errMalformed
	}
	return request, nil
}

// permit returns a user JWT for who is asked about.
func (d *Door) permit(ctx context.Context, request *jwt.AuthorizationRequestClaims) (string, error) {
	given := request.ConnectOptions
	// A user and a password, and nothing that could pass for another way in.
	if given.Nkey != "" || given.JWT != "" || given.Token != "" || !domain.ValidID(given.Username) {
		return "", ErrRefused
	}
	authority, err := d.authenticate(ctx, given.Password)
	if err != nil {
		return "", err
	}
	if string(authority.Actor) != given.Username {
		return "", ErrRefused
	}
	permissions := For(authority)
	if permissions.None() {
		return "", ErrRefused
	}
	user := jwt.NewUserClaims(request.UserNkey)
	user.Name = given.Username
	user.Audience = AccountClients
	user.Permissions = permissions.claim()
	user.AllowedConnectionTypes = jwt.StringList{jwt.ConnectionTypeStandard, jwt.ConnectionTypeWebsocket}
	if !authority.ExpiresAt.IsZero() {
		// In whole seconds; not before the key ends, or the client would come back once.
		user.Expires = authority.ExpiresAt.Add(time.Second - time.Nanosecond).Unix()
	}
	token, err := user.Encode(d.cfg.Secrets.issuer)
	if err != nil {
		return "", fmt.Errorf("sign the permissions of %s: %w", given.Username, err)
	}
	d.logger.DebugContext(ctx, "a nats connection was permitted", slog.String("user", given.Username))
	return token, nil
}

// authenticate asks when the keys are known as of now: a key may have been made, or
// revoked, on another node a moment ago, and whoever was just sent away comes back.
func (d *Door) authenticate(ctx context.Context, token string) (domain.Authority, error) {
	if err := d.catchUp(ctx, time.Now()); err != nil {
		return domain.Authority{}, fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	return d.cfg.Keys.Authenticate(token)
}

// catchUp waits until the keys are known as of a moment. All who wait share one
// question to the log, and its failure.
func (d *Door) catchUp(ctx context.Context, asOf time.Time) error {
	d.catching.Lock()
	defer d.catching.Unlock()
	if d.caught.After(asOf) {
		return d.catchErr
	}
	ctx, cancel := context.WithTimeout(ctx, catchUpTimeout)
	defer cancel()
	d.caught = time.Now()
	d.catchErr = d.cfg.Keys.CatchUp(ctx)
	return d.catchErr
}
