package access

import (
	"fmt"
	"strings"

	"github.com/keyledger/keyledger/eventstore"
)

// The accounts of the NATS server. An account is a space of subjects of its own.
const (
	// AccountLog holds the streams. Only nodes are in it.
	AccountLog = "KEYLEDGER"
	// AccountClients is where whoever connects with a management key is put.
	AccountClients = "KEYLEDGER_CLIENTS"
	// AccountSystem is the server's own: who is connected, and ending that.
	AccountSystem = "SYS"
)

// systemUser names the inbox of nodes in [AccountSystem].
const systemUser = "_system"

// service is a subject of the log's account that clients' requests may reach.
type service struct {
	subject string
	many    bool // it is answered with several messages
}

// services are all that can pass from the clients' account into the log's; what a
// client may use of them is up to its permissions.
func services() []service {
	list := []service{
		{subject: apiInfo},
		{subject: eventstore.CommandPrefix + ".*.*.*"},
		{subject: apiOutcome + eventstore.OutcomePrefix + ".>"},
		{subject: eventstore.UsagePrefix + ".*"},
	}
	for _, subject := range readLog() {
		many := strings.Contains(subject, ".MSG.NEXT.") || strings.Contains(subject, ".DIRECT.GET.")
		list = append(list, service{subject: subject, many: many})
	}
	return list
}

// ServerConfig returns the part of a NATS server's configuration that says who may
// connect and what passes between the accounts. inside restricts nodes to
// connections within the server's process.
//
// Clients have an account of their own, because permissions are not enough: they
// say where a client may publish and not where it may have answers sent. The server
// publishes acknowledgements, answers of its API and copies of events to whatever
// reply subject a request names, as itself. In the account of the log that could be
// the subject of an event, and the log would keep it for ever. Out of the clients'
// account only requests to the listed services lead, and answers come back into it.
//
// Live outcomes come in under another name than the stream's, for the same reason:
// following a subject through an import is a subscription in the log's account, and
// a consumer of a reader may push there.
func (p Public) ServerConfig(inside bool) string {
	where := ""
	if inside {
		where = `, allowed_connection_types: ["IN_PROCESS"]`
	}
	var exports, imports strings.Builder
	for _, s := range services() {
		kind := ""
		if s.many {
			kind = ", response_type: stream"
		}
		fmt.Fprintf(&exports, "      { service: %q%s, accounts: [%s] }\n", s.subject, kind, AccountClients)
		fmt.Fprintf(&imports, "      { service: { account: %s, subject: %q } }\n", AccountLog, s.subject)
	}
	fmt.Fprintf(&exports, "      { stream: %q, accounts: [%s] }\n", eventstore.AnnouncePrefix+".>", AccountClients)
	fmt.Fprintf(&imports, "      { stream: { account: %s, subject: %q }, to: %q }\n",
		AccountLog, eventstore.AnnouncePrefix+".>", eventstore.OutcomePrefix+".>")
	return fmt.Sprintf(`accounts {
  # The streams. Only nodes are in this account.
  %[1]s {
    jetstream: enabled
    users: [ { nkey: %[4]s%[8]s } ]
    exports: [
%[9]s    ]
  }
  # Whoever connects with a management key. Nodes send answers here.
  %[2]s {
    users: [ { nkey: %[5]s%[8]s } ]
    imports: [
%[10]s    ]
  }
  # Nodes see here who is connected, and end connections whose key has ended.
  %[3]s {
    users: [
      { nkey: %[6]s%[8]s
        permissions: {
          publish: [ "$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.SERVER.*.CONNZ", "$SYS.REQ.SERVER.*.KICK" ]
          subscribe: [ %[11]q ]
        } }
    ]
  }
}
system_account: %[3]s
authorization {
  auth_callout {
    issuer: %[7]s
    xkey: %[12]s
    account: %[1]s
    # These do not go through the callout, since they answer it.
    auth_users: [ %[4]s, %[5]s, %[6]s ]
    # Users of other accounts of this server are none of its business.
    allowed_accounts: [ %[2]s ]
  }
}
`, AccountLog, AccountClients, AccountSystem, p.Node, p.Clients, p.System, p.Issuer,
		where, exports.String(), imports.String(), eventstore.InboxPrefix(systemUser)+".>", p.XKey)
}
