package main

import (
	"testing"

	"go.uber.org/goleak"
)

// TestServeLeavesNothingRunning starts and stops a whole node inside the test.
func TestServeLeavesNothingRunning(t *testing.T) {
	before := goleak.IgnoreCurrent()
	w := newTestWorld(t)
	w.mustStart(t)
	w.mustCreate(t, "--name", "n", "--environment", "live", "--full-access")
	w.mustStop(t)
	goleak.VerifyNone(t, before)
}
