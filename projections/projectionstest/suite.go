package projectionstest

import (
	"testing"

	"github.com/keyledger/keyledger/projections"
)

// Store is a read store under test.
type Store interface { //nolint:interfacebloat // the sum of what others ask for, a few methods each
	projections.Store
	projections.Reader
	projections.UsageWriter
	projections.UsageReader
	projections.Describer
	Close() error
}

// Suite says how to open the stores under test.
type Suite struct {
	// NewPlace makes an empty place for a store (a directory, a database), which is
	// gone when the test has ended.
	NewPlace func(testing.TB) string
	// Open opens the store at a place. What was left there by another, closed before,
	// is found again. The suite closes what it opens.
	Open func(tb testing.TB, place string) Store
	// Shared says that several stores may be open at one place, as several nodes are.
	Shared bool
	// Tampers change live tables behind the store's back. At least one is required.
	Tampers []Tamper
}

// Run holds a store to the contract of package projections.
func Run(t *testing.T, s Suite) {
	for _, test := range [...]struct {
		name string
		run  func(*testing.T, Suite)
	}{
		{"NoTables", testNoTables},
		{"Empty", testEmpty},
		{"BuildIsNotSeen", testBuildIsNotSeen},
		{"SwapBehind", testSwapBehind},
		{"OldLead", testOldLead},
		{"Discard", testDiscard},
		{"Interrupted", testInterrupted},
		{"OneBuild", testOneBuild},
		{"OneLead", testOneLead},
		{"SharedPlace", testSharedPlace},
		{"SwapsUnderReaders", testSwapsUnderReaders},
		{"BatchIsOneTransaction", testBatchIsOneTransaction},
		{"BrokenBuild", testBrokenBuild},
		{"WrongCheckpoint", testWrongCheckpoint},
		{"LostVersion", testLostVersion},
		{"Claims", testClaims},
		{"GivenUp", testGivenUp},
		{"Reopen", testReopen},
		{"Model", testModel},
		{"Orders", testOrders},
		{"PagingWhileKeysAreCreated", testPagingWhileKeysAreCreated},
		{"PagingOverSwap", testPagingOverSwap},
		{"PageTokens", testPageTokens},
		{"Refusals", testRefusals},
		{"StrangeText", testStrangeText},
		{"Moments", testMoments},
		{"Changes", testChanges},
		{"Voids", testVoids},
		{"Usage", testUsage},
		{"UsageOverSwaps", testUsageOverSwaps},
		{"UsageCounts", testUsageCounts},
		{"UsageOnce", testUsageOnce},
		{"UsageAges", testUsageAges},
		{"UsageModel", testUsageModel},
		{"BoundedScans", testBoundedScans},
		{"CheckIsClean", testCheckIsClean},
		{"Comparison", testComparison},
		{"Tampers", testTampers},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, s) })
	}
}
