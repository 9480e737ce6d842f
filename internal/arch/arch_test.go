package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestImportsPointDown(t *testing.T) {
	for _, v := range violations(floors(), mustListPackages(t)) {
		t.Error(v)
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	for _, p := range mustListPackages(t) {
		if ours(p.ImportPath) && p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

// A key in the repository, even a dead one, teaches readers that keys may stand
// in files, and sets off the scanners of whoever hosts it. Tests make their own.
func TestNoKeyUnderVersionControl(t *testing.T) {
	for _, name := range mustListFiles(t) {
		content, err := os.ReadFile(filepath.Join(root, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted, and not yet committed
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range linesWithKey(content) {
			t.Errorf("%s:%d: a string of the form of a key", name, line)
		}
	}
}

func TestLinesWithKey(t *testing.T) {
	body := strings.Repeat("aZ7", 18) // 54 characters
	tests := []struct {
		name    string
		content string
		want    []int
	}{
		{"live", "x\nkey: sk_live_" + body + "\n", []int{2}},
		{"test, quoted", `"sk_test_` + body + `"`, []int{1}},
		{"management", "kl_admin_" + body, []int{1}},
		{"with a brand", "acme_sk_live_" + body, []int{1}},
		{"twice", "sk_live_" + body + "\n\nsk_live_" + body, []int{1, 3}},
		{"too short", "sk_live_" + body[1:], nil},
		{"too long", "sk_live_" + body + "a", nil},
		{"not a key", "pk_live_" + body, nil},
		{"an elision", "sk_live_" + body[:8] + "…", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := linesWithKey([]byte(tt.content)); !slices.Equal(got, tt.want) {
				t.Errorf("got lines %v, want %v", got, tt.want)
			}
		})
	}
}

// linesWithKey gives the numbers of the lines that hold the form of a token
// (DESIGN.md 5), under any brand.
func linesWithKey(content []byte) []int {
	token := regexp.MustCompile(`(?:sk_(?:live|test)|kl_admin)_[0-9A-Za-z]{54}\b`)
	var lines []int
	for _, at := range token.FindAllIndex(content, -1) {
		lines = append(lines, 1+bytes.Count(content[:at[0]], []byte("\n")))
	}
	return lines
}

// root is the root of the module, seen from where the go command runs these tests.
const root = "../.."

// mustListPackages lists all packages of the module and all they are built from.
func mustListPackages(t *testing.T) []pkg {
	t.Helper()
	out := mustRun(t, "go", "list", "-deps", "-json=ImportPath,Standard,Doc,Imports", "./...")
	var list []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatalf("read what go list printed: %v", err)
		}
		list = append(list, p)
	}
}

// mustListFiles lists the files under version control, and those that a commit
// of everything would add, relative to root.
func mustListFiles(t *testing.T) []string {
	t.Helper()
	out := mustRun(t, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	names := strings.Split(strings.TrimRight(string(out), "\x00"), "\x00")
	if !slices.Contains(names, "go.mod") {
		t.Fatalf("git lists %d files and no go.mod: these tests must run in a clone", len(names))
	}
	return names
}

// mustRun runs a command at root and gives what it printed. The go command
// repeats an old verdict while the files and directories that a test has opened
// are as they were, but does not see what the test's children open: so every
// directory is read here first.
func mustRun(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	err := filepath.WalkDir(root, func(_ string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone while we walked: another test's, not ours
		}
		if err == nil && entry.Name() == ".git" {
			return fs.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, stderr.Bytes())
	}
	return out
}
