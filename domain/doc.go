// Package domain holds the rules of keyledger: what an API key is, which
// commands may change it, and which events record the changes.
//
// The package is pure. [Decide] turns a state, a command and a time into events
// or an error; [Evolve] turns a state and an event into the next state. Neither
// reads a clock, draws randomness or does I/O: times, ids and secrets come in as
// arguments. The sets of commands and events are closed: only types of this
// package can implement [KeyCommand] and [KeyEvent].
//
// It may import the standard library only. Every other package of keyledger may
// import it; it is the one vocabulary they share, including the kinds of error
// ([Kind]) that the doors map to their own statuses.
//
// All values are safe for concurrent reading. Maps and slices inside a [Key] or
// an event are shared between copies and must not be written to.
package domain
