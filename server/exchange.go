package server

import (
	"context"
	"net/http"
	"time"

	"github.com/keyledger/keyledger/domain"
)

// exchange is one request and its answer on their way through the server. It is
// the ResponseWriter of every handler, and collects what the access log says.
// Exchanges are pooled: nothing may hold on to one after its handler returns.
type exchange struct {
	http.ResponseWriter
	request *http.Request // set for handlers behind huma, which do not get it

	start     time.Time
	requestID string
	endpoint  *endpoint // nil until a route matched
	authority domain.Authority

	status int // 0 until the answer began
	bytes  int64

	// What the handler found out, for the log; zero if it does not apply.
	account domain.AccountID
	keyID   domain.KeyID
	seq     uint64
	code    string
	cause   error // behind a refusal that is our fault
}

// WriteHeader begins the answer. A second call is ignored, as net/http would do
// with a complaint in the log.
func (x *exchange) WriteHeader(status int) {
	if x.status != 0 {
		return
	}
	x.status = status
	x.ResponseWriter.WriteHeader(status)
}

// Write writes a piece of the answer.
func (x *exchange) Write(p []byte) (int, error) {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	n, err := x.ResponseWriter.Write(p)
	x.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

type exchangeKey struct{}

// exchangeOf returns the exchange that a handler behind huma works on.
func exchangeOf(ctx context.Context) *exchange {
	x, ok := ctx.Value(exchangeKey{}).(*exchange)
	if !ok {
		panic(bug("a handler was called outside of an exchange"))
	}
	return x
}
