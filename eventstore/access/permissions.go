package access

import (
	"github.com/nats-io/jwt/v2"

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

// For returns what the bearer of a management key may do on NATS. It is the zero
// value for a key that has nothing to do there: one without the scopes
// keyledger.commands, keyledger.audit:read and keyledger.verify, and an account's
// key that has only the last two, since the log holds all accounts.
//
// The client must use the inbox prefix eventstore.InboxPrefix(key id).
func For(a domain.Authority) Permissions {
	id, account := string(a.Actor), string(a.Account)
	// An id of another form could widen the patterns that it becomes part of.
	if !domain.ValidID(id) || !domain.ValidID(account) {
		return Permissions{}
	}
	produces := a.May(domain.ScopeCommands) == nil
	verifies := a.Instance() && a.May(domain.ScopeVerify) == nil
	reads := verifies || a.Instance() && a.May(domain.ScopeAuditRead) == nil
	if !produces && !reads {
		return Permissions{}
	}
	p := Permissions{
		Publish:   []string{apiInfo},
		Subscribe: []string{eventstore.InboxPrefix(id) + ".>"},
	}
	if produces {
		of, outcomes := account, eventstore.OutcomePrefix+"."+account+".>"
		if a.Instance() {
			of, outcomes = "*", eventstore.OutcomePrefix+".>"
		}
		p.Publish = append(p.Publish, eventstore.CommandPrefix+"."+of+"."+id+".*", apiOutcome+outcomes)
		p.Subscribe = append(p.Subscribe, outcomes)
	}
	if reads {
		p.Publish = append(p.Publish, readLog()...)
	}
	if verifies {
		p.Publish = append(p.Publish, eventstore.UsagePrefix+"."+id)
	}
	return p
}

// The subjects of the JetStream API that clients may have to do with.
const (
	apiInfo    = "$JS.API.INFO"
	apiOutcome = "$JS.API.DIRECT.GET." + string(eventstore.SideOutcomes) + "."
)

// readLog lists what it takes to read the whole log with the official clients.
//
// Reading through a consumer takes the right to create one, and NATS cannot say of
// which sort: a reader can have the server push copies of events to any subject of
// the log's account that somebody subscribes to by its literal name. Nothing that
// counts is subscribed to like that there: streams are not, and what clients follow
// is another subject (see [Public.ServerConfig]). Names of consumers are not
// listed, which keeps a reader from deleting those of others.
func readLog() []string {
	const stream = eventstore.StreamName
	return []string{
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
	}
}

// None reports whether nothing is permitted.
func (p Permissions) None() bool { return len(p.Publish) == 0 && len(p.Subscribe) == 0 }

// claim returns the permissions as a user JWT has them.
func (p Permissions) claim() jwt.Permissions {
	return jwt.Permissions{Pub: only(p.Publish), Sub: only(p.Subscribe)}
}

// only permits the listed subjects. The server takes an empty list of what is
// allowed for "everything", so that needs to be denied by name.
func only(subjects []string) jwt.Permission {
	if len(subjects) == 0 {
		return jwt.Permission{Deny: jwt.StringList{">"}}
	}
	return jwt.Permission{Allow: subjects}
}
