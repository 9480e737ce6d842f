package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/client"
)

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

func TestProjectionsCheckNamesDifferences(t *testing.T) {
	const lines = `{"progress":{"kind":"check","phase":"reading","seq":1,"target_seq":4,"differences":0,"began_at":"2020-01-01T00:00:00Z","ended_at":null}}
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
	for _, words := range []string{"reading the log: seq 1 of 4, 25 %\n", "comparing: keys, 1,000 rows, 0 differences\n", "3 differences in 12,345 rows at seq 4, in 1.5s.\n", "projections rebuild"} {
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
			if r := w.cli(t, "", "projections", job); r.code != exitFailed || !strings.Contains(r.stderr, "a build of the tables is running already") || r.stdout != "" {
				t.Errorf("%s: %+v", job, r)
			}
		}
	})
	t.Run("the server is gone", func(t *testing.T) {
		w := scripted(t, answerJSON(`{"progress":{"kind":"rebuild","phase":"reading","seq":1,"target_seq":4,"began_at":"2020-01-01T00:00:00Z","ended_at":null}}`+"\n"))
		r := w.cli(t, "", "projections", "rebuild")
		if r.code != exitFailed || !strings.Contains(r.stderr, "the end of the rebuild was not seen") || !strings.Contains(r.stderr, "projections status shows how far it is") {
			t.Errorf("%+v", r)
		}
	})
}
