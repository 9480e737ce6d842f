// Package projectionstest holds what read stores are tested with: the suite that
// every store passes ([Run]), a model that answers the same questions from a list
// of events without any cleverness ([Model]), histories to compare them on
// ([History]), and a log in memory ([Log]).
//
// Only tests import it.
package projectionstest
