// Package projectionstest holds what read stores are tested with: the suite that
// every store passes ([Run]), a model that answers the same questions from a list
// of events without any cleverness ([Model]), histories to compare them on
// ([History], and [RunLong] for long ones), and a log in memory ([Log]).
//
// The suite itself is tested on a store in memory, and on the same store with one
// fault at a time, each of which a case must find.
//
// Only tests import it.
package projectionstest
