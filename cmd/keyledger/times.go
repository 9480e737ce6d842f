package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// timeForms ends the help of commands with flags that take a time.
const timeForms = `

A TIME is RFC 3339 (2006-01-02T15:04:05Z), a date (midnight UTC), a date and a time as the tables show them ("2006-01-02 15:04", UTC), now, or a time before or after it by this machine's clock: now-2h, now+7d. Where only the past makes sense, 2h and 90d say how long ago. A day is 24 hours, a week (w) 7 days.`

// timeSense says what a duration alone means to a flag.
type timeSense int

const (
	ago       timeSense = iota // how long ago
	eitherWay                  // it could be either, so that now+ or now- must be said
)

// parseTime reads what a flag was given; "" is the zero time.
func parseTime(flag, text string, now time.Time, sense timeSense) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly, time.DateTime, "2006-01-02 15:04", "2006-01-02T15:04Z07:00"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	span, relative := strings.CutPrefix(text, "now")
	if relative && span == "" {
		return now, nil
	}
	if relative {
		if d, ok := parseSpan(span[1:]); ok && span[0] == '-' {
			return now.Add(-d), nil
		} else if ok && span[0] == '+' {
			return now.Add(d), nil
		}
		return time.Time{}, usagef("use now-2h or now+7d", "%s %q is not a time", flag, text)
	}
	if d, ok := parseSpan(strings.TrimPrefix(text, "-")); ok {
		switch {
		case sense == eitherWay:
			return time.Time{}, usagef("use now+"+strings.TrimPrefix(text, "-")+" or now-"+strings.TrimPrefix(text, "-"),
				"%s %q could be before or after now", flag, text)
		case text[0] == '-':
			return time.Time{}, usagef("use "+text[1:]+" for so long ago, or now+"+text[1:], "%s %q is not a time: it is negative", flag, text)
		}
		return now.Add(-d), nil
	}
	do := "use 2006-01-02T15:04:05Z, 2006-01-02, or now-24h"
	if sense == ago {
		do = "use 2006-01-02T15:04:05Z, 2006-01-02, or how long ago: 24h, 90d"
	}
	return time.Time{}, usagef(do, "%s %q is not a time", flag, text)
}

// parseSpan is time.ParseDuration with days and weeks (90d, 1d12h), and without
// signs.
func parseSpan(text string) (time.Duration, bool) {
	const day = 24 * time.Hour
	var sum time.Duration
	for _, unit := range []struct {
		letter string
		length time.Duration
	}{{"w", 7 * day}, {"d", day}} {
		number, rest, ok := strings.Cut(text, unit.letter)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || number[0] == '+' || n < 0 || n > int64((math.MaxInt64-sum)/unit.length) {
			return 0, false
		}
		sum += time.Duration(n) * unit.length
		if text = rest; text == "" {
			return sum, true
		}
	}
	if text == "" || text[0] == '-' || text[0] == '+' {
		return 0, false
	}
	d, err := time.ParseDuration(text)
	if err != nil || d > math.MaxInt64-sum {
		return 0, false
	}
	return sum + d, true
}

// span renders a duration for people, to two units.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Second:
		d = d.Round(time.Millisecond)
	case d < time.Minute:
		d = d.Round(100 * time.Millisecond)
	case d < time.Hour:
		d = d.Round(time.Second)
	case d < day:
		d = d.Round(time.Minute)
	default:
		d = d.Round(time.Hour)
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		return strings.TrimSuffix(text, "0s")
	}
	return text
}

// secondsOf returns a duration that the API gives in seconds.
func secondsOf(seconds float64) time.Duration {
	return time.Duration(seconds * float64(time.Second))
}
