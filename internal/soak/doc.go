// Package soak judges a server by its log: it holds what clients were told
// against the events that are really there.
//
// It reads the log on its own, with encoding/json and not with the codec of
// eventstore, so that a mistake there is not made twice. It folds with
// domain.Evolve, which is what the log means by definition.
//
// The package may import domain. The tests of cmd/keyledger that kill servers
// call it; no program does.
package soak
