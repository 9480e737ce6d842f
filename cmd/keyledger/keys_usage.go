package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/keyledger/keyledger/client"
)

type keysUsage struct {
	ID         string `arg:"" help:"The key's id, key_…"`
	From       string `placeholder:"TIME" help:"From this day on, UTC. Default: 29 days before the last."`
	To         string `placeholder:"TIME" help:"Up to this day, included. Default: today."`
	Management bool   `help:"It is a management key."`
	connection
}

func (keysUsage) Help() string {
	return `How often the key was used on each day, UTC. A use is a check that let the key pass. Uses are reported every minute, so that the last minute or two are missing. Counts are kept for 400 days.

Examples:

    keyledger keys usage key_4fJq0Zr8kLw2TnXb
    keyledger keys usage key_4fJq0Zr8kLw2TnXb --from 90d
    keyledger keys usage key_4fJq0Zr8kLw2TnXb --from 2030-01-01 --to 2030-01-31 --output json` + timeForms
}

func (c keysUsage) Run(a *app) error {
	a.machine(c.outputFlag)
	var q client.UsageQuery
	var err error
	if q.From, err = parseTime("--from", c.From, a.now(), ago); err != nil {
		return err
	}
	if q.To, err = parseTime("--to", c.To, a.now(), ago); err != nil {
		return err
	}
	cl, err := c.client(a)
	if err != nil {
		return err
	}
	read := cl.KeyUsage
	if c.Management {
		read = cl.ManagementKeyUsage
	}
	usage, err := read(a.ctx, c.ID, q)
	if err != nil {
		return err
	}
	if a.machine(c.outputFlag) {
		return a.printJSON(usage)
	}
	return a.printUsage(usage)
}

// barWidth is how long the bar of the day with the most uses is.
const barWidth = 40

// printUsage shows the days from the first with a use on, those without one too, so
// that the bars stand in time.
func (a *app) printUsage(u client.KeyUsage) error {
	if len(u.Days) > 0 {
		counts, most := map[string]uint64{}, uint64(1)
		for _, d := range u.Days {
			counts[d.Day], most = d.Count, max(most, d.Count)
		}
		first, err := time.Parse(time.DateOnly, u.Days[0].Day)
		if err != nil {
			return fmt.Errorf("read the server's answer: %w", err)
		}
		last, err := time.Parse(time.DateOnly, u.To)
		if err != nil {
			return fmt.Errorf("read the server's answer: %w", err)
		}
		t := newTable(a.stdout)
		t.row("DAY (UTC)", "USES", "")
		for day := first; !day.After(last); day = day.AddDate(0, 0, 1) {
			n := counts[day.Format(time.DateOnly)]
			t.row(day.Format(time.DateOnly), number(n), bar(n, most))
		}
		if err := t.flush(); err != nil {
			return outputError(err)
		}
	}
	used := "no use of it is known"
	if u.LastUsedAt != nil {
		used = "last used " + instant(u.LastUsedAt, "")
	}
	a.errorf("%s: %d uses from %s to %s; %s. The last minute or two may be missing.\n", clean(u.KeyID), u.Total, clean(u.From), clean(u.To), used)
	return nil
}

// bar is as long as n is to most, and never nothing for something.
func bar(n, most uint64) string {
	if n == 0 {
		return ""
	}
	return strings.Repeat("█", max(1, int(float64(n)/float64(most)*barWidth+0.5)))
}

// sinceRotation says of a rotated key whether its token is still in use: whether it
// is safe to end it before its time. "" of a key that was not rotated.
func sinceRotation(k client.Key, now time.Time) string {
	switch {
	case k.ReplacedBy == "":
		return ""
	case k.LastUsedSinceRotationAt == nil:
		return "not used since the rotation; uses of the last minute or two may not be reported yet"
	default:
		return "last used " + span(max(0, now.Sub(*k.LastUsedSinceRotationAt))) + " ago, after the rotation"
	}
}
