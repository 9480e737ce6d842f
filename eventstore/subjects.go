package eventstore

import (
	"fmt"
	"strings"

	"github.com/keyledger/keyledger/domain"
)

// The beginnings of the subjects beside the log.
const (
	CommandPrefix = "keyledger.commands"
	OutcomePrefix = "keyledger.outcomes"
	DeadPrefix    = "keyledger.dead"
	UsagePrefix   = "keyledger.usage"
	// AnnouncePrefix is where the stream of outcomes tells what it has stored to
	// clients of another account. No stream keeps these.
	AnnouncePrefix = "keyledger.announced"
)

// CommandAddress is what the subject of a command says: for which account, by
// which producer (the id of its management key) and what. A producer's credential
// lets it publish under its own id only, so the producer is the command's actor.
type CommandAddress struct {
	Account  domain.AccountID
	Producer domain.KeyID
	Command  domain.CommandName
}

// Subject returns keyledger.commands.<account>.<producer>.<command>.
func (a CommandAddress) Subject() (string, error) { return a.under(CommandPrefix) }

// DeadSubject returns where the command goes if it can never succeed.
func (a CommandAddress) DeadSubject() (string, error) { return a.under(DeadPrefix) }

func (a CommandAddress) under(prefix string) (string, error) {
	return subject(prefix, string(a.Account), string(a.Producer), string(a.Command))
}

// ParseCommandSubject is the inverse of [CommandAddress.Subject]. That the command
// is one that there is must be checked by the caller.
func ParseCommandSubject(s string) (CommandAddress, error) {
	return parseAddress(CommandPrefix, s)
}

// ParseDeadSubject is the inverse of [CommandAddress.DeadSubject].
func ParseDeadSubject(s string) (CommandAddress, error) {
	return parseAddress(DeadPrefix, s)
}

func parseAddress(prefix, s string) (CommandAddress, error) {
	rest, ok := strings.CutPrefix(s, prefix+".")
	parts := strings.Split(rest, ".")
	if !ok || len(parts) != 3 {
		return CommandAddress{}, fmt.Errorf("subject %q is not %s.<account>.<producer>.<command>", s, prefix)
	}
	for _, part := range parts {
		if !domain.ValidID(part) {
			return CommandAddress{}, fmt.Errorf("subject %q: a part of it has not the form of an id", s)
		}
	}
	return CommandAddress{
		Account: domain.AccountID(parts[0]), Producer: domain.KeyID(parts[1]), Command: domain.CommandName(parts[2]),
	}, nil
}

// OutcomeSubject returns keyledger.outcomes.<account>.<command id>. A command id
// that has not the form of an id has no outcome subject: over NATS it is refused.
func OutcomeSubject(account domain.AccountID, commandID string) (string, error) {
	return subject(OutcomePrefix, string(account), commandID)
}

// UsageSubject returns keyledger.usage.<reporter>: the node or verifier that
// reports, which may publish its own reports only.
func UsageSubject(reporter string) (string, error) { return subject(UsagePrefix, reporter) }

// subject joins ids under a prefix; what has not the form of an id is refused here
// and never reaches NATS.
func subject(prefix string, ids ...string) (string, error) {
	for _, id := range ids {
		if !domain.ValidID(id) {
			return "", domain.Invalid("invalid_id", "/id", "not the form of an id", "use 1 to 64 letters, digits, '-' and '_'")
		}
	}
	return prefix + "." + strings.Join(ids, "."), nil
}

// InboxPrefix is where the answers to a user's requests go. Each user has its own,
// so that nobody reads another's answers: pass it to nats.CustomInboxPrefix, or to
// the nats tool as --inbox-prefix.
func InboxPrefix(user string) string { return "_INBOX_" + user }
