package eventstore_test

import (
	"testing"
	"time"

	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/eventstoretest"
)

// Times that anybody may ask for, and that nothing was stored at.
func TestFromTimeAtTheEdges(t *testing.T) {
	log := eventstoretest.MustEmbedded(t)
	eventstoretest.MustAppend(t, log, eventstoretest.Meta("c"), eventstoretest.Created("acct_1", 1))
	for name, from := range map[string]time.Time{
		"year 0":         time.Date(0, time.January, 1, 0, 0, 0, 0, time.UTC),
		"year -1":        time.Date(-1, time.January, 1, 0, 0, 0, 0, time.UTC),
		"year 1":         time.Time{}.Add(time.Nanosecond),
		"1969":           time.Unix(-1, 0),
		"1970":           time.Unix(0, 0),
		"1970, a minute": time.Unix(60, 1),
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			for _, err := range log.Replay(t.Context(), eventstore.Filter{FromTime: from}) {
				if err != nil {
					t.Fatal(err)
				}
				n++
			}
			for _, err := range log.Follow(t.Context(), eventstore.Filter{FromTime: from, ToSeq: 1}) {
				if err != nil {
					t.Fatal(err)
				}
				n++
			}
			if n != 2 {
				t.Errorf("%d events", n)
			}
		})
	}
}

// What the server can never be asked for ends the reading; it is not asked for ever.
func TestFromTimeBeyondAllForms(t *testing.T) {
	log := eventstoretest.MustEmbedded(t)
	var last error
	for _, err := range log.Follow(t.Context(), eventstore.Filter{FromTime: time.Date(20_000, time.January, 1, 0, 0, 0, 0, time.UTC)}) {
		last = err
	}
	if last == nil {
		t.Error("no error")
	}
}
