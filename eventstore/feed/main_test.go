package feed_test

import (
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain lets this program be the command that Watermill's suite restarts the
// broker with: it asks the test process to do so, at the address it is given.
func TestMain(m *testing.M) {
	restart := flag.String("restart", "", "")
	flag.Parse()
	if *restart == "" {
		goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/ThreeDotsLabs/watermill/pubsub/tests.TestReconnect.func2")) // it never ends
		return
	}
	if err := askForRestart(*restart); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func askForRestart(address string) error {
	conn, err := net.Dial("tcp", address) //nolint:noctx // a helper process that lives for this one call
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // only read
	answer, err := io.ReadAll(conn)
	if err != nil || string(answer) != "ok" {
		return fmt.Errorf("the broker was not restarted: %q %w", answer, err)
	}
	return nil
}
