// Package postgrestest starts real PostgreSQL servers for tests, kills them, and
// starts them again. It uses the programs in the path or in Debian's directories; a
// machine without them fails the test, it does not skip it.
//
// Only tests import it. It may import nothing of keyledger.
package postgrestest
