package feed

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/domain"
)

// The metadata that a received message has beside its headers. Headers of these
// names are overwritten, and none of them is sent.
const (
	metaPrefix   = "feed_"
	metaSubject  = metaPrefix + "subject"
	metaSequence = metaPrefix + "sequence"
	metaTime     = metaPrefix + "time"
	metaAttempt  = metaPrefix + "attempt"
	metaTerm     = metaPrefix + "term"
)

// headerID keeps a message's UUID. The stream's own id of a message is made of it and
// the subject: one message may go to several subjects of a stream.
const headerID = "Watermill-Message-Id"

// headersOfNATS begin the names of headers that tell the server what to do. They
// are not sent with a message that was received elsewhere.
const headersOfNATS = "Nats-"

// severalValues joins the values of one header in the metadata, which holds one
// text for each name. No value contains it: it ends a header's line.
const severalValues = "\n"

// Delivery is where a received message comes from.
type Delivery struct {
	Subject  string
	Sequence uint64    // in its stream
	Time     time.Time // when the stream got it
	Attempt  int       // how often it was handed over, from 1; about so after a crash
}

// DeliveryOf reads the metadata that a [Subscriber] gives to a message; it is zero
// for others.
func DeliveryOf(m *message.Message) Delivery {
	d := Delivery{Subject: m.Metadata.Get(metaSubject)}
	d.Sequence, _ = strconv.ParseUint(m.Metadata.Get(metaSequence), 10, 64)
	d.Attempt, _ = strconv.Atoi(m.Metadata.Get(metaAttempt))
	d.Time, _ = time.Parse(time.RFC3339Nano, m.Metadata.Get(metaTime))
	return d
}

// Values returns all values of a header of a received message; nil if it has none.
func Values(m *message.Message, header string) []string {
	joined, ok := m.Metadata[header]
	if !ok {
		return nil
	}
	return strings.Split(joined, severalValues)
}

// Terminate makes the acknowledgement of a message say that it must not come again,
// and why, in a word: the server then tells so whoever watches its advisories. Call
// it before the message is acknowledged.
func Terminate(m *message.Message, reason string) { m.Metadata.Set(metaTerm, reason) }

// item is a message in the hands of a subscription.
type item struct {
	msg      jetstream.Msg // the newest delivery of it; guarded by subscription.mu
	sequence uint64
	time     time.Time
	earlier  int // deliveries before this one
}

func newItem(msg jetstream.Msg) (*item, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return nil, fmt.Errorf("read where a message comes from: %w", err)
	}
	earlier := 0
	if meta.NumDelivered > 1 {
		earlier = int(min(meta.NumDelivered-1, 1<<30))
	}
	return &item{msg: msg, sequence: meta.Sequence.Stream, time: meta.Timestamp, earlier: earlier}, nil
}

// message makes what a handler gets at the given local attempt, from 0. Nothing in
// it is shared with another attempt's message.
func (i *item) message(msg jetstream.Msg, attempt int) *message.Message {
	headers := msg.Headers()
	id := headers.Get(headerID)
	if id == "" || domain.ContainsToken(id) { // ids are logged
		id = strconv.FormatUint(i.sequence, 10)
	}
	m := message.NewMessage(id, append([]byte(nil), msg.Data()...))
	for name, values := range headers {
		m.Metadata[name] = strings.Join(values, severalValues)
	}
	delete(m.Metadata, metaTerm)
	delete(m.Metadata, headerID)
	m.Metadata[metaSubject] = msg.Subject()
	m.Metadata[metaSequence] = strconv.FormatUint(i.sequence, 10)
	m.Metadata[metaTime] = i.time.UTC().Format(time.RFC3339Nano)
	m.Metadata[metaAttempt] = strconv.Itoa(i.earlier + attempt + 1)
	return m
}

// errHeader refuses metadata that no header can carry: nats.go would leave it out.
var errHeader = errors.New("the name of a header is empty or holds what no header can")

// headersOf makes the headers of a message that is published: its metadata, except
// what says where it was received and what is between NATS and the one who sent it.
func headersOf(subject string, m *message.Message) (nats.Header, error) {
	headers := nats.Header{}
	for name, joined := range m.Metadata {
		if strings.HasPrefix(name, metaPrefix) || strings.HasPrefix(name, headersOfNATS) {
			continue
		}
		if !token(name) {
			return nil, errHeader
		}
		headers[name] = strings.Split(joined, severalValues)
	}
	if m.UUID != "" {
		headers.Set(headerID, m.UUID)
		headers.Set(jetstream.MsgIDHeader, subject+" "+m.UUID)
	}
	return headers, nil
}

// token reports whether s is a token of RFC 9110, 5.6.2, as header names are.
func token(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' {
			continue
		}
		if !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return true
}
