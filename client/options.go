package client

import (
	"net/url"
	"strconv"

	"github.com/google/uuid"
)

// CallOption changes one call.
type CallOption func(*callOptions)

type callOptions struct {
	idempotencyKey string
	requestID      string
	ifMatch        *uint64
	minSeq         uint64
}

// WithIdempotencyKey names the call: however often a call of the same name is
// sent, by whatever process, it takes effect once. Without it every call has a
// fresh random name that holds over its own retries only.
func WithIdempotencyKey(key string) CallOption {
	return func(o *callOptions) { o.idempotencyKey = key }
}

// WithRequestID sets the id under which the server logs the call and records
// it in events; 1 to 64 letters, digits, '-' and '_'.
func WithRequestID(id string) CallOption {
	return func(o *callOptions) { o.requestID = id }
}

// WithIfMatch makes an update conditional: it is refused with status 412 unless
// seq is still the key's last one ([Key].Seq).
func WithIfMatch(seq uint64) CallOption {
	return func(o *callOptions) { o.ifMatch = &seq }
}

// WithMinSeq makes a read wait until the server shows at least the event seq,
// such as the [KeyResult].Seq of a command that was sent to another server.
func WithMinSeq(seq uint64) CallOption {
	return func(o *callOptions) { o.minSeq = seq }
}

func collect(opts []CallOption) callOptions {
	var o callOptions
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// collectCommand is collect for calls that change something.
func collectCommand(opts []CallOption) callOptions {
	o := collect(opts)
	if o.idempotencyKey == "" {
		o.idempotencyKey = uuid.NewString()
	}
	return o
}

func (o callOptions) query(v url.Values) url.Values {
	if o.minSeq != 0 {
		v.Set("min_seq", strconv.FormatUint(o.minSeq, 10))
	}
	return v
}
