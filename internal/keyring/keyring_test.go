package keyring

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCreateThenLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyring.json")
	created, err := Create(path, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if loaded.Primary() != created.Primary() || string(loaded.IDSecret()) != string(created.IDSecret()) {
		t.Error("the loaded keyring differs from the created one")
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) > 0 {
		t.Errorf("temporary files left: %v", left)
	}
	if _, err := Create(path, rand.Reader); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second Create: %v, want fs.ErrExist", err)
	}
}

func TestLoadRefuses(t *testing.T) {
	pepper := `{"id":"p1","key":"` + strings.Repeat("A", 43) + `="}`
	secret := strings.Repeat("B", 43) + "="
	for name, tc := range map[string]struct{ body, want string }{
		"not JSON":         {`{"version":`, "cannot be read as JSON"},
		"unknown member":   {`{"version":1,"pepper":[]}`, "unexpected content"},
		"another version":  {`{"version":2}`, "version 2"},
		"no id secret":     {`{"version":1,"primary":"p1","peppers":[` + pepper + `]}`, "id secret"},
		"no primary":       {`{"version":1,"primary":"p2","peppers":[` + pepper + `],"id_secret":"` + secret + `"}`, `"p2" is not among`},
		"repeated pepper":  {`{"version":1,"primary":"p1","peppers":[` + pepper + `,` + pepper + `],"id_secret":"` + secret + `"}`, "twice"},
		"short pepper key": {`{"version":1,"primary":"p1","peppers":[{"id":"p1","key":"AAAA"}],"id_secret":"` + secret + `"}`, "3 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keyring.json")
			if err := os.WriteFile(path, []byte(tc.body), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Load(path); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Load: %v, want %q", err, tc.want)
			}
		})
	}
}

func TestLoadRefusesAFileThatOthersCanRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyring.json")
	if _, err := Create(path, rand.Reader); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("Load: %v, want advice to chmod", err)
	}
}

func TestLoadSaysWhenThereIsNone(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "keyring.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load: %v, want fs.ErrNotExist", err)
	}
}

func TestKeyringDoesNotPrintItsSecrets(t *testing.T) {
	k, err := Create(filepath.Join(t.TempDir(), "keyring.json"), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(verb, k); !strings.HasPrefix(got, "keyring of [pepper pepper_") || len(got) > 60 {
			t.Errorf("%s prints %q", verb, got)
		}
	}
}
