package main

import (
	"strings"
	"testing"
	"time"
)

func TestParseTime(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	const day = 24 * time.Hour
	for in, want := range map[string]time.Time{
		"":                          {},
		"24h":                       now.Add(-day),
		"90d":                       now.Add(-90 * day),
		"2w":                        now.Add(-14 * day),
		"1w1d1h30m":                 now.Add(-8*day - 90*time.Minute),
		"now":                       now,
		"now-2h":                    now.Add(-2 * time.Hour),
		"now+7d":                    now.Add(7 * day),
		"2030-01-01":                time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC),
		"2030-01-01 12:34":          time.Date(2030, 1, 1, 12, 34, 0, 0, time.UTC),
		"2030-01-01 12:34:56":       time.Date(2030, 1, 1, 12, 34, 56, 0, time.UTC),
		"2030-01-01T12:34Z":         time.Date(2030, 1, 1, 12, 34, 0, 0, time.UTC),
		"2030-01-01T12:00:00+01:00": time.Date(2030, 1, 1, 11, 0, 0, 0, time.UTC),
		"2030-01-01T12:00:00.25Z":   time.Date(2030, 1, 1, 12, 0, 0, 250e6, time.UTC),
	} {
		if got, err := parseTime("--at", in, now, ago); err != nil || !got.Equal(want) {
			t.Errorf("%q = %v, %v; want %v", in, got, err, want)
		}
	}
	for in, words := range map[string]string{
		"soon":                 "is not a time",
		"03:12":                "is not a time",
		"2030-13-01":           "is not a time",
		"-24h":                 "negative",
		"-90d":                 "negative",
		"now-":                 "is not a time",
		"now2h":                "is not a time",
		"now--2h":              "is not a time",
		"now - 2h":             "is not a time",
		"nowhere":              "is not a time",
		"d":                    "is not a time",
		"+1d":                  "is not a time",
		"1d-2h":                "is not a time",
		"1d1w":                 "is not a time",
		"99999999999999999999": "is not a time",
		"4000000000d":          "is not a time",
		"106751d999h":          "is not a time",
		"2030-01-01T12:34":     "is not a time", // of which zone?
	} {
		got, err := parseTime("--at", in, now, ago)
		if err == nil || !strings.Contains(err.Error(), words) || !strings.Contains(err.Error(), "--at") {
			t.Errorf("%q = %v, %v; want %q", in, got, err, words)
		}
	}
	if got, err := parseTime("--expiring-before", "now+7d", now, eitherWay); err != nil || !got.Equal(now.Add(7*day)) {
		t.Errorf("now+7d = %v, %v", got, err)
	}
	if got, err := parseTime("--expiring-before", "7d", now, eitherWay); err == nil || !strings.Contains(explain(err).do, "now+7d or now-7d") {
		t.Errorf("7d where it could be either = %v, %v", got, err)
	}
}

func TestSpan(t *testing.T) {
	for in, want := range map[time.Duration]string{
		0:                                     "0s",
		12345 * time.Microsecond:              "12ms",
		3456 * time.Millisecond:               "3.5s",
		2*time.Minute + 3*time.Second:         "2m3s",
		2 * time.Minute:                       "2m",
		3*time.Hour + 4*time.Minute + 5:       "3h4m",
		50*time.Hour + 59*time.Minute:         "2d3h",
		24 * time.Hour:                        "1d0h",
		time.Hour:                             "1h0m",
		59*time.Minute + 59*time.Second + 9e8: "1h0m",
		59*time.Second + 980*time.Millisecond: "1m",
		999*time.Millisecond + 999*time.Microsecond: "1s",
	} {
		if got := span(in); got != want {
			t.Errorf("span(%v) = %s, want %s", in, got, want)
		}
	}
}
