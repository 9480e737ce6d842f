package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
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
	before, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("read the key from the terminal: %w", err)
	}
	a.errorf("%s", prompt)
	secret, err := a.await(func() (string, error) {
		line, err := term.ReadPassword(fd)
		return string(line), err
	})
	a.errorf("\n")
	if err != nil {
		_ = term.Restore(fd, before) // Ctrl-C must not leave the terminal without echo
		return "", err
	}
	return strings.TrimSpace(secret), nil
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
