package access_test

import (
	"reflect"
	"slices"
	"testing"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore/access"
)

func TestFor(t *testing.T) {
	readLog := []string{
		"$JS.API.STREAM.NAMES",
		"$JS.API.STREAM.LIST",
		"$JS.API.STREAM.INFO.KEYLEDGER_EVENTS",
		"$JS.API.STREAM.MSG.GET.KEYLEDGER_EVENTS",
		"$JS.API.DIRECT.GET.KEYLEDGER_EVENTS",
		"$JS.API.DIRECT.GET.KEYLEDGER_EVENTS.>",
		"$JS.API.CONSUMER.CREATE.KEYLEDGER_EVENTS",
		"$JS.API.CONSUMER.CREATE.KEYLEDGER_EVENTS.>",
		"$JS.API.CONSUMER.INFO.KEYLEDGER_EVENTS.>",
		"$JS.API.CONSUMER.MSG.NEXT.KEYLEDGER_EVENTS.>",
		"$JS.API.CONSUMER.DELETE.KEYLEDGER_EVENTS.>",
	}
	const inbox = "_INBOX_key_1.>"
	info := []string{"$JS.API.INFO"}
	producer := []string{
		"$JS.API.INFO", "keyledger.commands.acct_1.key_1.*",
		"$JS.API.DIRECT.GET.KEYLEDGER_OUTCOMES.keyledger.outcomes.acct_1.>",
	}
	instance := []string{
		"$JS.API.INFO", "keyledger.commands.*.key_1.*",
		"$JS.API.DIRECT.GET.KEYLEDGER_OUTCOMES.keyledger.outcomes.>",
	}
	var all domain.Scopes
	for _, s := range domain.ManagementCatalogue().All() {
		all = append(all, s.Scope)
	}
	for _, c := range []struct {
		name    string
		id      domain.ActorID
		account domain.AccountID
		scopes  domain.Scopes
		want    access.Permissions
	}{
		{"no scope", "key_1", "acct_1", nil, access.Permissions{}},
		{"no scope for NATS", "key_1", domain.RootAccount, domain.Scopes{domain.ScopeKeysRead, domain.ScopeKeysWrite, domain.ScopeOperate, domain.ScopeWebhooksRead, domain.ScopeWebhooksWrite}, access.Permissions{}},
		{"a customer's full access is none", "key_1", "acct_1", domain.Scopes{domain.FullAccess}, access.Permissions{}},
		{"producer of an account", "key_1", "acct_1", domain.Scopes{domain.ScopeCommands}, access.Permissions{
			Publish: producer, Subscribe: []string{inbox, "keyledger.outcomes.acct_1.>"},
		}},
		{"an account's key with every scope", "key_1", "acct_1", all, access.Permissions{
			Publish: producer, Subscribe: []string{inbox, "keyledger.outcomes.acct_1.>"},
		}},
		{"auditor of an account", "key_1", "acct_1", domain.Scopes{domain.ScopeAuditRead}, access.Permissions{}},
		{"verifier of an account", "key_1", "acct_1", domain.Scopes{domain.ScopeVerify}, access.Permissions{}},
		{"producer of the instance", "key_1", domain.RootAccount, domain.Scopes{domain.ScopeCommands}, access.Permissions{
			Publish: instance, Subscribe: []string{inbox, "keyledger.outcomes.>"},
		}},
		{"auditor", "key_1", domain.RootAccount, domain.Scopes{domain.ScopeAuditRead}, access.Permissions{
			Publish: slices.Concat(info, readLog), Subscribe: []string{inbox},
		}},
		{"verifier", "key_1", domain.RootAccount, domain.Scopes{domain.ScopeVerify}, access.Permissions{
			Publish: slices.Concat(info, readLog, []string{"keyledger.usage.key_1"}), Subscribe: []string{inbox},
		}},
		{"the operator", "key_1", domain.RootAccount, all, access.Permissions{
			Publish: slices.Concat(instance, readLog, []string{"keyledger.usage.key_1"}), Subscribe: []string{inbox, "keyledger.outcomes.>"},
		}},
		{"an id that is a wildcard", "*", "acct_1", all, access.Permissions{}},
		{"an id with a dot", "a.b", "acct_1", all, access.Permissions{}},
		{"an id that ends in everything", "a.>", domain.RootAccount, all, access.Permissions{}},
		{"no id", "", domain.RootAccount, all, access.Permissions{}},
		{"an account that is a wildcard", "key_1", "*", all, access.Permissions{}},
		{"an account that is everything", "key_1", ">", all, access.Permissions{}},
		{"no account", "key_1", "", all, access.Permissions{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := access.For(domain.Authority{Actor: c.id, Account: c.account, Scopes: c.scopes})
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %q\nwant %q", got, c.want)
			}
			if got.None() != reflect.DeepEqual(c.want, access.Permissions{}) {
				t.Errorf("None: %v", got.None())
			}
		})
	}
}
