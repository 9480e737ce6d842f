package main

import (
	"database/sql"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/client"
)

// TestTablesAreMended edits a row by hand: check names it, rebuild mends it.
func TestTablesAreMended(t *testing.T) {
	w := newTestWorld(t)
	w.mustStart(t)
	_, id := w.mustCreate(t, "--name", "honest", "--environment", "live", "--full-access") // seq 2
	_, other := w.mustCreate(t, "--name", "other", "--environment", "live", "--full-access")
	list := w.must(t, "keys", "list") // the tables have come so far

	if r := w.cli(t, "", "projections", "check"); r.code != exitOK || !strings.HasPrefix(r.stdout, "The tables are what the log says") {
		t.Errorf("before: %+v", r)
	}
	mustEditTables(t, w, "UPDATE keys SET name = 'forged' WHERE key_id = ?", id)
	mustEditTables(t, w, "DELETE FROM audit WHERE subject = ?", other)

	r := w.cli(t, "", "projections", "check")
	found := strings.Split(strings.TrimSpace(r.stdout), "\n")
	if r.code != exitFailed || len(found) != 2 || !strings.Contains(r.stderr, "2 differences") || !strings.Contains(r.stderr, "projections rebuild") {
		t.Errorf("edited by hand: %+v", r)
	}
	for _, words := range []string{"keys ", id, "name: the log says ", "honest", "the table says ", "forged", "audit 3", "the row is missing"} {
		if !strings.Contains(r.stdout, words) {
			t.Errorf("no %q in\n%s", words, r.stdout)
		}
	}
	var before client.Projections
	w.mustDecode(t, &before, "projections", "status")
	if before.State != "live" || before.HeadSeq != 3 || before.Job == nil || before.Job.Kind != "check" || before.Job.Differences != 2 {
		t.Errorf("status %+v", before)
	}

	if out := w.must(t, "projections", "rebuild"); !strings.HasPrefix(out, "Rebuilt up to seq 3 in ") {
		t.Errorf("rebuild: %s", out)
	}
	var after client.Projections
	w.mustDecode(t, &after, "projections", "status")
	if after.Generation <= before.Generation || after.Seq != 3 || after.Keys != 3 || after.Entries != 3 {
		t.Errorf("status after the rebuild %+v, before %+v", after, before)
	}
	var result struct {
		Differences []client.ProjectionsDifference `json:"differences"`
		Result      client.ProjectionsResult       `json:"result"`
	}
	if w.mustDecode(t, &result, "projections", "check"); len(result.Differences) != 0 || result.Result.Seq != 3 {
		t.Errorf("after the rebuild: %+v", result)
	}
	if mended := w.must(t, "keys", "list"); mended != list {
		t.Errorf("keys are\n%s\nand were\n%s", mended, list)
	}

	w.env["KEYLEDGER_TOKEN"], _ = w.mustCreate(t, "--management", "--name", "reader", "--account", "_root", "--scopes", "keyledger.keys:read")
	for _, command := range []string{"status", "check", "rebuild"} {
		if r := w.cli(t, "", "projections", command); r.code != exitFailed || !strings.Contains(r.stderr, "(403 ") || r.stdout != "" {
			t.Errorf("%s without the scope: %+v", command, r)
		}
	}
}

// mustEditTables does what nobody should: it writes to the tables of a server.
func mustEditTables(t *testing.T, w *testWorld, statement string, args ...any) {
	t.Helper()
	var p client.Projections
	w.mustDecode(t, &p, "projections", "status")
	db, err := sql.Open("sqlite", "file:"+p.Place+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	done, err := db.ExecContext(t.Context(), statement, args...)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := done.RowsAffected(); err != nil || n != 1 {
		t.Fatalf("%d rows, %v", n, err)
	}
}

const stoppedTables = `{"database":"sqlite","place":"/data/keys.db","schema_version":2,"generation":3,"state":"stopped","leading":true,"leader":"node-1",
"seq":41,"head_seq":1234,"lag_events":1193,"lag_seconds":3700,"events_per_second":0,"size_bytes":2147483648,"keys":1000000,"entries":3000000,
"error":{"code":"read_store_stopped","message":"event e-42 at seq 42 cannot be projected: no such key\u001b[2J","seq":42,"event_id":"e-42"},
"job":{"kind":"rebuild","phase":"reading","seq":500,"target_seq":1234,"differences":0,"began_at":"2020-01-01T00:00:00Z","ended_at":null}}`

func TestProjectionsStatusNamesTroubles(t *testing.T) {
	w := scripted(t, answerJSON(stoppedTables))
	r := w.cli(t, "", "projections", "status")
	if r.code != exitFailed || r.stderr != "" {
		t.Errorf("%+v", r)
	}
	for _, line := range []string{
		"state        stopped\n", `trouble      event e-42 at seq 42 cannot be projected: no such key\x1b[2J (read_store_stopped)` + "\n",
		"at event     seq 42, id e-42\n", "position     seq 41 of 1234\n", "lag          1,193 events, 1h2m\n", "rate         0 events/s\n",
		"database     sqlite\n", "place        /data/keys.db\n", "version      schema 2, build 3\n",
		"size         2.0 GiB: 1,000,000 keys, 3,000,000 audit entries\n", "written by   this node (node-1)\n",
		"job          rebuild, reading the log: seq 500 of 1,234, 40 %, since 2020-01-01 00:00 (",
	} {
		if !strings.Contains(r.stdout, line) {
			t.Errorf("no %q in\n%s", line, r.stdout)
		}
	}
	r = w.cli(t, "", "projections", "status", "--output", "json")
	var p client.Projections
	if err := json.Unmarshal([]byte(r.stdout), &p); err != nil || r.code != exitFailed || p.Error.Seq != 42 {
		t.Errorf("%v: %+v", err, r)
	}
}

// TestProjectionsStatusOfAnAbsentDatabase says only what is known.
func TestProjectionsStatusOfAnAbsentDatabase(t *testing.T) {
	w := scripted(t, answerJSON(`{"database":"postgresql","place":"db:5432/keys","schema_version":2,"generation":3,"state":"unavailable","leading":true,"leader":"n1",
"seq":7,"head_seq":7,"lag_events":0,"lag_seconds":0,"events_per_second":1.2345678,"size_bytes":0,"keys":0,"entries":0,"error":{"code":"read_store_unavailable",
"message":"ask for the lead: PostgreSQL cannot be reached: lead in PostgreSQL (db:5432/keys): failed to connect:\n\t10.0.0.1:5432: refused\nPostgreSQL cannot be reached"}}`))
	r := w.cli(t, "", "projections", "status")
	const want = `state        unavailable
trouble      ask for the lead: PostgreSQL cannot be reached (read_store_unavailable)
to do        see that the database runs and takes connections; the tables catch up by themselves then
database     postgresql
place        db:5432/keys
last known   seq 7; the log is at 7
`
	if r.code != exitFailed || r.stdout != want {
		t.Errorf("%d\n%swant\n%s", r.code, r.stdout, want)
	}
	if r := w.cli(t, "", "projections", "status", "--output", "json"); !strings.Contains(r.stdout, `"events_per_second": 1.2,`) || !strings.Contains(r.stdout, "10.0.0.1:5432: refused") {
		t.Errorf("for programs: %s", r.stdout)
	}
}

func TestProjectionsCheckNamesDifferences(t *testing.T) {
	const lines = `{"progress":{"kind":"check","phase":"reading","seq":1,"target_seq":4,"differences":0,"began_at":"2020-01-01T00:00:00Z","ended_at":null}}
{"progress":{"kind":"check","phase":"comparing","seq":4,"target_seq":4,"table":"","rows":0,"differences":0,"began_at":"2020-01-01T00:00:00Z","ended_at":null}}
{"progress":{"kind":"check","phase":"comparing","seq":4,"target_seq":4,"table":"keys","rows":1000,"differences":0,"began_at":"2020-01-01T00:00:00Z","ended_at":null}}
{"difference":{"table":"keys","row":"7 key_a","column":"name","want":"\"a\"","got":"\"b\u001b[2J\""}}
{"difference":{"table":"keys","row":"8 key_b","column":"","want":"{}","got":""}}
{"difference":{"table":"audit","row":"9","column":"","want":"","got":"{}"}}
{"result":{"seq":4,"rows":12345,"differences":3,"took_seconds":1.5}}
`
	w := scripted(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/v1/projections/check" {
			t.Errorf("%s %s", r.Method, r.URL.Path)
		}
		answerJSON(lines)(w, r)
	})
	r := w.cli(t, "", "projections", "check")
	const want = `keys 7 key_a, name: the log says "a", the table says "b\x1b[2J"
keys 8 key_b: the row is missing; the log says {}
audit 9: there should be no such row; the table says {}
`
	if r.code != exitFailed || r.stdout != want {
		t.Errorf("%+v", r)
	}
	for _, words := range []string{"reading the log: seq 1 of 4, 25 %\n", "comparing: keys, 1,000 rows, 0 differences\n", "comparing\n", "3 differences in 12,345 rows at seq 4, in 1.5s.\n", "projections rebuild"} {
		if !strings.Contains(r.stderr, words) {
			t.Errorf("no %q in\n%s", words, r.stderr)
		}
	}
	r = w.cli(t, "", "projections", "check", "--output", "json")
	var out struct {
		Differences []client.ProjectionsDifference `json:"differences"`
		Result      client.ProjectionsResult       `json:"result"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &out); err != nil || r.code != exitFailed || len(out.Differences) != 3 || out.Result.Rows != 12345 || r.stderr != "" {
		t.Errorf("%v: %+v", err, r)
	}
}

func TestJobsThatFail(t *testing.T) {
	t.Run("the server says why", func(t *testing.T) {
		w := scripted(t, answerJSON(`{"error":{"code":"read_store_build_running","message":"a build of the tables is running already"}}`+"\n"))
		for _, job := range []string{"rebuild", "check"} {
			if r := w.cli(t, "", "projections", job); r.code != exitFailed || !strings.HasPrefix(r.stderr, "keyledger: a build of the tables is running already") || r.stdout != "" {
				t.Errorf("%s: %+v", job, r)
			}
		}
	})
	t.Run("the server is gone", func(t *testing.T) {
		w := scripted(t, answerJSON(`{"progress":{"kind":"rebuild","phase":"reading","seq":1,"target_seq":4,"began_at":"2020-01-01T00:00:00Z","ended_at":null}}`+"\n"))
		r := w.cli(t, "", "projections", "rebuild")
		if r.code != exitFailed || !strings.HasPrefix(r.stderr, "Building the tables anew") || !strings.Contains(r.stderr, "the end of the rebuild was not seen") || !strings.Contains(r.stderr, "projections status shows how far it is") {
			t.Errorf("%+v", r)
		}
	})
}

func TestDoctorNamesTroublesOfTheTables(t *testing.T) {
	served := func(tables string) *testWorld {
		return scripted(t, func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/readyz":
				answerJSON(`{"ready":true,"parts":[{"name":"tables","ready":`+strconv.FormatBool(!strings.Contains(tables, "unavailable"))+`}]}`)(w, r)
			case "/v1/projections":
				if tables == "" {
					w.Header().Set("Content-Type", "application/problem+json")
					w.WriteHeader(http.StatusForbidden)
				}
				_, _ = w.Write([]byte(tables))
			default:
				answerJSON(`{}`)(w, r)
			}
		})
	}
	for name, tc := range map[string]struct {
		tables, verdict, words string
		code                   int
	}{
		"well":        {`{"state":"live","seq":7,"head_seq":7,"database":"postgresql"}`, verdictOK, "at seq 7 of 7, postgresql", exitOK},
		"a blink":     {`{"state":"behind","seq":6,"head_seq":7,"lag_events":1,"lag_seconds":0.1}`, verdictOK, "at seq 6 of 7", exitOK},
		"behind":      {`{"state":"behind","seq":6,"head_seq":2007,"lag_events":2001,"lag_seconds":90}`, verdictWarn, "at seq 6 of 2007, behind by 2,001 events, 1m30s", exitOK},
		"building":    {`{"state":"building","job":{"kind":"build","phase":"reading","seq":5,"target_seq":10,"ended_at":null}}`, verdictWarn, "reading the log: seq 5 of 10, 50 %", exitOK},
		"stopped":     {stoppedTables, verdictFail, "stopped before the event at seq 42: event e-42 at seq 42 cannot be projected", exitFailed},
		"unavailable": {`{"state":"unavailable","database":"postgresql","place":"db:5432/keys","error":{"code":"read_store_unavailable","message":"connection refused"}}`, verdictFail, "the postgresql database does not answer (db:5432/keys): connection refused", exitFailed},
		"not for us":  {``, verdictWarn, "it was not asked how they are", exitOK},
	} {
		t.Run(name, func(t *testing.T) {
			d := served(tc.tables).examine(t, tc.code)
			if !d.find(tc.verdict, tc.words) {
				t.Errorf("no %s %q in %+v", tc.verdict, tc.words, d)
			}
			if name == "unavailable" && (d.find(verdictOK, "ready") || !d.find(verdictWarn, "ready for commands and checks, without its tables")) {
				t.Errorf("the server is said to be well: %+v", d)
			}
		})
	}
}
