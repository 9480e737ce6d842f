package eventstore

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// The catalogue for readers shows each type as its golden file has it.
func TestCatalogueShowsTheGoldenFiles(t *testing.T) {
	page, err := os.ReadFile("../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range mustDomainTypes(t) {
		_, section, found := strings.Cut(string(page), "`"+string(typ)+"`\n")
		if !found {
			t.Errorf("docs/events.md has no section for %s", typ)
			continue
		}
		section, _, _ = strings.Cut(section, "\n### ")
		var event struct{ Data json.RawMessage }
		if err := json.Unmarshal(mustGolden(t, typ), &event); err != nil {
			t.Fatal(err)
		}
		var example bytes.Buffer
		if err := json.Indent(&example, event.Data, "", "  "); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(section, "```json\n"+example.String()+"\n```") {
			t.Errorf("docs/events.md shows another %s than its golden file:\n%s", typ, example.String())
		}
	}
}
