package verify

import "time"

// instant is a time.Time in two thirds of its size, without a pointer, exact for
// every time: a table of a million keys holds two million of them. The zero
// time.Time stands for "never", and is what an instant of it gives back.
type instant struct {
	sec  int64
	nsec int32
}

// neverSec is the Unix time of the zero time.Time.
const neverSec = -62135596800

func instantOf(t time.Time) instant {
	return instant{t.Unix(), int32(t.Nanosecond())} //nolint:gosec // below 1e9
}

func (i instant) time() time.Time { return time.Unix(i.sec, int64(i.nsec)).UTC() }

// set reports whether the instant is not never.
func (i instant) set() bool { return i != instant{sec: neverSec} }

// passed reports whether the instant has come; never does not come.
func (i instant) passed(now instant) bool {
	return i.set() && (now.sec > i.sec || now.sec == i.sec && now.nsec >= i.nsec)
}
