package intake

import (
	"context"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/command"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/wire"
)

const (
	typePrefix  = "keyledger.command."
	typeVersion = ".v1"
	// ownHeaders begin the headers that are about commands, in any case.
	ownHeaders = "keyledger-"
)

// The codes of commands that are dead, beside those that HTTP has too.
const (
	CodeBadSubject      = "invalid_subject"
	CodeBadHeader       = "invalid_header"
	CodeNotCloudEvent   = "not_a_cloudevent"
	CodeBadID           = "invalid_command_id"
	CodeUnknownType     = "unknown_type"
	CodeForgedActor     = "forged_actor"
	CodeForgedAccount   = "forged_account"
	CodeUnknownProducer = "unknown_producer"
)

// deadError says that a command can never be carried out as it is.
type deadError struct{ reason *domain.Error }

// Error returns the reason.
func (e deadError) Error() string { return e.reason.Error() }

// Unwrap returns the reason.
func (e deadError) Unwrap() error { return e.reason }

func dead(code, message, fix string) error {
	return deadError{domain.NewError(domain.KindInvalid, code, message, fix)}
}

// request is a command as it was read, as far as it could be.
type request struct {
	address eventstore.CommandAddress // zero if the subject is none of a command
	id      string                    // "" if there is none that can be used
	reply   string                    // "" if nobody waits, or at a wrong place
	trace   string
	key     domain.KeyID // that it names
	carry   carry
}

// carry carries a command out.
type carry func(context.Context, Commands, command.Request) (command.Outcome, error)

// envelope is a command's CloudEvent (JSON format 1.0).
type envelope struct {
	SpecVersion     string                    `json:"specversion"`
	ID              string                    `json:"id"`
	Source          string                    `json:"source"`
	Type            string                    `json:"type"`
	Subject         *string                   `json:"subject"`
	Time            *time.Time                `json:"time"`
	DataContentType *string                   `json:"datacontenttype"`
	DataSchema      *string                   `json:"dataschema"`
	Data            jsontext.Value            `json:"data"`
	Extensions      map[string]jsontext.Value `json:",embed"`
}

// read reads a message. The request is what could be read, whatever the error, which
// is a deadError, or says that the values of a command make no sense.
func read(subject string, headers map[string]string, body []byte) (r request, err error) {
	if r.address, err = readSubject(subject); err != nil {
		return r, err
	}
	var replyErr error
	r.reply, replyErr = readReply(headers, r.address.Producer)
	var e envelope
	notJSON := json.Unmarshal(body, &e) // the stream takes little more than may be
	if notJSON == nil && domain.ValidID(e.ID) && !domain.ContainsToken(e.ID) {
		r.id = e.ID
	}
	switch {
	case len(body) > wire.MaxBytes: // said of an id, so that its outcome is found
		return r, dead("body_too_large", "the command is larger than 64 KiB", "send less")
	case notJSON != nil:
		return r, notCloudEvent("it is not one JSON object with the members of a CloudEvent, each once and in lower case")
	}
	if err := e.check(r); err != nil {
		return r, err
	}
	if replyErr != nil {
		return r, replyErr
	}
	r.trace = wire.TraceParent(e.extension("traceparent"))
	return r, r.readData(e.Data)
}

func readSubject(subject string) (eventstore.CommandAddress, error) {
	bad := dead(CodeBadSubject, "the subject is not keyledger.commands.<account>.<producer>.<command>",
		"publish on that subject, with the id of your management key as the producer")
	address, err := eventstore.ParseCommandSubject(subject)
	if err != nil {
		return eventstore.CommandAddress{}, bad
	}
	if _, err := domain.ParseAccountID(string(address.Account)); err != nil {
		return eventstore.CommandAddress{}, bad
	}
	if _, err := domain.ParseKeyID(string(address.Producer)); err != nil || domain.ContainsToken(string(address.Command)) {
		return eventstore.CommandAddress{}, bad
	}
	return address, nil
}

// readReply returns the inbox that the outcome goes to. Headers of ours in another
// case are refused: their sender would wait in vain.
func readReply(headers map[string]string, producer domain.KeyID) (string, error) {
	for name := range headers {
		if strings.HasPrefix(strings.ToLower(name), ownHeaders) && name != eventstore.ReplyHeader && name != headerResent && name != headerResentBy {
			return "", dead(CodeBadHeader, "a header that begins with Keyledger- is none that there is", "send "+eventstore.ReplyHeader+", in this case, or no header")
		}
	}
	inbox, given := headers[eventstore.ReplyHeader]
	if !given {
		return "", nil
	}
	if err := eventstore.CheckReply(inbox, producer); err != nil {
		return "", asDead(err)
	}
	return inbox, nil
}

func (e *envelope) check(r request) error {
	switch {
	case e.SpecVersion != "1.0":
		return notCloudEvent(`its specversion is not "1.0"`)
	case e.Source == "":
		return notCloudEvent("it has no source")
	case e.ID == "":
		return notCloudEvent("it has no id")
	case r.id == "":
		return dead(CodeBadID, "the id of the command cannot be used", "use 1 to 64 letters, digits, '-' and '_', for example a UUID; never an API key")
	case e.Type != typePrefix+string(r.address.Command)+typeVersion:
		return dead(CodeUnknownType, "the type is not that of the command in the subject", "send the type "+typePrefix+"<command>"+typeVersion+" on the subject that ends in .<command>")
	case e.DataContentType != nil && *e.DataContentType != client.MediaTypeJSON:
		return notCloudEvent("its datacontenttype is not application/json")
	}
	for name, value := range e.Extensions {
		if !extensionName(name) || name == "data_base64" {
			return notCloudEvent("it has a member that is none of a CloudEvent; names are in lower case")
		}
		if k := value.Kind(); k == jsontext.KindBeginObject || k == jsontext.KindBeginArray {
			return notCloudEvent("an extension holds an object or a list")
		}
	}
	if _, given := e.Extensions["actor"]; given && e.extension("actor") != string(r.address.Producer) {
		return dead(CodeForgedActor, "the actor is not the producer in the subject", "leave actor out: it is the producer whose credential published the command")
	}
	if _, given := e.Extensions["account"]; given && e.extension("account") != string(r.address.Account) {
		return forgedAccount("/account")
	}
	return nil
}

// extension returns the text of an extension; "" if it is none.
func (e *envelope) extension(name string) string {
	var text string
	if json.Unmarshal(e.Extensions[name], &text) != nil {
		return ""
	}
	return text
}

// extensionName says whether a name is one of an attribute (CloudEvents 1.0, naming
// conventions): lower-case letters and digits.
func extensionName(name string) bool {
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// onKey is the data of a command about a key: the body that HTTP takes, with the key.
type onKey[T any] struct {
	KeyID string `json:"key_id"`
	Body  T      `json:",embed"`
}

// readData reads the data of the command.
func (r *request) readData(data jsontext.Value) error {
	switch r.address.Command { // the others are not sent by producers
	case domain.CommandCreateKey:
		return r.readCreate(data)
	case domain.CommandUpdateKey:
		return readOnKey(r, data, func(b client.UpdateKeyRequest) (carryOnKey, error) {
			changes, err := wire.KeyChanges(b)
			return func(ctx context.Context, c Commands, q command.Request, t command.Target) (command.Outcome, error) {
				return c.UpdateKey(ctx, q, t, changes)
			}, err
		}, "/expires_on", "/expires_at")
	case domain.CommandRotateKey:
		return readOnKey(r, data, func(b client.RotateKeyRequest) (carryOnKey, error) {
			rotation, err := wire.Rotation(&b)
			return func(ctx context.Context, c Commands, q command.Request, t command.Target) (command.Outcome, error) {
				return c.RotateKey(ctx, q, t, rotation)
			}, err
		})
	case domain.CommandRevokeKey:
		return readOnKey(r, data, func(b client.RevokeKeyRequest) (carryOnKey, error) {
			return func(ctx context.Context, c Commands, q command.Request, t command.Target) (command.Outcome, error) {
				return c.RevokeKey(ctx, q, t, b.Reason)
			}, nil
		})
	default:
		return dead(CodeUnknownType, "there is no such command", "send create_key, update_key, rotate_key or revoke_key")
	}
}

func (r *request) readCreate(data jsontext.Value) error {
	var b client.CreateKeyRequest
	if err := wire.Decode(data, &b); err != nil {
		return asDead(err)
	}
	if b.Account != "" && b.Account != string(r.address.Account) {
		return forgedAccount("/data/account")
	}
	b.Account = string(r.address.Account)
	r.carry = func(ctx context.Context, c Commands, q command.Request) (command.Outcome, error) {
		return c.CreateKey(ctx, q, wire.NewKey(b))
	}
	return nil
}

// carryOnKey carries out a command about a key.
type carryOnKey func(context.Context, Commands, command.Request, command.Target) (command.Outcome, error)

// readOnKey reads the data of a command about a key, and makes what carries it out.
func readOnKey[T any](r *request, data jsontext.Value, read func(T) (carryOnKey, error), nullable ...string) error {
	var d onKey[T]
	if err := wire.Decode(data, &d, nullable...); err != nil {
		return asDead(err)
	}
	id, err := domain.ParseKeyID(d.KeyID)
	if err != nil {
		return deadError{domain.Invalid("invalid_id", "/key_id", "not the form of an id", "name the key by its id, key_ and 16 letters and digits")}
	}
	r.key = id
	onKey, err := read(d.Body)
	if err != nil {
		return err // the command is clear, and what it asks for is refused
	}
	target := command.Target{Account: r.address.Account, Type: domain.KeyTypeAPI, ID: id}
	r.carry = func(ctx context.Context, c Commands, q command.Request) (command.Outcome, error) {
		return onKey(ctx, c, q, target)
	}
	return nil
}

func notCloudEvent(why string) error {
	return dead(CodeNotCloudEvent, "the command is not a CloudEvent: "+why, "send a CloudEvents 1.0 JSON object; see docs/commands.md")
}

func forgedAccount(pointer string) error {
	return deadError{&domain.Error{
		Kind: domain.KindInvalid, Code: CodeForgedAccount, Message: "the account is not that of the subject",
		Fix:    "name the account in the subject only",
		Fields: []domain.FieldError{{Pointer: pointer, Detail: "another account"}},
	}}
}
