package main

import (
	"fmt"
	"time"
	"unicode/utf8"
)

const (
	liveEvery  = 200 * time.Millisecond // on a terminal, where a line is written over
	plainEvery = 10 * time.Second       // elsewhere, where lines add up
)

// progress tells on standard error how far long work is: on one line of a terminal
// that is written over, or on a line now and then where somebody may read a log.
type progress struct {
	a     *app
	off   bool
	live  bool
	last  time.Time // when something was shown
	label string    // of the last report
	width int       // of the line on the terminal, 0 for none
}

// newProgress makes the progress of work that has begun now. Programs get none.
// Without a terminal there is none either, unless lines are wanted.
func (a *app) newProgress(lines bool) *progress {
	_, live := terminal(a.stderr)
	return &progress{a: a, live: live, off: a.json || !live && !lines, last: a.now()}
}

// due reports whether it is time for a report about the work named label: when
// that has changed, and now and then.
func (p *progress) due(label string) bool {
	if p.off {
		return false
	}
	every := plainEvery
	if p.live {
		every = liveEvery
	}
	now := p.a.now()
	if label == p.label && now.Sub(p.last) < every {
		return false
	}
	p.last, p.label = now, label
	return true
}

// show shows a report.
func (p *progress) show(format string, args ...any) {
	if p.off {
		return
	}
	text := clean(fmt.Sprintf(format, args...))
	if !p.live {
		p.a.errorf("%s\n", text)
		return
	}
	p.a.errorf("\r%-*s", p.width, text)
	p.width = max(p.width, utf8.RuneCountInString(text))
}

// clear removes the line, so that something else can be printed.
func (p *progress) clear() {
	if p.width > 0 {
		p.a.errorf("\r%*s\r", p.width, "")
		p.width = 0
	}
}

// percent says how much of something is done: "42 %", or "" if all is not known.
func percent(done, all uint64) string {
	if all == 0 {
		return ""
	}
	return fmt.Sprintf("%d %%", 100*min(done, all)/all)
}

// grouped renders a number with commas between thousands.
func grouped[T int | int64 | uint64](n T) string {
	text := fmt.Sprint(n)
	for at := len(text) - 3; at > 0 && text[at-1] != '-'; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

// size renders a number of bytes.
func size(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, names := float64(n)/unit, "KMGTPE"
	for value >= unit && len(names) > 1 {
		value, names = value/unit, names[1:]
	}
	return fmt.Sprintf("%.1f %ciB", value, names[0])
}
