package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// maxSecret bounds what is read as a key or token.
const maxSecret = 4 << 10

// confirm asks before something ends. Where nobody can be asked it refuses,
// unless yes says that the answer is known.
func (a *app) confirm(yes bool, question func() (string, error)) error {
	if yes {
		return nil
	}
	if _, ok := terminal(a.stdin); !ok {
		return usagef("add --yes if that is what you want", "this ends a key, and there is no terminal to ask at")
	}
	text, err := question()
	if err != nil {
		return err
	}
	a.errorf("%s [y/N] ", text)
	answer, err := a.await(func() (string, error) { return bufio.NewReader(a.stdin).ReadString('\n') })
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return failf("", "nothing was changed")
}

// readSecret reads a key or token from a file ("-": standard input), from
// standard input if something is piped into it, or from the terminal without echo.
func (a *app) readSecret(file, prompt string) (string, error) {
	if file != "" && file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", failf("check the path and who may read it", "read the key: %w", err)
		}
		defer func() { _ = f.Close() }()
		return readAll(f)
	}
	fd, ok := terminal(a.stdin)
	if !ok {
		return readAll(a.stdin)
	}
	// The echo goes off before the question appears: nobody types faster than that.
	restore, err := echoOff(fd)
	if err != nil {
		return "", fmt.Errorf("read the key from the terminal: %w", err)
	}
	defer restore()
	a.errorf("%s", prompt)
	defer a.errorf("\n")
	secret, err := a.await(func() (string, error) {
		line, err := bufio.NewReaderSize(io.LimitReader(a.stdin, maxSecret), maxSecret).ReadString('\n')
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return line, err
	})
	return strings.TrimSpace(secret), err
}

// echoOff stops a terminal from showing what is typed, until restore is called.
func echoOff(fd int) (restore func(), err error) {
	before, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return nil, err
	}
	silent := *before
	silent.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, setTermios, &silent); err != nil {
		return nil, err
	}
	return func() { _ = unix.IoctlSetTermios(fd, setTermios, before) }, nil
}

func readAll(r io.Reader) (string, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("read the key: %w", err)
	}
	if len(data) > maxSecret {
		return "", usagef("give the key alone", "what was read is over %d bytes: not a key", maxSecret)
	}
	return strings.TrimSpace(string(data)), nil
}

// await runs a read that cannot be interrupted, and stops waiting for it when
// the command is interrupted; the process ends soon after, and the read with it.
func (a *app) await(read func() (string, error)) (string, error) {
	type result struct {
		text string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		text, err := read()
		done <- result{text, err}
	}()
	select {
	case r := <-done:
		return r.text, r.err
	case <-a.ctx.Done():
		return "", a.ctx.Err()
	}
}
