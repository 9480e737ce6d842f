package server

import (
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/wire"
)

// wireRecord shows a key as the tables have it.
func wireRecord(r projections.KeyRecord, now time.Time) client.Key {
	w := wire.Key(r.Key, r.Seq, now)
	w.LastUsedAt = wire.Instant(r.LastUsedAt)
	w.LastUsedSinceRotationAt = optionalTime(usedSinceRotation(r))
	return w
}
