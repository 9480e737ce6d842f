package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// doctorCommand looks at everything a node stands on. It changes no key and no
// event; files that a killed server left half done are completed by opening them.
type doctorCommand struct {
	connection
	Keyring string `placeholder:"FILE" fromenv:"KEYLEDGER_KEYRING" help:"The keyring. Default: keyring.json in the data dir."`
	externalNATS
}

func (doctorCommand) Help() string {
	return `Looks at the data dir, at the server that runs on it (or the one that --server names), and at the log: through the server, or directly where --nats-url names a cluster or nobody has the data dir open. It changes no key and no event. A data dir that nobody has open it opens as a server does, under the same lock; if the last server there was killed, that completes the files of the log and the tables (jetstream, keys.db), as the next start would. The exit code is 1 if anything has failed.

Examples:

    keyledger doctor
    keyledger doctor --server https://keys.example.com --token-file operator.token
    keyledger doctor --nats-url nats://10.0.0.1:4222 --nats-creds node.creds --keyring keyring.json --output json`
}

// The verdicts of a check.
const (
	verdictOK   = "ok"
	verdictWarn = "warn"
	verdictFail = "fail"
)

// finding is the result of one check.
type finding struct {
	Check   string `json:"check"`
	Verdict string `json:"verdict"`
	Detail  string `json:"detail"`
	Do      string `json:"to_do,omitempty"`
}

// examination collects findings; each check leaves what later ones build on.
type examination struct {
	a   *app
	cmd doctorCommand

	findings []finding
	peppers  []string // of the keyring
	keyring  bool     // it could be read
	running  bool     // a server has the data dir open
	ready    bool     // the server says so
}

const examinationTimeout = 2 * time.Minute

// Run examines and reports.
func (c doctorCommand) Run(a *app) error {
	a.machine(c.outputFlag)
	x := &examination{a: a, cmd: c}
	ctx, cancel := context.WithTimeout(a.ctx, examinationTimeout)
	defer cancel()
	if c.Server == "" && c.NATSURL == "" {
		x.dataDir()
	}
	if c.Keyring != "" || c.Server == "" {
		x.keys()
	}
	if c.Server != "" || x.running {
		x.server(ctx)
	}
	x.log(ctx)
	return x.report()
}

func (x *examination) ok(check, format string, args ...any) {
	x.add(check, verdictOK, "", format, args...)
}

func (x *examination) warn(check, do, format string, args ...any) {
	x.add(check, verdictWarn, do, format, args...)
}

func (x *examination) fail(check, do, format string, args ...any) {
	x.add(check, verdictFail, do, format, args...)
}

func (x *examination) add(check, verdict, do, format string, args ...any) {
	x.findings = append(x.findings, finding{Check: check, Verdict: verdict, Do: do, Detail: fmt.Sprintf(format, args...)})
}

// report prints the findings, and fails if one of them did.
func (x *examination) report() error {
	failed := false
	for _, f := range x.findings {
		failed = failed || f.Verdict == verdictFail
	}
	if x.a.json {
		err := x.a.printJSON(struct {
			OK     bool      `json:"ok"`
			Checks []finding `json:"checks"`
		}{!failed, x.findings})
		if err != nil {
			return err
		}
	} else {
		for _, f := range x.findings {
			x.a.printf("%-5s %-15s %s\n", f.Verdict, f.Check, clean(f.Detail))
			if f.Do != "" {
				x.a.printf("%-21s to do: %s\n", "", clean(f.Do))
			}
		}
	}
	if failed {
		return errNo
	}
	return nil
}

// statMode returns the permission bits of a file and what they should be rid of.
func statMode(path string) (mode fs.FileMode, open bool, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, false, err
	}
	mode = info.Mode().Perm()
	return mode, mode&0o077 != 0, nil
}

// firstLine keeps a finding on one line.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
