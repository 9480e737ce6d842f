// Package command carries out commands: it loads an aggregate, asks the domain to
// decide, appends the events, and tries again when somebody else was faster.
//
// One command goes this way:
//
//	door -> Handler.CreateKey/UpdateKey/RotateKey/RevokeKey
//	     -> load the key's events        (create skips this: its key is new)
//	     -> was this command carried out before? then answer its first outcome
//	     -> domain.Decide                (a refusal is checked against the leader first)
//	     -> eventstore.Append, expecting that nothing came in between
//	     -> on a conflict or an unanswered append: load from the leader, again
//
// Idempotency needs no table and has no window: ids of new keys are derived from
// the command's id, and every event carries the id and a keyed hash of its command,
// so that a repeat finds its first outcome in the log itself.
//
// The package may import domain and eventstore. Doors call it; it knows nothing of
// HTTP or NATS subjects.
package command
