package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The tour's blocks that the test carries out itself: it starts a server that was
// built afresh, on free ports and a data dir of its own.
const (
	tourStart = "go run ./cmd/keyledger serve\n"
	tourBuild = "make build\nexport PATH=\"$PWD/bin:$PATH\"\n"
)

// step is a block of the tour and what it must print; "…" stands for anything.
type step struct{ script, want string }

// TestReadmeTour runs the README's tour as it is printed there.
func TestReadmeTour(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	steps := parseTour(t, string(readme))

	program := mustBuild(t)
	p := mustServe(t, program, filepath.Join(t.TempDir(), "data"))
	var script strings.Builder
	for i, s := range steps {
		fmt.Fprintf(&script, "%s\necho '@@ end of step %d'\n", s.script, i)
	}
	bash := exec.CommandContext(t.Context(), "bash", "-c", script.String())
	bash.Dir = root
	bash.Env = append(os.Environ(),
		"PATH="+filepath.Dir(program)+":"+os.Getenv("PATH"), "TMPDIR="+t.TempDir(),
		"KEYLEDGER_DATA_DIR="+p.dataDir, "NATS_URL="+p.address.NATSURL)
	out, err := bash.CombinedOutput()
	if err != nil {
		t.Errorf("the last step: %v", err)
	}
	rest := string(out)
	for i, s := range steps {
		var got string
		got, rest, _ = strings.Cut(rest, fmt.Sprintf("@@ end of step %d\n", i))
		if !matches(got, s.want) {
			t.Errorf("%s\nprints\n%s\nand the README says\n%s", s.script, redact(got), s.want)
		}
	}
}

// parseTour reads the fenced blocks of the tour: scripts (sh), each perhaps
// followed by its output (text).
func parseTour(t *testing.T, readme string) []step {
	t.Helper()
	_, tour, ok := strings.Cut(readme, "\n## A five-minute tour\n")
	if !ok {
		t.Fatal("the README has no tour")
	}
	tour, _, _ = strings.Cut(tour, "\n## ")
	var steps []step
	var started, built bool
	for _, block := range regexp.MustCompile("(?ms)^```(sh|text)\n(.*?)^```$").FindAllStringSubmatch(tour, -1) {
		switch kind, text := block[1], block[2]; {
		case text == tourStart:
			started = true
		case text == tourBuild:
			built = true
		case kind == "sh":
			steps = append(steps, step{script: text})
		default:
			steps[len(steps)-1].want = text
		}
	}
	if !started || !built || len(steps) < 8 {
		t.Fatalf("the tour has %d steps, starts the server: %t, builds: %t", len(steps), started, built)
	}
	return steps
}

// matches compares line by line; how wide columns are does not count.
func matches(got, want string) bool {
	var pattern strings.Builder
	for line := range strings.Lines(want) {
		fields := strings.Fields(line)
		if len(fields) == 1 && fields[0] == "…" {
			pattern.WriteString(`(?s:.*)`) // any number of lines
			continue
		}
		expr := regexp.QuoteMeta(strings.Join(fields, " "))
		pattern.WriteString(strings.ReplaceAll(expr, "…", ".*") + "\n")
	}
	var lines strings.Builder
	for line := range strings.Lines(got) {
		lines.WriteString(strings.Join(strings.Fields(line), " ") + "\n")
	}
	return regexp.MustCompile(`\A` + pattern.String() + `\z`).MatchString(lines.String())
}

// redact keeps keys out of the test's own output.
func redact(s string) string {
	return regexp.MustCompile(`(sk_live_|sk_test_|kl_admin_)[0-9A-Za-z]{54}`).ReplaceAllString(s, "$1[the key]")
}
