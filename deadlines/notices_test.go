package deadlines

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseNotices(t *testing.T) {
	tests := []struct {
		text string
		want []time.Duration
		err  string
	}{
		{text: "7d", want: []time.Duration{7 * day}},
		{text: "30d,7d,1d", want: []time.Duration{day, 7 * day, 30 * day}},
		{text: " 1d , 90m,12h", want: []time.Duration{90 * time.Minute, 12 * time.Hour, day}},
		{text: "366d", want: []time.Duration{366 * day}},
		{text: "none", want: []time.Duration{}},
		{text: "", err: "missing"},
		{text: "7d,", err: "missing"},
		{text: "-7d", err: "not a whole number"},
		{text: "+7d", err: "not a whole number"},
		{text: "7", err: "not a whole number"},
		{text: "d", err: "not a whole number"},
		{text: "1.5d", err: "not a whole number"},
		{text: "7 d", err: "not a whole number"},
		{text: "7days", err: "not a whole number"},
		{text: "1h30m", err: "not a whole number"},
		{text: "10s", err: "not a whole number"},
		{text: "7D", err: "not a whole number"},
		{text: "7d,none", err: "not a whole number"},
		{text: "٧d", err: "not a whole number"},
		{text: "0d", err: "use 1m to 366d"},
		{text: "367d", err: "more than 366 days"},
		{text: "9223372036854775807d", err: "more than 366 days"},
		{text: "99999999999999999999d", err: "more than 366 days"},
		{text: "7d,168h", err: "named twice"},
		{text: "1d,2d,3d,4d,5d,6d,7d,8d,9d,10d,11d", err: "at most 10"},
	}
	for _, tt := range tests {
		got, err := ParseNotices(tt.text)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%q: %v, %v; want an error with %q", tt.text, got, err, tt.err)
			}
			continue
		}
		if err != nil || !slices.Equal(got, tt.want) || got == nil {
			t.Errorf("%q: %v, %v; want %v", tt.text, got, err, tt.want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	log := newFakeLog()
	for name, cfg := range map[string]Config{
		"no log":               {Lease: log},
		"no lease":             {Log: log},
		"a negative notice":    {Log: log, Lease: log, Notices: []time.Duration{-day}},
		"part of a second":     {Log: log, Lease: log, Notices: []time.Duration{day + 1}},
		"a notice named twice": {Log: log, Lease: log, Notices: []time.Duration{day, time.Hour, day}},
		"a negative batch":     {Log: log, Lease: log, BatchSize: -1},
		"more than all time":   {Log: log, Lease: log, Duty: 1.1},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := New(Config{Log: log, Lease: log}); err != nil {
		t.Errorf("the defaults: %v", err)
	}
}
