package arch

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// module is the import path that all of ours begin with.
const module = "github.com/keyledger/keyledger"

// room is a part of the house: a package with everything below it that has no
// room of its own. Inside a room anything may import anything.
type room struct {
	path         string   // below module
	may          []string // the other rooms it may import
	standardOnly bool     // of what is not ours, it imports the standard library only
	why          string   // what a forbidden import would break
}

// floors is the house from bottom to top. Rooms that are designed and not yet
// built stand here too, so that they are built in their place.
func floors() []room {
	below2 := []string{"domain", "eventstore", "internal"}
	below3 := append([]string{"client", "audit", "command", "deadlines", "projections", "verify", "webhooks"}, below2...)
	doorsMay := append([]string{"wire"}, below3...)
	below4 := append([]string{"dashboard", "intake", "server"}, doorsMay...)
	const (
		neighbours = "the rooms of floor 2 never import each other: each can be read, tested and replaced alone, and data passes between them through the log"
		doors      = "doors talk to the floors below, never to each other's insides"
	)
	return []room{
		{path: "domain", standardOnly: true, why: "domain is pure: decisions can be tested without a machine and read without a library's manual"},

		{path: "eventstore", may: []string{"domain", "internal"}, why: "the log knows events, not what is made from them"},

		{path: "audit", may: below2, why: neighbours},
		{path: "command", may: below2, why: neighbours},
		{path: "deadlines", may: below2, why: neighbours},
		{path: "projections", may: below2, why: neighbours},
		{path: "verify", may: below2, why: neighbours},
		{path: "webhooks", may: below2, why: neighbours},

		{path: "wire", may: []string{"client", "command", "domain"}, why: "what the doors share is how requests are read and keys are shown, and nothing of what is behind them"},

		{path: "server", may: doorsMay, why: doors},
		{path: "intake", may: doorsMay, why: doors},
		{path: "dashboard", may: doorsMay, why: doors},

		{path: "server/servertest", may: below4, why: "the test kit wires what cmd wires, and cmd is not for tests of others"},

		{path: "cmd", may: below4, why: "the binary wires everything and nothing imports it"},

		{path: "client", may: []string{"domain"}, why: "who imports the client gets the client and what a token is: no server, no log, no database"},
		{path: "internal", may: []string{"domain", "eventstore"}, why: "a helper that imported floor 2 or a door would be a way around the floors for whoever imports the helper"},
	}
}

// testOnly is what only tests may import, by prefix.
func testOnly() []string {
	return []string{
		"testing",
		"net/http/httptest",
		"pgregory.net/rapid",
		"go.uber.org/goleak",
		"github.com/anishathalye/porcupine",
	}
}

// pkg is what `go list -json` says of one package; imports of its tests are not
// among Imports.
type pkg struct {
	ImportPath string
	Standard   bool
	Doc        string
	Imports    []string
}

// ours says whether an import path lies in this module.
func ours(importPath string) bool {
	return within(importPath, module)
}

// within says whether a path is dir or lies below it.
func within(importPath, dir string) bool {
	return importPath == dir || strings.HasPrefix(importPath, dir+"/")
}

// roomOf finds the room of a package of ours: the longest path wins.
func roomOf(rooms []room, importPath string) (room, bool) {
	var best room
	for _, r := range rooms {
		if within(importPath, path.Join(module, r.path)) && len(r.path) > len(best.path) {
			best = r
		}
	}
	return best, best.path != ""
}

// violations names every import that the rooms forbid, as "from -> to: why".
// Only direct imports are looked at. That is enough: a forbidden package can be
// reached from a room only over some edge of the graph that is itself forbidden,
// and the standard library imports nothing but itself.
func violations(rooms []room, graph []pkg) []string {
	standard := make(map[string]bool, len(graph))
	for _, p := range graph {
		standard[p.ImportPath] = p.Standard
	}
	var found []string
	for _, p := range graph {
		if !ours(p.ImportPath) {
			continue
		}
		from, ok := roomOf(rooms, p.ImportPath)
		if !ok {
			found = append(found, p.ImportPath+": stands in no room: give it one in floors")
			continue
		}
		for _, imported := range p.Imports {
			if why := forbidden(rooms, from, imported, standard[imported]); why != "" {
				found = append(found, fmt.Sprintf("%s -> %s: %s", p.ImportPath, imported, why))
			}
			if !forTests(p.ImportPath) && onlyForTests(imported) {
				found = append(found, fmt.Sprintf("%s -> %s: only tests and …test packages import what is made for tests", p.ImportPath, imported))
			}
		}
	}
	return found
}

// forbidden says why a package in room from may not import a package; empty
// where it may.
func forbidden(rooms []room, from room, imported string, standard bool) string {
	if !ours(imported) {
		if from.standardOnly && !standard {
			return from.why
		}
		return ""
	}
	to, ok := roomOf(rooms, imported)
	if !ok || to.path == from.path || slices.Contains(from.may, to.path) {
		return "" // a package without a room is reported once, by itself
	}
	return from.why
}

// forTests says whether a package of ours is a test kit: the …test packages, as
// in eventstore/eventstoretest.
func forTests(importPath string) bool {
	return ours(importPath) && strings.HasSuffix(importPath, "test")
}

func onlyForTests(imported string) bool {
	return forTests(imported) || slices.ContainsFunc(testOnly(), func(dir string) bool { return within(imported, dir) })
}
