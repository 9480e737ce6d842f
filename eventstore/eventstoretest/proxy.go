package eventstoretest

import (
	"context"
	"net"
	"sync"
	"testing"
)

// Proxy is a TCP connection that a test can hold up, make deaf or cut.
type Proxy struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup

	mu    sync.Mutex
	moved sync.Cond
	held  bool // nothing passes, nothing is lost
	deaf  bool // what the target answers is dropped
	conns map[net.Conn]bool
	done  bool
}

// MustProxy starts a proxy to an address; it ends with the test.
func MustProxy(tb testing.TB, target string) *Proxy {
	tb.Helper()
	listener, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{listener: listener, target: target, conns: make(map[net.Conn]bool)}
	p.moved.L = &p.mu
	ctx := context.WithoutCancel(tb.Context())
	p.wg.Go(func() { p.accept(ctx) })
	tb.Cleanup(func() {
		_ = listener.Close()
		p.set(func() { p.done, p.held = true, false })
		p.Cut()
		p.wg.Wait()
	})
	return p
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Hold keeps back everything in both directions until Release.
func (p *Proxy) Hold() { p.set(func() { p.held = true }) }

// Release lets what was kept back pass.
func (p *Proxy) Release() { p.set(func() { p.held = false }) }

// Deafen drops what the target answers from now on, until Cut.
func (p *Proxy) Deafen() { p.set(func() { p.deaf = true }) }

// Cut closes all connections; new ones work.
func (p *Proxy) Cut() {
	p.set(func() {
		for c := range p.conns {
			_ = c.Close()
		}
		clear(p.conns)
		p.deaf = false
	})
}

func (p *Proxy) set(f func()) {
	p.mu.Lock()
	f()
	p.mu.Unlock()
	p.moved.Broadcast()
}

func (p *Proxy) accept(ctx context.Context) {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		target, err := new(net.Dialer).DialContext(ctx, "tcp", p.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.set(func() {
			p.conns[client], p.conns[target] = true, true
			if p.done {
				_, _ = client.Close(), target.Close()
			}
		})
		p.wg.Go(func() { p.pump(target, client, false) })
		p.wg.Go(func() { p.pump(client, target, true) })
	}
}

// pump copies until one side closes, then closes both.
func (p *Proxy) pump(to, from net.Conn, answers bool) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && p.pass(answers) {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// pass waits while the proxy is held and reports whether the bytes may go on.
func (p *Proxy) pass(answers bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.held {
		p.moved.Wait()
	}
	return !answers || !p.deaf
}
