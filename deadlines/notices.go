package deadlines

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	day = 24 * time.Hour

	// DefaultNotice is how long before its expiry a key's notice is given.
	DefaultNotice = 7 * day

	minNotice  = time.Minute
	maxNotice  = 366 * day
	maxNotices = 10
)

// ParseNotices reads how long before an expiry notices are given: "30d,7d,1d", each
// a whole number of days (d), hours (h) or minutes (m), or "none". The result is
// what [Config.Notices] takes: the leads in ascending order, and empty, not nil, for
// none.
func ParseNotices(text string) ([]time.Duration, error) {
	if text == "none" {
		return []time.Duration{}, nil
	}
	var leads []time.Duration
	for part := range strings.SplitSeq(text, ",") {
		lead, err := parseLead(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		leads = append(leads, lead)
	}
	slices.Sort(leads)
	return leads, checkNotices(leads)
}

func parseLead(text string) (time.Duration, error) {
	if text == "" {
		return 0, fmt.Errorf("a notice is missing between the commas")
	}
	unit, ok := map[byte]time.Duration{'d': day, 'h': time.Hour, 'm': time.Minute}[text[len(text)-1]]
	digits := text[:len(text)-1]
	if !ok || digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, fmt.Errorf("%q is not a whole number of days, hours or minutes such as 7d, 12h or 30m", text)
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > int64(maxNotice/unit) {
		return 0, fmt.Errorf("%q is more than %d days", text, maxNotice/day)
	}
	return time.Duration(n) * unit, nil
}

// checkNotices checks leads in ascending order.
func checkNotices(leads []time.Duration) error {
	if len(leads) > maxNotices {
		return fmt.Errorf("%d notices: at most %d are given", len(leads), maxNotices)
	}
	for i, lead := range leads {
		switch {
		case lead < minNotice || lead > maxNotice:
			return fmt.Errorf("a notice %v before the expiry: use 1m to %dd", lead, maxNotice/day)
		case lead%time.Second != 0:
			return fmt.Errorf("a notice %v before the expiry: use whole seconds", lead)
		case i > 0 && lead == leads[i-1]:
			return fmt.Errorf("a notice %v before the expiry is named twice", lead)
		}
	}
	return nil
}
