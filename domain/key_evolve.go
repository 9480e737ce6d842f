package domain

import "time"

// Evolve returns the state after an event. It only assigns: an event that is in
// the log is true, whatever rules hold today. The one exception keeps a forged
// event from replacing a key: a key comes to be once, by its first event, so a
// second creation is void, and so is anything said of a key that never came to be.
func Evolve(k Key, e KeyEvent) Key {
	if makesKey(e) == k.Exists() {
		return k
	}
	k.Version++
	switch e := e.(type) {
	case KeyCreated:
		k.KeySpec = e.KeySpec
		k.CreatedAt, k.CreatedBy = e.CreatedAt, e.CreatedBy
	case KeyImported:
		k.KeySpec = e.KeySpec
		k.CreatedAt, k.CreatedBy, k.Imported = e.ImportedAt, e.CreatedBy, true
	case KeyUpdated:
		k = evolveUpdated(k, e)
	case KeyRotated:
		k.ReplacedBy, k.EndsAt, k.RotatedAt = e.ReplacedBy, e.EndsAt, e.RotatedAt
	case KeyRevoked:
		k.RevokedAt, k.RevokeReason = e.RevokedAt, e.Reason
	case KeyExpiring:
		k.NoticeLead = time.Duration(e.LeadSeconds) * time.Second
	case KeyExpired:
		k.ExpiredAt = e.ExpiresAt
	case KeyLeaked:
		k.LeakedAt = e.LeakedAt
	}
	return k
}

func makesKey(e KeyEvent) bool {
	_, created := e.(KeyCreated)
	_, imported := e.(KeyImported)
	return created || imported
}

func evolveUpdated(k Key, e KeyUpdated) Key {
	k.UpdatedAt = e.UpdatedAt
	if e.Name != nil {
		k.Name = *e.Name
	}
	if e.Description != nil {
		k.Description = *e.Description
	}
	if e.Scopes != nil {
		k.Scopes = *e.Scopes
	}
	if e.Metadata != nil {
		k.Metadata = *e.Metadata
	}
	if e.AllowedIPs != nil {
		k.AllowedIPs = *e.AllowedIPs
	}
	if e.Expiry != nil {
		k.ExpiresAt = e.Expiry.At
		k.NoticeLead = 0 // a new deadline has its own notices
	}
	return k
}
