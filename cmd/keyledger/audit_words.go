package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyledger/keyledger/client"
)

// What customers wrote stands in quotation marks, in which it can close none, and
// everything else is of this program's words: no name or reason can pass for another
// change, or for the mark of an entry that had no effect.

// auditWhat says in a line what an entry did.
func auditWhat(e client.AuditEntry) string {
	verb := word(strings.TrimPrefix(e.Action, "key."))
	details := auditDetails(e)
	switch {
	case e.Void != "":
		return details
	case details == "":
		return verb
	case e.Action == "key.created" || e.Action == "key.imported":
		return verb + " " + details
	case e.Action == "key.updated":
		return details // what changed says it
	default:
		return verb + ": " + details
	}
}

// auditDetails says what the action does not.
func auditDetails(e client.AuditEntry) string {
	if e.Void != "" {
		return fmt.Sprintf("VOID, it had no effect: %s (%s)", voidWords(e.Void), word(e.Action))
	}
	var parts []string
	for _, c := range e.Changes {
		if text := changeWords(e, c); text != "" {
			parts = append(parts, text)
		}
	}
	if e.Reason != "" {
		parts = slices.Insert(parts, 0, "reason "+strconv.Quote(e.Reason))
	}
	separator := ", "
	if e.Action == "key.updated" {
		separator = "; " // lists have commas of their own
	}
	return strings.Join(parts, separator)
}

func voidWords(reason string) string {
	switch reason {
	case "key_id_taken":
		return "another account holds this key id"
	case "mac_taken":
		return "another key has this token"
	case "subject_mismatch":
		return "the event names another key or account than its subject"
	case "created_twice":
		return "the key exists already"
	case "no_such_key":
		return "there is no such key"
	default:
		return word(reason)
	}
}

// changeWords renders one member of a change; "" for those that repeat what the
// action and its time say.
func changeWords(e client.AuditEntry, c client.AuditChange) string {
	before, after := auditValue(c.Field, c.Before), auditValue(c.Field, c.After)
	switch c.Field {
	case "revoked_at", "expired_at", "rotated_at", "leaked_at", "revoke_reason":
		return ""
	case "replaced_by":
		return "replaced by " + after
	case "rotated_from":
		return "in place of " + after
	case "ends_at":
		return "ends " + after
	case "notice_lead_seconds":
		return "notice sent, " + after + " before the end"
	case "leak_source":
		return "found by " + after
	case "leak_location":
		return "at " + after
	}
	if e.Action != "key.created" && e.Action != "key.imported" {
		return fieldWords(c.Field) + ": " + before + " → " + after
	}
	switch c.Field {
	case "key_type":
		if after == "api" {
			return ""
		}
		return after + " key"
	case "display":
		return ""
	case "name", "environment", "scopes":
		return after
	case "expires_at":
		return "expires " + after
	case "allowed_ips":
		return "from " + after
	case "grants":
		return "may grant " + after
	default:
		return fieldWords(c.Field) + " " + after
	}
}

// auditValue renders a value for people; one of a form that is not known is shown
// as the JSON it is.
func auditValue(field string, raw json.RawMessage) string {
	if len(raw) == 0 || string(raw) == "null" {
		switch field {
		case "expires_at":
			return "never"
		case "allowed_ips":
			return "anywhere"
		default:
			return "none"
		}
	}
	switch field {
	case "name", "description":
		var text string
		if json.Unmarshal(raw, &text) == nil {
			return strconv.Quote(text)
		}
	case "scopes", "allowed_ips":
		var list []string
		if json.Unmarshal(raw, &list) == nil {
			return listWords(list)
		}
	case "grants":
		var grants client.Grants
		if json.Unmarshal(raw, &grants) == nil {
			return listWords(grants.Scopes) + " in " + listWords(grants.Environments)
		}
	case "metadata":
		var pairs map[string]string
		if json.Unmarshal(raw, &pairs) == nil {
			var list []string
			for _, name := range slices.Sorted(maps.Keys(pairs)) {
				list = append(list, word(name)+"="+strconv.Quote(pairs[name]))
			}
			return cmp.Or(strings.Join(list, ", "), "none")
		}
	case "notice_lead_seconds":
		var seconds float64
		if json.Unmarshal(raw, &seconds) == nil {
			return span(secondsOf(seconds))
		}
	default:
		var text string
		if json.Unmarshal(raw, &text) == nil {
			if at, err := time.Parse(time.RFC3339, text); err == nil && strings.HasSuffix(field, "_at") {
				return at.UTC().Format(time.RFC3339) // to the second is enough to read
			}
			return word(text)
		}
	}
	return compactJSON(raw)
}

// compactJSON has no spaces outside of its strings.
func compactJSON(raw json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return strconv.Quote(string(raw))
	}
	return b.String()
}

func fieldWords(field string) string { return strings.ReplaceAll(word(field), "_", " ") }

// word leaves names as they are that can be nothing else: ids, scopes, addresses,
// times. Anything with more to it is quoted.
func word(text string) string {
	const more = "_-.:/*…"
	strange := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(more, r)
	}
	if text == "" || strings.ContainsFunc(text, strange) {
		return strconv.Quote(text)
	}
	return text
}

func listWords(list []string) string {
	switch {
	case len(list) == 0:
		return "none"
	case slices.Equal(list, []string{"*"}):
		return "full access"
	default:
		words := make([]string, len(list))
		for i := range list {
			words[i] = word(list[i])
		}
		return strings.Join(words, ", ")
	}
}
