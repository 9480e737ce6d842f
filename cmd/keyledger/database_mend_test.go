package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/projections/postgres/postgrestest"
)

// TestTablesAreMadeAgain edits a row by hand and loses all tables, on both
// databases: a rebuild mends them without a reader noticing, and what is made again
// answers byte for byte what it did before.
func TestTablesAreMadeAgain(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		w := newTestWorld(t)
		w.mustStart(t)
		testMadeAgain(t, w, func(statement string) { mustEditTables(t, w, statement) }, func() {
			w.mustStop(t)
			files, err := filepath.Glob(filepath.Join(w.dataDir, "keys*"))
			if err != nil || len(files) == 0 {
				t.Fatalf("tables: %v, %v", files, err)
			}
			for _, file := range files {
				if err := os.Remove(file); err != nil {
					t.Fatal(err)
				}
			}
			w.mustStart(t)
		})
	})
	t.Run("postgresql", func(t *testing.T) {
		w := newTestWorld(t)
		database := postgrestest.MustDatabases(t).MustCreate(t)
		w.env["KEYLEDGER_DATABASE_URL"] = database
		w.mustStart(t)
		exec := func(statement string) { mustInDatabase(t, database, statement) }
		testMadeAgain(t, w, func(statement string) { exec("SET search_path = keyledger_1; " + statement) }, func() {
			// While the node runs: it notices by itself.
			exec(`DO $$ DECLARE name text; BEGIN
				FOR name IN SELECT nspname FROM pg_namespace WHERE nspname LIKE 'keyledger%' LOOP
					EXECUTE 'DROP SCHEMA ' || name || ' CASCADE';
				END LOOP;
			END $$`)
		})
	})
}

func mustInDatabase(t *testing.T, database, statement string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database)
	if err == nil {
		_, err = conn.Exec(t.Context(), statement, pgx.QueryExecModeSimpleProtocol)
		_ = conn.Close(t.Context())
	}
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func testMadeAgain(t *testing.T, w *testWorld, edit func(statement string), lose func()) {
	t.Helper()
	ids := w.mustPopulate(t)
	before := w.mustReadKeys(t, ids)

	edit("UPDATE keys SET name = 'forged', search = 'forged' WHERE key_id = '" + ids[7] + "'")
	r := w.cli(t, "", "projections", "check")
	for _, words := range []string{ids[7], "name", "forged"} {
		if r.code != exitFailed || !strings.Contains(r.stdout, words) {
			t.Errorf("check does not name %s: %+v", words, r)
		}
	}
	polled, stop := w.poll(t, ids[7])
	for began := time.Now(); polled.Load() < 30; { // the first mends it; the swaps after it must not be noticed either
		w.must(t, "projections", "rebuild")
		if time.Since(began) > within {
			t.Fatalf("only %d reads during the rebuilds", polled.Load())
		}
	}
	stop()
	if r := w.cli(t, "", "projections", "check"); r.code != exitOK {
		t.Errorf("after the rebuild: %+v", r)
	}
	same(t, "after the rebuild", before, w.mustReadKeys(t, ids))

	lose()
	eventually(t, "the tables are there again", func() bool { return w.cli(t, "", "keys", "show", ids[0]).code == exitOK })
	same(t, "after they were lost", before, w.mustReadKeys(t, ids))
	if r := w.cli(t, "", "projections", "check"); r.code != exitOK {
		t.Errorf("after they were lost: %+v", r)
	}
}

func same(t *testing.T, when string, before, after map[string]string) {
	t.Helper()
	for what, want := range before {
		if after[what] != want {
			t.Errorf("%s: %s is\n%s\nand was\n%s", when, what, after[what], want)
		}
	}
}

// mustPopulate makes keys of every kind and changes most of them.
func (w *testWorld) mustPopulate(t *testing.T) []string {
	t.Helper()
	c, err := client.New(client.Config{BaseURL: w.address(t).URL, Token: client.StaticToken(w.operatorToken(t))})
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]string, 60)
	for i := range ids {
		expires := time.Now().Add(time.Duration(i+1) * 25 * time.Hour)
		req := client.CreateKeyRequest{Name: fmt.Sprintf("Ключ <%d> & \"co\"", i), Environment: []string{"live", "test"}[i%2], Description: strings.Repeat("x", i)}
		if i%3 == 0 {
			req.ExpiresAt, req.FullAccess = &expires, true
		} else {
			req.Scopes, req.AllowedIPs = []string{"invoices:read", "payouts:*"}, []string{"10.0.0.0/8", "2001:db8::/32"}
			req.Metadata = map[string]string{"zone": "eu", "b": "2", "a": ""}
		}
		out, err := c.CreateKey(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		ids[i] = out.Key.ID
		name := fmt.Sprintf("renamed %d", i)
		switch i % 4 {
		case 1:
			_, err = c.UpdateKey(t.Context(), ids[i], client.UpdateKeyRequest{Name: &name})
		case 2:
			_, err = c.RevokeKey(t.Context(), ids[i], client.RevokeKeyRequest{Reason: "tab\tand \\ slash"})
		case 3:
			_, err = c.RotateKey(t.Context(), ids[i], client.RotateKeyRequest{Overlap: "1h"})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

// mustReadKeys returns the bodies of the list, of each key, of each key's first
// version, and of the audit log, byte for byte.
func (w *testWorld) mustReadKeys(t *testing.T, ids []string) map[string]string {
	t.Helper()
	paths := []string{"/v1/keys?page_size=1000", "/v1/keys?page_size=1000&sort=name", "/v1/audit?page_size=1000&order=oldest"}
	for i, id := range ids {
		paths = append(paths, "/v1/keys/"+id, fmt.Sprintf("/v1/keys/%s?seq=%d", id, 2+len(ids)*3/2-i))
	}
	bodies := make(map[string]string, len(paths))
	for _, path := range paths {
		status, body, err := w.read(t.Context(), t, path)
		if err != nil || status != http.StatusOK && status != http.StatusNotFound {
			t.Fatalf("%s: %d, %v: %s", path, status, err, body)
		}
		if status == http.StatusOK {
			bodies[path] = body
		}
	}
	return bodies
}

func (w *testWorld) read(ctx context.Context, t *testing.T, path string) (status int, body string, err error) {
	t.Helper()
	found, err := findServer(w.dataDir)
	if err != nil {
		return 0, "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, found.URL+path, nil)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Authorization", "Bearer "+w.operatorToken(t))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// poll reads lists and a key, 100 times a second where the machine can, until it is
// told to stop, and counts how often it did. Every answer must be whole.
func (w *testWorld) poll(t *testing.T, id string) (polls *atomic.Int64, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var polling sync.WaitGroup
	polls = new(atomic.Int64)
	polling.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			for path, needed := range map[string]int{"/v1/keys?page_size=1000": 75, "/v1/keys/" + id: 1, "/v1/audit?page_size=1000": 120} {
				status, body, err := w.read(ctx, t, path)
				switch {
				case ctx.Err() != nil:
					return
				case err != nil || status != http.StatusOK:
					t.Errorf("during a rebuild %s answers %d, %v: %s", path, status, err, body)
					return
				case strings.Count(body, `"seq":`) < needed:
					t.Errorf("during a rebuild %s holds %d of %d", path, strings.Count(body, `"seq":`), needed)
					return
				}
			}
			polls.Add(1)
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	})
	return polls, func() {
		cancel()
		polling.Wait()
	}
}
