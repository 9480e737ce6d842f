package eventstore

import (
	"errors"
	"testing"
	"testing/synctest"
)

// A reader that stands still must not keep more than so many bytes.
func TestQueueIsBoundedByBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1000, 100)
		put := 0
		go func() {
			for range 10 {
				q.put(Event{Raw: make([]byte, 40)}, 0)
				put++
			}
			q.fail(errors.New("end"))
		}()
		for taken := 0; taken < 10; {
			synctest.Wait()
			if held := put - taken; held > 3 {
				t.Fatalf("%d events of 40 bytes in a queue of 100", held)
			}
			items, _, _ := q.take(t.Context())
			taken += len(items)
		}
	})
}
