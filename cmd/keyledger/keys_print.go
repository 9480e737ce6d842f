package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keyledger/keyledger/client"
)

// newKey is a key that was just made, and what is to be known to speak of it.
type newKey struct {
	client.Outcome
	done       string // what was done to it: "Created"
	management bool
	ownToken   bool // the caller has the token: it gave the SHA-256
}

// instead says what to do about a key whose token nobody has.
func (k newKey) instead() string {
	if k.management {
		return "revoke it (keyledger keys revoke --management " + k.Key.ID + ") and create another"
	}
	return "put a new key in its place (keyledger keys rotate " + k.Key.ID + "), or revoke it (keyledger keys revoke " + k.Key.ID + ")"
}

// printNewKey shows a key that was just made. The token goes to standard output
// alone, so that it can be piped to where it is kept without passing by anything
// else; the words around it go to standard error. Where a token is expected and
// none comes out, it fails, although the key is made: a script must not go on
// with an empty one.
func (a *app) printNewKey(o outputFlag, k newKey) error {
	if a.machine(o) {
		return k.unprinted(a.printJSON(k.Outcome))
	}
	if k.Token == "" && !k.ownToken {
		return failf(k.instead(), "this command was done before: it made %s (%s), whose token was in the first answer and is not kept", k.Key.ID, k.Key.Name)
	}
	a.errorf("%s %s (%s), seq %d.\n", clean(k.done), clean(k.Key.ID), clean(k.Key.Name), k.Seq)
	if k.Token == "" {
		a.errorf("The key is the one whose SHA-256 you gave.\n")
		return nil
	}
	if _, err := fmt.Fprintln(a.stdout, k.Token); err != nil {
		return k.unprinted(err)
	}
	a.errorf("Copy the key immediately: it won't be shown again.\n")
	return nil
}

// unprinted explains that the key is made and its token is lost.
func (k newKey) unprinted(err error) error {
	if err == nil || k.Token == "" {
		return outputError(err)
	}
	return failf(k.instead(), "%s is made, but its token could not be printed and is lost: %w", k.Key.ID, err)
}

// remark says what the status alone does not.
func remark(k client.Key) string {
	switch {
	case k.Status != "active":
		return ""
	case k.ReplacedBy != "" && k.EndsAt != nil:
		return ", rotated, ends " + minute(*k.EndsAt)
	case k.Expiring && k.ExpiresAt != nil:
		return ", expires " + minute(*k.ExpiresAt)
	default:
		return ""
	}
}

const shownScopes = 3

func shortScopes(k client.Key) string {
	if k.FullAccess {
		return "full access"
	}
	if len(k.Scopes) <= shownScopes {
		return strings.Join(k.Scopes, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(k.Scopes[:shownScopes-1], ", "), len(k.Scopes)-shownScopes+1)
}

// printKey shows all there is to know about one key. Of the past nothing is known of use.
func (a *app) printKey(o outputFlag, k client.Key, past bool) error {
	if a.machine(o) {
		return a.printJSON(k)
	}
	scopes := strings.Join(k.Scopes, ", ")
	if k.FullAccess {
		scopes = "full access"
	}
	t := newTable(a.stdout)
	t.pair("id", k.ID)
	t.pair("name", k.Name)
	t.pair("description", k.Description)
	t.pair("account", k.Account)
	t.pair("environment", k.Environment)
	t.pair("type", k.KeyType)
	t.pair("token", k.Display)
	t.pair("status", k.Status+remark(k))
	t.pair("scopes", scopes)
	if k.Grants != nil {
		t.pair("may grant", strings.Join(k.Grants.Scopes, ", ")+" in "+strings.Join(k.Grants.Environments, ", "))
	}
	t.pair("allowed ips", strings.Join(k.AllowedIPs, ", "))
	for _, name := range slices.Sorted(maps.Keys(k.Metadata)) {
		t.pair("metadata", name+"="+k.Metadata[name])
	}
	t.pair("expires", instant(k.ExpiresAt, "never"))
	t.pair("created", k.CreatedAt.UTC().Format(time.RFC3339)+" by "+k.CreatedBy)
	t.pair("updated", instant(k.UpdatedAt, ""))
	t.pair("last used", instant(k.LastUsedAt, "not known"))
	t.pair("revoked", instant(k.RevokedAt, ""))
	t.pair("reason", k.RevokeReason)
	t.pair("rotated from", k.RotatedFrom)
	t.pair("replaced by", k.ReplacedBy)
	t.pair("ends", instant(k.EndsAt, ""))
	if !past {
		t.pair("old token", sinceRotation(k, a.now()))
	}
	t.pair("seq", fmt.Sprint(k.Seq))
	return t.flush()
}
