package projections

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

// maxNameBytes is what an index entry has room for in every database. Commands allow
// 100 characters.
const maxNameBytes = 1000

// unstorable says why an event cannot be in the tables, or "". No command writes
// such an event; who can write to the stream can. It is found here, for every
// database alike and with its sequence, and not by one database in the middle of a
// batch.
func unstorable(e *eventstore.Event) string {
	text := textCheck{}
	text.check(string(e.Aggregate.Account), e.Aggregate.ID, string(e.Actor), string(e.Command), e.CommandID, e.RequestID, e.ID)
	switch data := e.Data.(type) {
	case domain.KeyCreated:
		text.spec(&data.KeySpec)
		text.check(string(data.CreatedBy))
	case domain.KeyImported:
		text.spec(&data.KeySpec)
		text.check(string(data.CreatedBy))
	case domain.KeyUpdated:
		text.update(&data)
	case domain.KeyRotated:
		text.check(string(data.ReplacedBy))
	case domain.KeyRevoked:
		text.check(data.Reason)
	case domain.KeyLeaked:
		text.check(data.Source, data.Location)
	case domain.KeyExpiring, domain.KeyExpired:
	}
	return text.reason
}

// textCheck keeps the first reason.
type textCheck struct{ reason string }

func (c *textCheck) check(texts ...string) {
	for _, s := range texts {
		if strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s) {
			c.reason = "it holds text that no table can hold (a NUL, or not UTF-8)"
		}
	}
}

func (c *textCheck) spec(s *domain.KeySpec) {
	c.check(string(s.ID), string(s.Account), string(s.Type), s.Description, string(s.Environment), s.PepperID, s.Display, string(s.RotatedFrom))
	c.name(s.Name)
	c.scopes(s.Scopes)
	if s.Grants != nil {
		c.scopes(s.Grants.Scopes)
		for _, e := range s.Grants.Environments {
			c.check(string(e))
		}
	}
	c.metadata(s.Metadata)
	c.prefixes(s.AllowedIPs)
}

func (c *textCheck) update(u *domain.KeyUpdated) {
	if u.Name != nil {
		c.name(*u.Name)
	}
	if u.Description != nil {
		c.check(*u.Description)
	}
	if u.Scopes != nil {
		c.scopes(*u.Scopes)
	}
	if u.Metadata != nil {
		c.metadata(*u.Metadata)
	}
	if u.AllowedIPs != nil {
		c.prefixes(*u.AllowedIPs)
	}
}

func (c *textCheck) name(s string) {
	c.check(s)
	if len(s) > maxNameBytes {
		c.reason = fmt.Sprintf("its name has %d bytes, more than %d", len(s), maxNameBytes)
	}
}

func (c *textCheck) scopes(list domain.Scopes) {
	for _, s := range list {
		c.check(string(s))
	}
}

func (c *textCheck) metadata(m map[string]string) {
	for name, value := range m {
		c.check(name, value)
	}
}

func (c *textCheck) prefixes(list []netip.Prefix) {
	for _, p := range list {
		if p != p.Masked() {
			c.reason = fmt.Sprintf("%s is not the beginning of an address range", p)
		}
	}
}
