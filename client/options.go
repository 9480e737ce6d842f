package client

import (
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// CallOption changes one call.
type CallOption func(*callOptions)

type callOptions struct {
	idempotencyKey string
	requestID      string
	ifMatch        *uint64
	minSeq         uint64
	at             time.Time
	asOf           *uint64
	progress       func(ExportProgress)
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

// WithAt makes [Client.Key] and [Client.ManagementKey] show the key as it was at an
// instant of the past. There is none, status 404, before it was created.
func WithAt(at time.Time) CallOption {
	return func(o *callOptions) { o.at = at }
}

// WithSeq is [WithAt] for the moment just after the event seq.
func WithSeq(seq uint64) CallOption {
	return func(o *callOptions) { o.asOf = &seq }
}

// WithProgress makes [Client.ExportAudit] tell how far it is, after every row
// that it has written; it is called from one goroutine.
func WithProgress(report func(ExportProgress)) CallOption {
	return func(o *callOptions) { o.progress = report }
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
	setUint(v, "min_seq", o.minSeq)
	setTime(v, "at", o.at)
	if o.asOf != nil {
		v.Set("seq", strconv.FormatUint(*o.asOf, 10))
	}
	return v
}

// The following set a parameter unless the value is zero.

func set(v url.Values, name, value string) {
	if value != "" {
		v.Set(name, value)
	}
}

func setTime(v url.Values, name string, t time.Time) {
	if !t.IsZero() {
		v.Set(name, t.UTC().Format(time.RFC3339Nano))
	}
}

func setUint(v url.Values, name string, n uint64) {
	if n != 0 {
		v.Set(name, strconv.FormatUint(n, 10))
	}
}
