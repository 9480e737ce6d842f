// Package arch holds the architecture of the repository as tests: who may import
// whom (DESIGN.md 3 and docs/architecture.md), that every package says what it is
// for, and that no file under version control holds a string of the form of a key.
//
// It has no code of its own, may import only the standard library, and is
// imported by nothing. A new package that its tests do not know must be given a
// room in floors; what lint can see at a line (.golangci.yml, depguard) mirrors
// that table.
package arch
