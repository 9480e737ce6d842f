package domain

import (
	"net/netip"
	"time"
)

// CommandName is the name of a command as producers, subjects and the audit log
// know it.
type CommandName string

// The names of commands.
const (
	CommandCreateKey    CommandName = "create_key"
	CommandImportKey    CommandName = "import_key"
	CommandUpdateKey    CommandName = "update_key"
	CommandRotateKey    CommandName = "rotate_key"
	CommandRevokeKey    CommandName = "revoke_key"
	CommandReportLeak   CommandName = "report_leak"
	CommandNotifyExpiry CommandName = "notify_expiry"
	CommandExpireKey    CommandName = "expire_key"
	CommandEndOverlap   CommandName = "end_overlap"
)

// KeyCommand is a request to change a key. The set is closed.
//
//sumtype:decl
type KeyCommand interface {
	// Command returns the command's name.
	Command() CommandName
	// makesKey reports whether the command asks for a key that does not exist yet.
	makesKey() bool
}

// newKeyCommand and keyCommand close the set: commands embed one or the other.
type (
	newKeyCommand struct{}
	keyCommand    struct{}
)

func (newKeyCommand) makesKey() bool { return true }
func (keyCommand) makesKey() bool    { return false }

// CreateKey asks for a new key. Scopes must have been resolved against a
// [Catalogue]; the mac stands for a token that the log never sees.
type CreateKey struct {
	newKeyCommand
	KeySpec
	Actor ActorID
}

// ImportKey asks to know a key that was made elsewhere.
type ImportKey struct {
	newKeyCommand
	KeySpec
	Actor ActorID
}

// UpdateKey asks for changes; a nil member is left as it is.
type UpdateKey struct {
	keyCommand
	Name        *string
	Description *string
	Scopes      *Scopes
	Metadata    *map[string]string
	AllowedIPs  *[]netip.Prefix
	Expiry      *Expiry
}

// RotateKey asks to put a new key in this one's place. The new key has the old
// one's name, environment, scopes, metadata, restrictions and expiry; see [Successor].
type RotateKey struct {
	keyCommand
	NewID    KeyID
	NewMac   Mac
	PepperID string
	Display  string
	// Overlap is how long the old key goes on working; 0 revokes it at once.
	Overlap time.Duration
	Actor   ActorID
}

// RevokeKey asks that the key be refused for good. It is idempotent.
type RevokeKey struct {
	keyCommand
	Reason string
}

// ReportLeak records that the token was seen where it does not belong and, if
// Revoke is set, revokes the key.
type ReportLeak struct {
	keyCommand
	Source   string
	Location string
	Revoke   bool
}

// NotifyExpiry asks for the notice of a deadline. It is the clock's command: it
// does nothing unless Deadline is still the key's expiry, Lead before it has come,
// and no notice with a lead as short was given.
type NotifyExpiry struct {
	keyCommand
	Deadline time.Time
	Lead     time.Duration
}

// ExpireKey records that a deadline has passed; the clock's command.
type ExpireKey struct {
	keyCommand
	Deadline time.Time
}

// EndOverlap revokes a rotated key whose overlap has ended; the clock's command.
type EndOverlap struct{ keyCommand }

// Command returns the command's name.
func (CreateKey) Command() CommandName { return CommandCreateKey }

// Command returns the command's name.
func (ImportKey) Command() CommandName { return CommandImportKey }

// Command returns the command's name.
func (UpdateKey) Command() CommandName { return CommandUpdateKey }

// Command returns the command's name.
func (RotateKey) Command() CommandName { return CommandRotateKey }

// Command returns the command's name.
func (RevokeKey) Command() CommandName { return CommandRevokeKey }

// Command returns the command's name.
func (ReportLeak) Command() CommandName { return CommandReportLeak }

// Command returns the command's name.
func (NotifyExpiry) Command() CommandName { return CommandNotifyExpiry }

// Command returns the command's name.
func (ExpireKey) Command() CommandName { return CommandExpireKey }

// Command returns the command's name.
func (EndOverlap) Command() CommandName { return CommandEndOverlap }
