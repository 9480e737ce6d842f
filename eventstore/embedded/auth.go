package embedded

import (
	"crypto/subtle"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

// Permissions lists the subjects that a client may publish and subscribe to, as
// NATS subject patterns. What is not listed is refused; the zero value permits
// nothing.
type Permissions struct {
	Publish   []string
	Subscribe []string
}

// Auditor returns the permissions to read the whole event log, and to do nothing
// else. The client must use the inbox prefix [InboxPrefix] (user).
//
// Reading through a consumer takes the right to create one, and NATS cannot say
// of which sort: a reader can have the server deliver copies of events, as they
// are, to a subject that it may not publish to itself (not into the log, nor to
// the JetStream API; a test holds that). So whoever takes orders from a subject
// must not take the subject alone for proof of who sent them. Names of consumers
// are not listed, which keeps a reader from deleting those of others.
func Auditor(user string) Permissions {
	const stream = eventstore.StreamName
	return Permissions{
		Publish: []string{
			"$JS.API.INFO",
			"$JS.API.STREAM.NAMES",
			"$JS.API.STREAM.LIST",
			"$JS.API.STREAM.INFO." + stream,
			"$JS.API.STREAM.MSG.GET." + stream,
			"$JS.API.DIRECT.GET." + stream,
			"$JS.API.DIRECT.GET." + stream + ".>",
			"$JS.API.CONSUMER.CREATE." + stream,
			"$JS.API.CONSUMER.CREATE." + stream + ".>",
			"$JS.API.CONSUMER.INFO." + stream + ".>",
			"$JS.API.CONSUMER.MSG.NEXT." + stream + ".>",
			"$JS.API.CONSUMER.DELETE." + stream + ".>",
		},
		Subscribe: []string{InboxPrefix(user) + ".>"},
	}
}

// InboxPrefix is where the answers to a user's requests go. Each user has its
// own, so that nobody reads another's answers: pass it to nats.CustomInboxPrefix,
// or to the nats tool as --inbox-prefix.
func InboxPrefix(user string) string { return "_INBOX_" + user }

// authenticator decides who may connect. Only the process itself has the node's
// secret, and it counts only on connections inside the process.
type authenticator struct {
	secret       string
	authenticate func(user, password string) (Permissions, bool)
}

// Check implements [server.Authentication].
func (a *authenticator) Check(c server.ClientAuthentication) bool {
	opts := c.GetOpts()
	// With a key beside the user, the server would report the key as the user, and
	// whom to send away is decided by that.
	if opts.Nkey != "" {
		return false
	}
	if opts.Username == nodeUser {
		inside := c.RemoteAddress() != nil && c.RemoteAddress().Network() == "pipe"
		return inside && subtle.ConstantTimeCompare([]byte(opts.Password), []byte(a.secret)) == 1
	}
	// An id of another form could widen its own inbox pattern.
	if c.Kind() != server.CLIENT || a.authenticate == nil || !domain.ValidID(opts.Username) {
		return false
	}
	p, ok := a.authenticate(opts.Username, opts.Password)
	if !ok {
		return false
	}
	c.RegisterUser(&server.User{Username: opts.Username, Permissions: &server.Permissions{
		Publish:   only(p.Publish),
		Subscribe: only(p.Subscribe),
	}})
	return true
}

// only permits the listed subjects. The server takes an empty list of what is
// allowed for "everything", so that needs to be denied by name.
func only(subjects []string) *server.SubjectPermission {
	if len(subjects) == 0 {
		return &server.SubjectPermission{Deny: []string{">"}}
	}
	return &server.SubjectPermission{Allow: subjects}
}
