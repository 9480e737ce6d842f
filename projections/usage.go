package projections

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keyledger/keyledger/domain"
)

// UsageDays is for how many days counts of use are kept.
const UsageDays = 400

// Day is a day, UTC: so many after 1970-01-01.
type Day int32

// DayOf returns the day of an instant.
func DayOf(t time.Time) Day { return Day(t.Unix() / secondsPerDay) } //nolint:gosec // five million years

const secondsPerDay = 24 * 60 * 60

// Time returns when the day begins.
func (d Day) Time() time.Time { return time.Unix(int64(d)*secondsPerDay, 0).UTC() }

// String returns the day as 2006-01-02.
func (d Day) String() string { return d.Time().Format(time.DateOnly) }

// KeyUse says when a key was last used, and how often, of what one report is about.
type KeyUse struct {
	Key   domain.KeyID
	At    time.Time
	Count uint64
}

// UsageReport is what one reporter saw, of one day. Reports of a run are numbered
// from 1 on, so that one that comes twice counts once. Run "" is of none: it counts
// every time.
type UsageReport struct {
	Run    string
	Number uint64
	Day    Day
	Uses   []KeyUse
}

// UsagePosition is up to where reports were merged: the stream they are in, by the
// time it was made at in nanoseconds since 1970, and the sequence in it. Zero: none was.
type UsagePosition struct {
	Stream int64
	Seq    uint64
}

// UsageBatch is consecutive reports to be merged.
type UsageBatch struct {
	From, To UsagePosition
	Reports  []UsageReport
	// Now is the clock: counts of days more than [UsageDays] before it are removed, some
	// with every batch, and what reports say of a later time is taken for now.
	Now time.Time
}

// ErrUsageMoved says that a batch does not continue what was merged: something else
// has merged.
var ErrUsageMoved = errors.New("the reports of use were merged by another")

// UsageWriter keeps when and how often keys were used. That is not in the event log:
// it has its own tables, and no build or swap of the others touches them. Safe for
// concurrent use.
type UsageWriter interface {
	// UsagePosition returns up to where reports were merged.
	UsagePosition(context.Context) (UsagePosition, error)
	// MergeUsage merges a batch in one transaction, or nothing of it: of when a key was
	// used the latest counts, and numbers are added up by day. Keys that are not known
	// (yet) are noted too. It returns [ErrUsageMoved] unless the stored position is the
	// batch's From. After another error the batch may or may not be merged: the position tells.
	MergeUsage(context.Context, UsageBatch) error
}

// UsageReader reads how often keys were used.
type UsageReader interface {
	// DailyUse returns how often a key was used on each day of a span, both ends
	// included, oldest first; days without use are left out. The span is at most [UsageDays].
	DailyUse(ctx context.Context, id domain.KeyID, from, to Day) ([]DayUse, error)
}

// DayUse is how often a key was used on a day.
type DayUse struct {
	Day   Day
	Count uint64
}

// UsageChange is the effect of a [UsageBatch] on the tables.
type UsageChange struct {
	Last  map[domain.KeyID]time.Time // whole microseconds
	Days  map[KeyDay]uint64          // to be added
	Runs  map[string]uint64          // numbers that reports came up to
	Since Day                        // counts of earlier days go
}

// KeyDay is a day of a key.
type KeyDay struct {
	Day Day
	Key domain.KeyID
}

// Compare is the order of days, and of keys within one.
func (k KeyDay) Compare(other KeyDay) int {
	return cmp.Or(cmp.Compare(k.Day, other.Day), cmp.Compare(k.Key, other.Key))
}

// Runs returns the runs that a batch has reports of, each once.
func (b UsageBatch) Runs() []string {
	var runs []string
	seen := map[string]bool{"": true}
	for _, r := range b.Reports {
		if !seen[r.Run] {
			seen[r.Run] = true
			runs = append(runs, r.Run)
		}
	}
	return runs
}

// Fold works out what a batch changes, where merged are the numbers up to which
// reports of its runs were merged before.
func (b UsageBatch) Fold(merged map[string]uint64) UsageChange {
	c := UsageChange{
		Last: map[domain.KeyID]time.Time{}, Days: map[KeyDay]uint64{}, Runs: map[string]uint64{}, Since: DayOf(b.Now) - UsageDays + 1,
	}
	now := Micros(b.Now)
	for _, r := range b.Reports {
		if r.Run != "" {
			if r.Number <= max(merged[r.Run], c.Runs[r.Run]) {
				continue
			}
			c.Runs[r.Run] = r.Number
		}
		day := min(r.Day, DayOf(b.Now))
		for _, u := range r.Uses {
			// What no database holds, or was long ago, can be no use of a key of ours.
			if !domain.ValidID(string(u.Key)) || u.At.Unix() <= 0 {
				continue
			}
			at := Micros(u.At)
			if at.After(now) {
				at = now
			}
			if at.After(c.Last[u.Key]) {
				c.Last[u.Key] = at
			}
			if u.Count > 0 && day >= c.Since {
				key := KeyDay{Day: day, Key: u.Key}
				c.Days[key] = min(c.Days[key]+min(u.Count, maxDayCount), maxDayCount)
			}
		}
	}
	return c
}

// maxDayCount keeps what is added up far within what databases hold.
const maxDayCount = 1 << 53

// Span returns the days of a span, both ends included; an error if it is too long.
func Span(from, to Day) ([]Day, error) {
	if to < from {
		return nil, nil
	}
	if to-from >= UsageDays {
		return nil, fmt.Errorf("read the use of a key: a span of more than %d days", UsageDays)
	}
	days := make([]Day, 0, to-from+1)
	for d := from; d <= to; d++ {
		days = append(days, d)
	}
	return days, nil
}
