package access_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/keyledger/keyledger/eventstore/eventstoretest"
)

func TestMain(m *testing.M) {
	eventstoretest.NodeMain()
	goleak.VerifyTestMain(m)
}
