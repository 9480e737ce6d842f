package eventstoretest_test

import (
	"testing"

	"github.com/keyledger/keyledger/eventstore/eventstoretest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	eventstoretest.NodeMain()
	goleak.VerifyTestMain(m)
}
