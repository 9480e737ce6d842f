package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyledger/keyledger/client"
)

// app is the world as a command sees it.
type app struct {
	ctx    context.Context //nolint:containedctx // an app lives as long as its one command
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	env    func(string) string
	now    func() time.Time

	json bool // errors are printed for programs too
}

// failure is an error for people: what is wrong, and what to do about it.
type failure struct {
	what  string
	do    string // "": nothing is known to help
	usage bool   // it was not asked for properly
	err   error  // nil, or what lies behind it
}

func (f *failure) Error() string { return f.what }
func (f *failure) Unwrap() error { return f.err }

// failf makes a failure with what to do first and what is wrong after it.
func failf(do, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &failure{what: err.Error(), do: do, err: errors.Unwrap(err)}
}

// usagef is failf for requests that make no sense.
func usagef(do, format string, args ...any) error {
	return &failure{what: fmt.Sprintf(format, args...), do: do, usage: true}
}

// errNo ends a command with exit code 1 that has already said why.
var errNo = errors.New("no")

// report prints an error, in two lines at most, and returns the exit code.
func (a *app) report(err error) int {
	if err == nil {
		return exitOK
	}
	if errors.Is(err, errNo) {
		return exitFailed
	}
	if errors.Is(err, context.Canceled) && a.ctx.Err() != nil {
		return exitFailed // the person who pressed Ctrl-C knows
	}
	f := explain(err)
	if a.json {
		a.reportJSON(f)
	} else {
		a.errorf("keyledger: %s\n", clean(f.what))
		if f.do != "" {
			a.errorf("  to do: %s\n", clean(f.do))
		}
	}
	if f.usage {
		return exitUsage
	}
	return exitFailed
}

func (a *app) reportJSON(f *failure) {
	out := struct {
		Error     string `json:"error"`
		Do        string `json:"to_do,omitempty"`
		Code      string `json:"code,omitempty"`
		Status    int    `json:"status,omitempty"`
		RequestID string `json:"request_id,omitempty"`
	}{Error: f.what, Do: f.do}
	if e, ok := errors.AsType[*client.Error](f.err); ok {
		out.Code, out.Status, out.RequestID = e.Code, e.Status, e.RequestID
	}
	if line, err := json.Marshal(out); err == nil {
		a.errorf("%s\n", line)
	}
}

// explain finds the words for an error.
func explain(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if e, ok := errors.AsType[*client.Error](err); ok {
		return &failure{what: inFlags(e).Error(), do: e.Fix, err: err}
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return explainCertificate(e, err)
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return &failure{what: "the server cannot be reached: " + err.Error(), err: err,
			do: "start it (keyledger serve), or name another (--server); keyledger doctor says more"}
	}
	return &failure{what: err.Error(), err: err}
}

// explainCertificate says what is wrong with the certificate of a server.
func explainCertificate(e *tls.CertificateVerificationError, err error) *failure {
	f := &failure{what: "the server's certificate is not trusted: " + e.Err.Error(), err: err}
	if name, ok := errors.AsType[x509.HostnameError](e.Err); ok {
		names := slices.Clone(name.Certificate.DNSNames)
		for _, ip := range name.Certificate.IPAddresses {
			names = append(names, ip.String())
		}
		f.do = "name the server as its certificate does (" + strings.Join(names, ", ") + "): --server https://NAME:PORT, with the management key in --token-file"
		return f
	}
	f.do = "let this machine trust whoever signed it (on Linux, SSL_CERT_FILE names a file of roots), or see whether it has run out"
	return f
}

func (a *app) printf(format string, args ...any) { _, _ = fmt.Fprintf(a.stdout, format, args...) }
func (a *app) errorf(format string, args ...any) { _, _ = fmt.Fprintf(a.stderr, format, args...) }

// printJSON prints a value for programs.
func (a *app) printJSON(v any) error {
	encoder := json.NewEncoder(a.stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// terminal returns the file descriptor of a stream that is a terminal.
func terminal(stream any) (fd int, ok bool) {
	f, ok := stream.(*os.File)
	if !ok {
		return 0, false
	}
	fd = int(f.Fd())
	_, err := unix.IoctlGetTermios(fd, getTermios)
	return fd, err == nil
}
