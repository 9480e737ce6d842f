package eventstoretest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/eventstore"
)

const (
	nodeEnv     = "KEYLEDGER_TEST_NATS_NODE"
	clusterSize = 3
	// portTries bounds how often a cluster is started again because another
	// program took a port between the choice and the use of it.
	portTries   = 3
	readyWithin = 60 * time.Second
)

// nodeConfig is what a child process is told.
type nodeConfig struct {
	Name        string
	Dir         string
	ClientPort  int
	ClusterPort int
	Routes      map[string]string // addresses by node
	File        string            // of configuration; "" means none, and that everybody may do everything
}

// NodeMain runs a node of a cluster and does not return, if this process was
// started as one. Packages that use [MustCluster] call it first thing in TestMain:
// the nodes are the test's own binary, so that they can be killed like any process.
func NodeMain() {
	text := os.Getenv(nodeEnv)
	if text == "" {
		return
	}
	if err := runNode(text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runNode(text string) error {
	var cfg nodeConfig
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		return err
	}
	opts := &server.Options{SyncAlways: true}
	if cfg.File != "" {
		var err error
		if opts, err = server.ProcessConfigFile(cfg.File); err != nil {
			return err
		}
	}
	opts.ServerName, opts.Host, opts.Port = cfg.Name, "127.0.0.1", cfg.ClientPort
	opts.JetStream, opts.StoreDir, opts.NoSigs, opts.NoLog = true, cfg.Dir, true, true
	opts.Cluster = server.ClusterOpts{
		Name: "test", Host: "127.0.0.1", Port: cfg.ClusterPort, NoAdvertise: true,
		// Each node asks for another name, and one that heard of a node by gossip gives
		// its own: so there are no routes but those of Routes.
		Username: cfg.Name, Password: cfg.Name,
	}
	for name, addr := range cfg.Routes {
		opts.Routes = append(opts.Routes, &url.URL{Scheme: "nats", Host: addr, User: url.UserPassword(name, name)})
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(readyWithin) {
		return fmt.Errorf("node %s is not ready", cfg.Name)
	}
	fmt.Println("ready")
	// Standard input closes when the parent ends, however it ends.
	_, _ = bufio.NewReader(os.Stdin).ReadString(0)
	s.Shutdown()
	s.WaitForShutdown()
	return nil
}

// Cluster is three NATS servers with JetStream, each a process of its own, which
// sync every message. All links of the last one lead through proxies.
type Cluster struct {
	nodes []*node
	far   []*Proxy
}

type node struct {
	cfg nodeConfig
	cmd *exec.Cmd
	in  interface{ Close() error }
}

// MustCluster starts a cluster and waits until it can hold a replicated stream.
// It stops when the test ends.
func MustCluster(tb testing.TB) *Cluster {
	tb.Helper()
	return MustConfiguredCluster(tb, "")
}

// MustConfiguredCluster is MustCluster for servers that read a file of
// configuration, as far as it does not say where they keep things and listen.
func MustConfiguredCluster(tb testing.TB, file string) *Cluster {
	tb.Helper()
	var err error
	for range portTries {
		var c *Cluster
		if c, err = startCluster(tb, file); err == nil {
			return c
		}
		tb.Logf("start a cluster: %v", err)
	}
	tb.Fatal(err)
	return nil
}

func startCluster(tb testing.TB, file string) (*Cluster, error) {
	tb.Helper()
	ports, err := freePorts(tb.Context(), 2*clusterSize)
	if err != nil {
		return nil, err
	}
	c := &Cluster{}
	for i := range clusterSize {
		cfg := nodeConfig{
			Name: nodeName(i), Dir: filepath.Join(tb.TempDir(), "nats"), Routes: make(map[string]string),
			ClientPort: ports[i], ClusterPort: ports[clusterSize+i], File: file,
		}
		for j := range clusterSize {
			if i == j {
				continue
			}
			addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[clusterSize+j]))
			if i == clusterSize-1 || j == clusterSize-1 {
				p := MustProxy(tb, addr)
				c.far, addr = append(c.far, p), p.Addr()
			}
			cfg.Routes[nodeName(j)] = addr
		}
		c.nodes = append(c.nodes, &node{cfg: cfg})
	}
	tb.Cleanup(c.stop)
	for _, n := range c.nodes {
		if err := n.start(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func nodeName(i int) string { return fmt.Sprintf("node-%d", i+1) }

// freePorts returns ports that nobody listened on a moment ago.
func freePorts(ctx context.Context, n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }() // all are held until all are found
		addr, err := netip.ParseAddrPort(l.Addr().String())
		if err != nil {
			return nil, err
		}
		ports = append(ports, int(addr.Port()))
	}
	return ports, nil
}

func (n *node) start() error {
	text, err := json.Marshal(n.cfg)
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	n.cmd = exec.CommandContext(context.Background(), exe)
	n.cmd.Env = append(os.Environ(), nodeEnv+"="+string(text))
	n.cmd.Stderr = os.Stderr
	in, err := n.cmd.StdinPipe()
	if err != nil {
		return err
	}
	n.in = in
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := n.cmd.Start(); err != nil {
		return err
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		return fmt.Errorf("%s did not come up: %q %w", n.cfg.Name, line, err)
	}
	return nil
}

func (c *Cluster) stop() {
	for _, n := range c.nodes {
		if n.cmd != nil && n.cmd.Process != nil {
			_ = n.in.Close()
			_ = n.cmd.Process.Kill()
			_ = n.cmd.Wait()
		}
	}
}

// URL lists the client addresses of all nodes.
func (c *Cluster) URL() string {
	urls := make([]string, len(c.nodes))
	for i := range c.nodes {
		urls[i] = c.NodeURL(i)
	}
	return strings.Join(urls, ",")
}

// NodeURL is the client address of one node, 0 to 2. The last one is far away.
func (c *Cluster) NodeURL(i int) string {
	return "nats://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(c.nodes[i].cfg.ClientPort))
}

// HoldFar keeps back everything between the last node and the others; what it
// knows grows old. ReleaseFar ends that.
func (c *Cluster) HoldFar() {
	for _, p := range c.far {
		p.Hold()
	}
}

// ReleaseFar ends HoldFar.
func (c *Cluster) ReleaseFar() {
	for _, p := range c.far {
		p.Release()
	}
}

// MustLeader returns which node leads the event stream.
func (c *Cluster) MustLeader(tb testing.TB, nc *nats.Conn) int {
	tb.Helper()
	name := ""
	Eventually(tb, readyWithin, "the stream has a leader", func() bool {
		js, err := jetstream.New(nc)
		if err != nil {
			tb.Fatal(err)
		}
		st, err := js.Stream(tb.Context(), eventstore.StreamName)
		if err != nil || st.CachedInfo().Cluster == nil {
			return false
		}
		name = st.CachedInfo().Cluster.Leader
		return name != ""
	})
	for i, n := range c.nodes {
		if n.cfg.Name == name {
			return i
		}
	}
	tb.Fatalf("the leader %q is no node", name)
	return 0
}

// MustStepDown makes the stream's leader give way to another.
func (c *Cluster) MustStepDown(tb testing.TB, nc *nats.Conn) {
	tb.Helper()
	Eventually(tb, readyWithin, "the leader steps down", func() bool {
		reply, err := nc.Request("$JS.API.STREAM.LEADER.STEPDOWN."+eventstore.StreamName, nil, time.Second)
		return err == nil && strings.Contains(string(reply.Data), `"success":true`)
	})
}

// MustKill ends a node's process with SIGKILL.
func (c *Cluster) MustKill(tb testing.TB, i int) {
	tb.Helper()
	n := c.nodes[i]
	if err := n.cmd.Process.Kill(); err != nil {
		tb.Fatal(err)
	}
	_ = n.cmd.Wait()
}

// MustRestart starts a killed node again, with what it had stored.
func (c *Cluster) MustRestart(tb testing.TB, i int) {
	tb.Helper()
	if err := c.nodes[i].start(); err != nil {
		tb.Fatal(err)
	}
}
