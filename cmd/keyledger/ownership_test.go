package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOwnerFault(t *testing.T) {
	for name, tc := range map[string]struct {
		mode        fs.FileMode
		owner, user int
		want        string
	}{
		"one's own":            {0o700, 1000, 1000, ""},
		"others can look":      {0o755, 1000, 1000, ""}, // refused by serve for what is in it, not for where it points
		"another user's":       {0o700, 65534, 1000, "belongs to another user"},
		"another's, for root":  {0o700, 65534, 0, "belongs to another user"},
		"writable by a group":  {0o770, 1000, 1000, "others can change"},
		"writable by everyone": {0o777, 1000, 1000, "others can change"},
	} {
		err := ownerFault("d", tc.mode, tc.owner, tc.user)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// The operator token goes nowhere on the word of a directory that others can change.
func TestCommandsDoNotTrustADirectoryThatOthersCanChange(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keyledger-data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, serverFileName), []byte(`{"url":"http://127.0.0.1:1","pid":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := localServer(dir); err == nil || !strings.Contains(err.Error(), "others can change") {
		t.Errorf("localServer: %v", err)
	}
	if err := prepareDataDir(dir); err == nil || !strings.Contains(err.Error(), "others can") {
		t.Errorf("prepareDataDir: %v", err)
	}
}
