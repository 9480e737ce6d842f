package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/client"
)

// fullDisk takes nothing.
type fullDisk struct{}

var errFullDisk = errors.New("no space left on device")

func (fullDisk) Write([]byte) (int, error) { return 0, errFullDisk }

// TestLostTokenIsNoSuccess makes keys whose token reaches nobody: the command
// fails, names the key that it made, and says how to be rid of it.
func TestLostTokenIsNoSuccess(t *testing.T) {
	w := newTestWorld(t)
	w.mustStart(t)
	_, old := w.mustCreate(t, "--name", "old", "--environment", "live", "--full-access")
	for name, tc := range map[string]struct {
		args []string
		do   string
	}{
		"create":            {[]string{"create", "--name", "n", "--environment", "live", "--full-access"}, "keys rotate "},
		"create for a tool": {[]string{"create", "--name", "n", "--environment", "live", "--full-access", "--output", "json"}, "keys rotate "},
		"rotate":            {[]string{"rotate", old, "--overlap", "1h"}, "keys rotate "},
		"a management key":  {[]string{"create", "--management", "--name", "m", "--scopes", "keyledger.keys:read"}, "keys revoke --management "},
	} {
		t.Run(name, func(t *testing.T) {
			var stderr output
			args := append([]string{"keys"}, tc.args...)
			code := run(t.Context(), args, strings.NewReader(""), fullDisk{}, &stderr, func(name string) string { return w.env[name] })
			said := stderr.String()
			_, id, named := strings.Cut(said, tc.do+"key_")
			if code != exitFailed || !named || !strings.Contains(said, errFullDisk.Error()) || strings.Contains(said, "Copy the key") {
				t.Fatalf("exit code %d: %s", code, said)
			}
			show := []string{"keys", "show", "key_" + id[:16]}
			if strings.Contains(tc.do, "management") {
				show = append(show, "--management")
			}
			if made := w.must(t, show...); !strings.Contains(made, "active") {
				t.Errorf("it names a key that is\n%s", made)
			}
		})
	}
}

// TestRepeatHasNoToken repeats commands that have been done: KEY=$(…) must not
// become empty in silence.
func TestRepeatHasNoToken(t *testing.T) {
	w := newTestWorld(t)
	w.mustStart(t)
	create := []string{"keys", "create", "--name", "n", "--environment", "live", "--full-access", "--idempotency-key", "once"}
	w.must(t, create...)
	repeated := w.cli(t, "", create...)
	if repeated.code != exitFailed || repeated.stdout != "" || !strings.Contains(repeated.stderr, "done before") || !strings.Contains(repeated.stderr, "to do: ") {
		t.Errorf("the same command again: %+v", repeated)
	}
	var keys struct {
		Keys []client.Key `json:"keys"`
	}
	if w.mustDecode(t, &keys, "keys", "list"); len(keys.Keys) != 1 || !strings.Contains(repeated.stderr, keys.Keys[0].ID) {
		t.Errorf("it does not name the key: %s", repeated.stderr)
	}

	sum := sha256.Sum256([]byte(strings.Repeat("a token of one's own", 4)))
	own := []string{"keys", "create", "--name", "own", "--environment", "live", "--full-access", "--idempotency-key", "own", "--token-sha256", hex.EncodeToString(sum[:])}
	for range 2 { // there is no token to be missed
		if r := w.cli(t, "", own...); r.code != exitOK || r.stdout != "" || !strings.Contains(r.stderr, "whose SHA-256 you gave") {
			t.Errorf("with a token of one's own: %+v", r)
		}
	}
	next := sha256.Sum256([]byte(strings.Repeat("and its next", 4)))
	if r := w.cli(t, "", "keys", "rotate", keys.Keys[0].ID, "--yes", "--token-sha256", hex.EncodeToString(next[:])); r.code != exitOK || r.stdout != "" || !strings.Contains(r.stderr, "whose SHA-256 you gave") {
		t.Errorf("rotated to a token of one's own: %+v", r)
	}
}
