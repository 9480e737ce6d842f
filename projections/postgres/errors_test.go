package postgres

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyledger/keyledger/projections"
)

// TestEndedSessionsPass: an error that ends the session is one to try again after,
// whatever its code; an unknown one that does not is no such error.
func TestEndedSessionsPass(t *testing.T) {
	for _, c := range []struct{ severity, state, want string }{
		{"FATAL", "25P03", projections.CodeUnavailable}, // stood still within a transaction
		{"FATAL", "57P01", projections.CodeUnavailable},
		{"FATAL", "XX000", projections.CodeUnavailable},
		{"PANIC", "XX000", projections.CodeUnavailable},
		{"ERROR", "XX000", ""},
		{"ERROR", "22021", ""}, // a row that cannot be stored stops the tables
		{"ERROR", "53300", projections.CodeUnavailable},
	} {
		err := fmt.Errorf("write: %w", &pgconn.PgError{Severity: c.severity, SeverityUnlocalized: c.severity, Code: c.state})
		if code, _, _ := classify(err); code != c.want {
			t.Errorf("%s %s: %q, want %q", c.severity, c.state, code, c.want)
		}
	}
}
