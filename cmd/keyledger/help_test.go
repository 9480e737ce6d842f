package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// commands returns every command with its subcommands, in the order of the help.
func commands(t *testing.T) (names []string) {
	t.Helper()
	var cli commandLine
	parser, err := kong.New(&cli)
	if err != nil {
		t.Fatal(err)
	}
	var visit func(prefix string, node *kong.Node)
	visit = func(prefix string, node *kong.Node) {
		for _, child := range node.Children {
			name := strings.TrimSpace(prefix + " " + child.Name)
			names = append(names, name)
			visit(name, child)
		}
	}
	visit("", parser.Model.Node)
	return names
}

func help(t *testing.T, command string) string {
	t.Helper()
	t.Setenv("COLUMNS", "100")
	var stdout, stderr bytes.Buffer
	args := append(strings.Fields(command), "--help")
	if code := run(t.Context(), args, nil, &stdout, &stderr, func(string) string { return "" }); code != exitOK || stderr.Len() > 0 {
		t.Fatalf("%s: exit code %d: %s", command, code, &stderr)
	}
	return stdout.String()
}

// TestHelpIsDocumented compares the help of every command with docs/cli.md. With
// KEYLEDGER_UPDATE_DOCS=1 it writes it there.
func TestHelpIsDocumented(t *testing.T) {
	const path = "../../docs/cli.md"
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	introduction, _, _ := strings.Cut(string(page), "\n## ")
	want := strings.TrimRight(introduction, "\n") + "\n"
	for _, command := range commands(t) {
		text := help(t, command)
		if strings.Contains(text, "<command>") {
			continue // a list of the commands that follow
		}
		if !strings.Contains(strings.ToLower(text), "example") && command != "version" {
			t.Errorf("%s --help has no example", command)
		}
		lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
		for i := range lines {
			lines[i] = strings.TrimRight(lines[i], " ")
		}
		want += "\n## keyledger " + command + "\n\n```text\n" + strings.Join(lines, "\n") + "\n```\n"
	}
	if string(page) == want {
		return
	}
	if os.Getenv("KEYLEDGER_UPDATE_DOCS") == "" {
		t.Fatalf("%s is not what --help says; run KEYLEDGER_UPDATE_DOCS=1 go test -run %s ./cmd/keyledger", path, t.Name())
	}
	if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestHelpOfNothing(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), nil, nil, &stdout, &stderr, func(string) string { return "" }); code != exitUsage || stdout.Len() > 0 || !strings.Contains(stderr.String(), "Usage: keyledger <command>") {
		t.Errorf("exit code %d\n%s\n%s", code, &stdout, &stderr)
	}
	for _, command := range []string{"", "keys", "audit", "events", "projections", "keyring"} {
		if text := help(t, command); !strings.Contains(text, "Commands:") {
			t.Errorf("%s --help:\n%s", command, text)
		}
	}
}
