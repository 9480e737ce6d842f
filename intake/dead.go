package intake

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

// The headers of a dead letter.
const (
	headerReason   = "Keyledger-Reason"
	headerMessage  = "Keyledger-Message"
	headerFix      = "Keyledger-Fix"
	headerID       = "Keyledger-Id"
	headerSubject  = "Keyledger-Subject"
	headerSeq      = "Keyledger-Seq"
	headerRedacted = "Keyledger-Redacted"
	// headerResent is on a command that was sent again: the seq of its dead letter.
	headerResent = "Keyledger-Resent"
	// headerResentBy is on it too: who sent it again.
	headerResentBy = "Keyledger-Resent-By"
)

// nobody stands in the subject of a dead letter whose own subject names nobody.
const nobody = "_invalid"

// deadLetters is the poison queue's publisher: the subject of each letter follows
// from the message, and nothing of it that looks like a token is kept.
type deadLetters struct{ to message.Publisher }

// Publish implements message.Publisher. It does not use topic.
func (d deadLetters) Publish(_ string, messages ...*message.Message) error {
	for _, m := range messages {
		subject, letter, err := letterOf(m)
		if err != nil {
			return err
		}
		if err := d.to.Publish(subject, letter); err != nil {
			return err
		}
	}
	return nil
}

// Close implements message.Publisher.
func (deadLetters) Close() error { return nil }

// letterOf makes the dead letter of a message. The same message makes the same
// letter, with an id that keeps a stream from storing it twice.
func letterOf(m *message.Message) (subject string, letter *message.Message, err error) {
	w := workOf(m)
	address := w.request.address
	if address.Producer == "" {
		address = eventstore.CommandAddress{Account: nobody, Producer: nobody, Command: nobody}
	}
	if subject, err = address.DeadSubject(); err != nil {
		return "", nil, fmt.Errorf("address a dead letter: %w", err)
	}
	body, redacted := redact(m.Payload)
	from, _ := redact([]byte(w.delivery.Subject))
	letter = message.NewMessageWithContext(m.Context(), fmt.Sprintf("%d-%d", w.delivery.Sequence, w.delivery.Time.UnixNano()), body)
	for name, value := range map[string]string{
		headerReason: w.outcome.Code, headerMessage: w.outcome.Message, headerFix: w.outcome.Fix, headerID: w.request.id,
		headerSubject: string(from), headerSeq: strconv.FormatUint(w.delivery.Sequence, 10), headerRedacted: strconv.FormatBool(redacted),
	} {
		if value != "" {
			letter.Metadata.Set(name, value)
		}
	}
	return subject, letter, nil
}

// tokenLike finds more than tokens: what begins like one goes as a whole.
var tokenLike = regexp.MustCompile(`(?:sk_live_|sk_test_|kl_admin_)[0-9A-Za-z]+`)

// redact takes out what looks like a token, and says whether there was any. Escapes
// in JSON are resolved first: a token can be written with them.
func redact(body []byte) (clean []byte, redacted bool) {
	clean = body
	if bytes.Contains(body, []byte(`\`)) {
		if plain := jsontext.Value(bytes.Clone(body)); plain.Canonicalize() == nil && tokenLike.Match(plain) {
			clean = plain
		}
	}
	if tokenLike.Match(clean) {
		return tokenLike.ReplaceAll(clean, []byte("[redacted]")), true
	}
	if domain.ContainsToken(string(clean)) { // of a form that is not known above
		return nil, true
	}
	return clean, false
}
