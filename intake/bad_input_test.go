package intake_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/server/servertest"
)

// TestBadInput sends what no good producer sends. Everything ends as a dead letter or
// a refusal with a reason, nothing is carried out, and the door goes on.
func TestBadInput(t *testing.T) {
	d := mustDoor(t, servertest.Config{})
	d.mustOpen(t, d.config())
	key := d.MustCreateKey(t, client.CreateKeyRequest{}).Key.ID
	onKey := func(members ...any) map[string]any {
		data := map[string]any{"key_id": key}
		for i := 0; i < len(members); i += 2 {
			if name, ok := members[i].(string); ok {
				data[name] = members[i+1]
			}
		}
		return data
	}
	raw := func(text string) sent { return sent{command: "create_key", body: []byte(text)} }
	reply := func(inbox ...string) nats.Header { return nats.Header{"Keyledger-Reply": inbox} }
	inbox := "_INBOX_" + d.producer
	gone := d.MustManagementKey(t, "default", domain.ScopeCommands, domain.ScopeKeysWrite).Key.ID
	d.MustDo(t, http.StatusOK, servertest.Request{Path: "/v1/management-keys/" + gone + "/revoke", Token: d.Operator, Body: map[string]string{}}, nil)
	mute := d.MustManagementKey(t, "default", domain.ScopeKeysWrite).Key.ID
	head := d.head(t)

	tests := map[string]struct {
		sent
		code    string
		refused bool
	}{
		"no JSON":              {raw("hello"), "not_a_cloudevent", false},
		"empty":                {raw(" "), "not_a_cloudevent", false},
		"a list":               {raw("[]"), "not_a_cloudevent", false},
		"not UTF-8":            {raw("{\"specversion\":\"1.0\xff\"}"), "not_a_cloudevent", false},
		"a member twice":       {raw(`{"specversion":"1.0","specversion":"1.0"}`), "not_a_cloudevent", false},
		"two values":           {raw(`{} {}`), "not_a_cloudevent", false},
		"version":              {sent{command: "create_key", data: newKey(), with: map[string]any{"specversion": "0.3"}}, "not_a_cloudevent", false},
		"no source":            {sent{command: "create_key", data: newKey(), with: map[string]any{"source": ""}}, "not_a_cloudevent", false},
		"wrong case":           {sent{command: "create_key", data: newKey(), with: map[string]any{"type": "", "Type": "keyledger.command.create_key.v1"}}, "unknown_type", false},
		"extension in case":    {sent{command: "create_key", data: newKey(), with: map[string]any{"Actor": "x"}}, "not_a_cloudevent", false},
		"extension an object":  {sent{command: "create_key", data: newKey(), with: map[string]any{"ext": map[string]any{}}}, "not_a_cloudevent", false},
		"binary data":          {sent{command: "create_key", with: map[string]any{"data_base64": "e30="}}, "not_a_cloudevent", false},
		"data of another type": {sent{command: "create_key", data: newKey(), with: map[string]any{"datacontenttype": "text/xml"}}, "not_a_cloudevent", false},
		"no id":                {sent{command: "create_key", id: "none", data: newKey(), with: map[string]any{"id": ""}}, "not_a_cloudevent", false},
		"a bad id":             {sent{command: "create_key", data: newKey(), with: map[string]any{"id": "a.b"}}, "invalid_command_id", false},
		"a token as id":        {sent{command: "create_key", data: newKey(), with: map[string]any{"id": "sk_live_" + strings.Repeat("a", 54)}}, "invalid_command_id", false},
		"unknown type":         {sent{command: "create_key", data: newKey(), with: map[string]any{"type": "keyledger.command.create_key.v2"}}, "unknown_type", false},
		"type of another":      {sent{command: "create_key", data: newKey(), with: map[string]any{"type": "keyledger.command.revoke_key.v1"}}, "unknown_type", false},
		"unknown command":      {sent{command: "drop_table", data: newKey()}, "unknown_type", false},
		"system's command":     {sent{command: "expire_key", data: onKey()}, "unknown_type", false},
		"subject in case":      {sent{command: "Create_Key", data: newKey()}, "unknown_type", false},
		"short subject":        {sent{command: "create_key", subject: "keyledger.commands.default.create_key", data: newKey()}, "invalid_subject", false},
		"long subject":         {sent{command: "create_key", subject: "keyledger.commands.default." + d.producer + ".create_key.x", data: newKey()}, "invalid_subject", false},
		"reserved account":     {sent{command: "create_key", account: "_x", data: newKey()}, "invalid_subject", false},
		"token in subject":     {sent{command: "create_key", producer: "sk_live_" + strings.Repeat("a", 54), data: newKey()}, "invalid_subject", false},
		"too large":            {sent{command: "create_key", data: map[string]any{"name": strings.Repeat("a", 66<<10)}}, "body_too_large", false},
		"forged actor":         {sent{command: "create_key", data: newKey(), with: map[string]any{"actor": "key_somebody"}}, "forged_actor", false},
		"actor not text":       {sent{command: "create_key", data: newKey(), with: map[string]any{"actor": 1}}, "forged_actor", false},
		"forged account":       {sent{command: "create_key", data: newKey(), with: map[string]any{"account": "acme"}}, "forged_account", false},
		"account in data":      {sent{command: "create_key", data: map[string]any{"name": "x", "environment": "live", "account": "acme"}}, "forged_account", false},
		"account in subject":   {sent{command: "create_key", account: "acme", data: newKey()}, "forged_account", false},
		"unknown producer":     {sent{command: "create_key", producer: "key_AAAAAAAAAAAAAAAA", data: newKey()}, "unknown_producer", false},
		"customer's key":       {sent{command: "create_key", producer: key, data: newKey()}, "unknown_producer", false},
		"revoked producer":     {sent{command: "create_key", producer: gone, data: newKey()}, "unknown_producer", false},
		"no such scope":        {sent{command: "create_key", producer: mute, data: newKey()}, domain.CodeMissingScope, true},

		"reply to events":   {sent{command: "create_key", data: newKey(), headers: reply("keyledger.events.default.key." + key)}, "invalid_reply", false},
		"reply to outcomes": {sent{command: "create_key", data: newKey(), headers: reply("keyledger.outcomes.default.x")}, "invalid_reply", false},
		"another's inbox":   {sent{command: "create_key", data: newKey(), headers: reply("_INBOX_key_somebody.x")}, "invalid_reply", false},
		"an inbox alike":    {sent{command: "create_key", data: newKey(), headers: reply(inbox + "x.y")}, "invalid_reply", false},
		"the prefix alone":  {sent{command: "create_key", data: newKey(), headers: reply(inbox)}, "invalid_reply", false},
		"an empty part":     {sent{command: "create_key", data: newKey(), headers: reply(inbox + "..x")}, "invalid_reply", false},
		"a wildcard":        {sent{command: "create_key", data: newKey(), headers: reply(inbox + ".>")}, "invalid_reply", false},
		"another wildcard":  {sent{command: "create_key", data: newKey(), headers: reply(inbox + ".*")}, "invalid_reply", false},
		"a space":           {sent{command: "create_key", data: newKey(), headers: reply(inbox + ".a b")}, "invalid_reply", false},
		"the API":           {sent{command: "create_key", data: newKey(), headers: reply("$JS.API.STREAM.PURGE.KEYLEDGER_OUTCOMES")}, "invalid_reply", false},
		"an empty reply":    {sent{command: "create_key", data: newKey(), headers: reply("")}, "invalid_reply", false},
		"two replies":       {sent{command: "create_key", data: newKey(), headers: reply(inbox+".a", inbox+".b")}, "invalid_reply", false},
		"a reply too long":  {sent{command: "create_key", data: newKey(), headers: reply(inbox + strings.Repeat(".aaaaaaaa", 30))}, "invalid_reply", false},
		"header in case":    {sent{command: "create_key", data: newKey(), headers: nats.Header{"keyledger-reply": {inbox + ".x"}}}, "invalid_header", false},
		"unknown header":    {sent{command: "create_key", data: newKey(), headers: nats.Header{"Keyledger-Account": {"acme"}}}, "invalid_header", false},

		"no data":             {sent{command: "create_key", with: map[string]any{"data": ""}}, "body_missing", false},
		"data a list":         {sent{command: "create_key", data: []int{1}}, domain.CodeValidation, false},
		"unknown member":      {sent{command: "create_key", data: map[string]any{"name": "x", "colour": 1}}, "unknown_member", false},
		"member in case":      {sent{command: "create_key", data: map[string]any{"Name": "x"}}, "unknown_member", false},
		"data twice":          {raw(`{"specversion":"1.0","id":"t","source":"s","type":"keyledger.command.create_key.v1","data":{"name":"a","name":"b"}}`), "not_a_cloudevent", false},
		"null":                {sent{command: "create_key", data: map[string]any{"name": nil}}, domain.CodeValidation, false},
		"deep":                {raw(`{"specversion":"1.0","id":"deep","source":"s","type":"keyledger.command.create_key.v1","data":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`), "json_too_deep", false},
		"no key":              {sent{command: "revoke_key", data: map[string]any{}}, "invalid_id", false},
		"a bad key":           {sent{command: "revoke_key", data: map[string]any{"key_id": "a.>"}}, "invalid_id", false},
		"key id in case":      {sent{command: "revoke_key", data: map[string]any{"Key_id": key}}, "unknown_member", false},
		"an unknown key":      {sent{command: "revoke_key", data: map[string]any{"key_id": "key_AAAAAAAAAAAAAAAA"}}, domain.CodeKeyNotFound, true},
		"a management key":    {sent{command: "revoke_key", data: map[string]any{"key_id": mute}}, domain.CodeKeyNotFound, true},
		"itself":              {sent{command: "revoke_key", data: map[string]any{"key_id": d.producer}}, "self_revocation", true},
		"overlap negative":    {sent{command: "rotate_key", data: onKey("overlap", "-1h")}, domain.CodeValidation, true},
		"overlap absurd":      {sent{command: "rotate_key", data: onKey("overlap", "99999h")}, domain.CodeValidation, true},
		"overlap overflows":   {sent{command: "rotate_key", data: onKey("overlap", "9999999999999h")}, domain.CodeValidation, true},
		"overlap no duration": {sent{command: "rotate_key", data: onKey("overlap", "a day")}, domain.CodeValidation, true},
		"overlap no unit":     {sent{command: "rotate_key", data: onKey("overlap", "12")}, domain.CodeValidation, true},
		"overlap a number":    {sent{command: "rotate_key", data: onKey("overlap", 12)}, domain.CodeValidation, false},
		"expired":             {sent{command: "update_key", data: onKey("expires_on", "2001-01-01")}, domain.CodeExpiryInPast, true},
		"no date":             {sent{command: "update_key", data: onKey("expires_on", "tomorrow")}, domain.CodeValidation, true},
		"unknown scope":       {sent{command: "update_key", data: onKey("scopes", []string{"no:scope"})}, domain.CodeUnknownScope, true},
		"management scope":    {sent{command: "update_key", data: onKey("scopes", []string{"keyledger.operate"})}, domain.CodeUnknownScope, true},
		"a token as name":     {sent{command: "update_key", data: onKey("name", "sk_live_"+strings.Repeat("a", 54))}, domain.CodeSecretInText, true},
		"a token as a member": {sent{command: "update_key", data: onKey("sk_live_"+strings.Repeat("a", 54), 1)}, "unknown_member", false},
	}
	seqs := map[string]uint64{}
	for name, tt := range tests {
		if tt.id == "" {
			tt.id = "bad-" + strings.ReplaceAll(name, " ", "-")
			tt.id = strings.NewReplacer("'", "").Replace(tt.id)
		}
		seqs[name] = d.mustPublish(t, tt.sent)
	}
	d.mustDrain(t)
	letters, next, err := d.records.DeadLetters(t.Context(), eventstore.Senders{}, 0, 1000)
	if err != nil || next != 0 {
		t.Fatal(err, next)
	}
	bySeq := map[uint64]client.DeadLetter{}
	for _, l := range letters {
		bySeq[l.SentSeq] = l
	}
	for name, tt := range tests {
		letter, isDead := bySeq[seqs[name]]
		delete(bySeq, seqs[name])
		if isDead == tt.refused {
			t.Errorf("%s: dead %t, want %t: %s", name, isDead, !tt.refused, letter.Code)
		}
		if isDead && (letter.Code != tt.code || letter.Message == "" || letter.Fix == "") {
			t.Errorf("%s: %s (%s), want %s", name, letter.Code, letter.Message, tt.code)
		}
		if tt.refused {
			id := "bad-" + strings.ReplaceAll(name, " ", "-")
			if o := d.mustOutcome(t, "default", id); o.Outcome != client.OutcomeRefused || o.Code != tt.code {
				t.Errorf("%s: %s %s (%s), want %s", name, o.Outcome, o.Code, o.Message, tt.code)
			}
		}
	}
	if len(bySeq) > 0 {
		t.Errorf("more dead letters than commands: %v", bySeq)
	}
	if now := d.head(t); now != head {
		t.Errorf("%d events came of bad input", now-head)
	}
	for _, l := range letters {
		if strings.Contains(l.Body+l.Subject+l.Message, "sk_live_a") {
			t.Errorf("a dead letter holds a token: %+v", l)
		}
	}
	if strings.Contains(d.Logs.String(), "sk_live_aaaa") {
		t.Error("the log of the node holds a token")
	}
	if r := d.ask(t, sent{command: "create_key", id: "after-all-that", data: newKey()}); r.Outcome != client.OutcomeDone {
		t.Errorf("after it all: %+v", r)
	}
}

// The producer is told why, at its inbox and by the outcome.
func TestDeadIsTold(t *testing.T) {
	d := mustDoor(t, servertest.Config{})
	d.mustOpen(t, d.config())
	r := d.ask(t, sent{command: "create_key", id: "dead", data: map[string]any{"colour": 1}})
	if r.Outcome != client.OutcomeDead || r.Code != "unknown_member" || !strings.Contains(r.Message, "/colour") {
		t.Errorf("%+v", r)
	}
	if o := d.mustOutcome(t, "default", "dead"); text(t, o) != text(t, r.CommandOutcome) {
		t.Errorf("%+v", o)
	}
}

func TestResend(t *testing.T) {
	d := mustDoor(t, servertest.Config{})
	d.mustOpen(t, d.config())
	seq := d.mustPublish(t, sent{command: "create_key", id: "late", data: newKey(), headers: nats.Header{"Keyledger-Reply": {"keyledger.events.x"}}})
	letter := d.mustDead(t, seq)
	sentAgain, err := d.records.Resend(t.Context(), letter.Seq, "key_o")
	if err != nil || sentAgain.ID != "late" || sentAgain.Subject != letter.Subject {
		t.Fatalf("%+v %v", sentAgain, err)
	}
	mustEventually(t, "it is carried out", func() bool {
		o, err := d.records.Outcome(t.Context(), "default", "late")
		return err == nil && o.Outcome == client.OutcomeDone
	})
	token := "sk_live_" + strings.Repeat("a", 54)
	seq = d.mustPublish(t, sent{command: "create_key", id: "red", data: map[string]any{"token": token}})
	letter = d.mustDead(t, seq)
	if _, err := d.records.Resend(t.Context(), letter.Seq, "key_o"); domain.CodeOf(err) != "dead_letter_redacted" || !letter.Redacted || strings.Contains(letter.Body, token) {
		t.Errorf("%+v %v", letter, err)
	}
	seq = d.mustPublish(t, sent{subject: "keyledger.commands.x", body: []byte("{}")})
	if _, err := d.records.Resend(t.Context(), d.mustDead(t, seq).Seq, "key_o"); domain.CodeOf(err) != "dead_letter_without_producer" {
		t.Errorf("%v", err)
	}
	if _, err := d.records.Resend(t.Context(), 999, "key_o"); domain.KindOf(err) != domain.KindNotFound {
		t.Errorf("%v", err)
	}
}
