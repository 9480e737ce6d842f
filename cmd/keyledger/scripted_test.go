package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// scripted is the command line before a server that answers as it is told, for
// states into which a real one is not brought at will.
func scripted(t *testing.T, answer http.HandlerFunc) *testWorld {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return &testWorld{env: map[string]string{"KEYLEDGER_SERVER": server.URL, "KEYLEDGER_TOKEN": "t"}}
}

func answerJSON(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(body))
	}
}
