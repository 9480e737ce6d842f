package wire

import (
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/command"
	"github.com/keyledger/keyledger/domain"
)

// expiringWithin is how long before its expiry a key counts as expiring.
const expiringWithin = 7 * 24 * time.Hour

// Key shows a key as the API does: never its mac or pepper.
func Key(k domain.Key, seq uint64, now time.Time) client.Key {
	w := client.Key{
		ID: string(k.ID), Account: string(k.Account), KeyType: string(k.Type),
		Name: k.Name, Description: k.Description, Environment: string(k.Environment),
		Scopes: Texts(k.Scopes), FullAccess: len(k.Scopes) == 1 && k.Scopes[0] == domain.FullAccess,
		Display: k.Display, Status: string(k.Status(now)), Expiring: k.Expiring(now, expiringWithin),
		ExpiresAt: Instant(k.ExpiresAt), AllowedIPs: make([]string, len(k.AllowedIPs)), Metadata: k.Metadata,
		CreatedAt: k.CreatedAt, CreatedBy: string(k.CreatedBy), UpdatedAt: Instant(k.UpdatedAt),
		RevokedAt: Instant(k.RevokedAt), RevokeReason: k.RevokeReason,
		RotatedFrom: string(k.RotatedFrom), ReplacedBy: string(k.ReplacedBy), EndsAt: Instant(k.EndsAt),
		Seq: seq,
	}
	for i, p := range k.AllowedIPs {
		w.AllowedIPs[i] = p.String()
	}
	if w.Metadata == nil {
		w.Metadata = map[string]string{}
	}
	if k.Grants != nil {
		w.Grants = &client.Grants{Environments: Texts(k.Grants.Environments), Scopes: Texts(k.Grants.Scopes)}
	}
	return w
}

// Texts turns a list of named strings into one of plain ones, never nil: empty
// lists are [] on the wire.
func Texts[S ~string](list []S) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = string(s)
	}
	return out
}

// Named is the inverse of [Texts], and keeps nil.
func Named[S ~string](list []string) []S {
	if list == nil {
		return nil
	}
	out := make([]S, len(list))
	for i, s := range list {
		out[i] = S(s)
	}
	return out
}

// Instant returns a time for the wire, where null stands for "not so".
func Instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	utc := t.UTC()
	return &utc
}

// expiry returns what a request says of the expiry: what is there counts, even if
// it is empty; nil if nothing is there.
func expiry(on *string, at *time.Time) *command.NewExpiry {
	if on == nil && at == nil {
		return nil
	}
	return &command.NewExpiry{On: on, At: at}
}

// NewKey reads a request for a key.
func NewKey(b client.CreateKeyRequest) command.NewKey {
	return command.NewKey{
		Account: domain.AccountID(b.Account), Type: domain.KeyTypeAPI, Name: b.Name, Description: b.Description,
		Environment: domain.Environment(b.Environment), Scopes: Named[domain.Scope](b.Scopes), FullAccess: b.FullAccess,
		Expiry: expiry(b.ExpiresOn, b.ExpiresAt), AllowedIPs: b.AllowedIPs, Metadata: b.Metadata,
		TokenSHA256: b.TokenSHA256,
	}
}

// NewManagementKey reads a request for a management key.
func NewManagementKey(b client.CreateManagementKeyRequest) command.NewKey {
	n := command.NewKey{
		Account: domain.AccountID(b.Account), Type: domain.KeyTypeManagement, Name: b.Name, Description: b.Description,
		Scopes: Named[domain.Scope](b.Scopes), Expiry: expiry(b.ExpiresOn, b.ExpiresAt),
	}
	if b.Grants != nil {
		n.Grants = &command.NewGrants{
			Environments: Named[domain.Environment](b.Grants.Environments), Scopes: Named[domain.Scope](b.Grants.Scopes),
		}
	}
	return n
}

// KeyChanges reads a PATCH. full_access false is only good together with the
// scopes that take its place.
func KeyChanges(b client.UpdateKeyRequest) (command.KeyChanges, error) {
	c := command.KeyChanges{Name: b.Name, Description: b.Description, Metadata: b.Metadata, AllowedIPs: b.AllowedIPs}
	if b.Scopes != nil {
		scopes := append([]domain.Scope{}, Named[domain.Scope](*b.Scopes)...)
		c.Scopes = &scopes
	}
	switch {
	case b.FullAccess == nil:
	case *b.FullAccess:
		c.FullAccess = true
	case b.Scopes == nil:
		return c, domain.Invalid(domain.CodeValidation, "/full_access", "false, without scopes", "give the scopes that the key is to hold instead")
	}
	if !b.ExpiresOn.Set && !b.ExpiresAt.Set {
		return c, nil
	}
	if b.ExpiresOn.Set && b.ExpiresAt.Set {
		return c, domain.Invalid(domain.CodeValidation, "/expires_on", "given together with expires_at", "give a date or an instant, not both")
	}
	c.Expiry = expiry(b.ExpiresOn.Value, b.ExpiresAt.Value)
	if c.Expiry == nil { // null
		c.Expiry = &command.NewExpiry{Never: true}
	}
	return c, nil
}

// Rotation reads a request to rotate; nil asks for nothing special.
func Rotation(b *client.RotateKeyRequest) (command.Rotation, error) {
	if b == nil {
		return command.Rotation{}, nil
	}
	if b.Overlap == "" {
		return command.Rotation{TokenSHA256: b.TokenSHA256}, nil
	}
	d, err := time.ParseDuration(b.Overlap)
	if err != nil || d < 0 {
		return command.Rotation{}, domain.Invalid(domain.CodeValidation, "/overlap", "not a duration", `use hours, minutes and seconds, for example "24h" or "1h30m"`)
	}
	return command.Rotation{Overlap: d, TokenSHA256: b.TokenSHA256}, nil
}
