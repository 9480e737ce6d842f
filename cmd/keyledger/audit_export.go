package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/keyledger/keyledger/client"
)

type auditExport struct {
	auditFilter
	Format     string `placeholder:"ndjson|csv" help:"ndjson: an entry a line, as GET /v1/audit has it. csv: for spreadsheets. Default: what the file's name ends in (.csv, .ndjson, .jsonl), or else ndjson."`
	OutputFile string `placeholder:"FILE" help:"File to write. Default: standard output."`
	Force      bool   `help:"Replace the file if it exists."`
	connection
}

func (auditExport) Help() string {
	return `Goes up to what is in the log when it begins. The file appears under its name when it is complete, and not before: what is written meanwhile is beside it, and goes if the export fails or Ctrl-C ends it. A connection that breaks is made anew and goes on behind the last entry. The exit code is 1 if anything is missing.

In CSV, values that a spreadsheet would take for a formula begin with an apostrophe.

Examples:

    keyledger audit export --output-file audit.csv
    keyledger audit export --account acme --from-time 90d --output-file acme.ndjson
    keyledger audit export --action revoked | jq -r .subject` + timeForms
}

func (c auditExport) Run(a *app) error {
	a.machine(c.outputFlag)
	query, err := c.query(a.now())
	if err != nil {
		return err
	}
	if c.Force && c.OutputFile == "" {
		return usagef("name the file with --output-file", "--force is about a file")
	}
	format, err := c.format()
	if err != nil {
		return err
	}
	cl, err := c.client(a)
	if err != nil {
		return err
	}
	e := &exporting{a: a, cl: cl, query: query, format: format, began: a.now()}
	_, direct := terminal(a.stdout)
	e.progress = a.newProgress(c.OutputFile != "")
	e.progress.off = e.progress.off || c.OutputFile == "" && direct // it would stand among the rows
	if c.OutputFile == "" {
		if err := e.write(a.stdout); err != nil {
			return err
		}
	} else if err := intoFile(c.OutputFile, c.Force, e.write); err != nil {
		return err
	}
	return e.report(c.OutputFile)
}

// format is the form that was asked for, by --format or by the file's ending.
func (c auditExport) format() (client.ExportFormat, error) {
	var asked, named client.ExportFormat
	switch c.Format {
	case "":
	case "ndjson":
		asked = client.ExportNDJSON
	case "csv":
		asked = client.ExportCSV
	default:
		return "", usagef("use --format ndjson or --format csv", "--format %q is not a form of export", c.Format)
	}
	switch ending := strings.ToLower(filepath.Ext(c.OutputFile)); ending {
	case ".csv":
		named = client.ExportCSV
	case ".ndjson", ".jsonl":
		named = client.ExportNDJSON
	}
	if asked != "" && named != "" && asked != named {
		return "", usagef("leave --format out, or name the file for what will be in it", "--format %s does not fit the name %s", asked, c.OutputFile)
	}
	return cmp.Or(asked, named, client.ExportNDJSON), nil
}

// exporting is one export and how far it is.
type exporting struct {
	a        *app
	cl       *client.Client
	query    client.AuditQuery
	format   client.ExportFormat
	progress *progress
	began    time.Time
	done     client.ExportProgress
	bytes    int64
	broken   error // of the writer
}

// Write counts what passes to the file.
func (e *exporting) write(w io.Writer) error {
	buffered := bufio.NewWriterSize(w, 256<<10)
	counted := writerFunc(func(p []byte) (int, error) {
		n, err := buffered.Write(p)
		e.bytes += int64(n)
		e.broken = cmp.Or(e.broken, err)
		return n, err
	})
	err := e.cl.ExportAudit(e.a.ctx, e.query, e.format, counted, client.WithProgress(e.tell))
	e.progress.clear()
	if e.broken == nil {
		e.broken = buffered.Flush() // what did come is worth having on standard output
	}
	switch {
	case e.broken != nil:
		return outputError(e.broken)
	case err != nil && e.done.Rows == 0:
		return err
	case err != nil:
		f := explain(err)
		cut := fmt.Sprintf("the export was cut off after seq %d of %d (%s entries): ", e.done.Seq, e.done.ToSeq, grouped(e.done.Rows))
		return &failure{what: cut + f.what, do: cmp.Or(f.do, fmt.Sprintf("export again, or what is missing: --from-seq %d", e.done.Seq+1)), err: err}
	default:
		return nil
	}
}

func (e *exporting) tell(done client.ExportProgress) {
	e.done = done
	if done.Rows%100 != 0 || !e.progress.due("") {
		return
	}
	e.progress.show("%s entries, seq %s of %s, %s, %s/s", grouped(done.Rows), grouped(done.Seq), grouped(done.ToSeq),
		percent(done.Seq-min(done.Seq, e.query.FromSeq), done.ToSeq-min(done.ToSeq, e.query.FromSeq)), e.rate())
}

func (e *exporting) rate() string {
	took := max(e.a.now().Sub(e.began), time.Millisecond)
	return grouped(int64(float64(e.done.Rows) / took.Seconds()))
}

// report says what was exported, once it is where it belongs.
func (e *exporting) report(file string) error {
	took := e.a.now().Sub(e.began)
	if e.a.json {
		if file == "" {
			return nil // the entries are the answer
		}
		return e.a.printJSON(struct {
			File        string  `json:"file"`
			Format      string  `json:"format"`
			Entries     int64   `json:"entries"`
			LastSeq     uint64  `json:"last_seq"`
			Bytes       int64   `json:"bytes"`
			TookSeconds float64 `json:"took_seconds"`
		}{file, string(e.format), e.done.Rows, e.done.Seq, e.bytes, took.Seconds()})
	}
	where := ""
	if file != "" {
		where = " in " + file
	}
	if e.done.Rows == 0 {
		e.a.errorf("No entries%s.\n", clean(where))
		return nil
	}
	e.a.errorf("%s entries up to seq %d%s (%s, %s, %s/s).\n", grouped(e.done.Rows), e.done.Seq, clean(where), size(e.bytes), span(took), e.rate())
	return nil
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// intoFile has a file written under another name beside it, and gives it its own
// once it is complete and on the disk. Nothing is left of one that failed. A file
// that exists is replaced only by force, and only if it is a plain file.
func intoFile(path string, force bool, write func(io.Writer) error) (err error) {
	if err := mayReplace(path, force); err != nil {
		return err
	}
	// Mode 0600; of a name of its own, since path's may be as long as names can be.
	f, err := os.CreateTemp(filepath.Dir(path), ".keyledger-*.partial")
	if err != nil {
		return failf(fileAdvice(err), "write %s: %w", path, err)
	}
	defer func() {
		_ = f.Close() // again, unless it failed before
		_ = os.Remove(f.Name())
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return failf("", "write %s: %w", path, err)
	}
	if force {
		err = os.Rename(f.Name(), path)
	} else if err = os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		// A file system without hard links: rename would replace what came meanwhile.
		if err = mayReplace(path, false); err == nil {
			err = os.Rename(f.Name(), path)
		}
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return existsAlready(path)
	case err != nil:
		return failf(fileAdvice(err), "write %s: %w", path, err)
	}
	return nil
}

// fileAdvice says what to do about a file that cannot be written.
func fileAdvice(err error) string {
	if errors.Is(err, syscall.ENAMETOOLONG) {
		return "give it a shorter name"
	}
	return "name a file in a directory that you may write to"
}

func mayReplace(path string, force bool) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return failf(fileAdvice(err), "write %s: %w", path, err)
	case !info.Mode().IsRegular():
		return failf("name a file; without --output-file it goes to standard output", "%s is not a plain file", path)
	case !force:
		return existsAlready(path)
	default:
		return nil
	}
}

func existsAlready(path string) error {
	return failf("name another, or replace it with --force", "%s exists already", path)
}
