package server

import "testing"

func FuzzPosition(f *testing.F) {
	f.Add(position(0))
	f.Add(position(1<<64 - 1))
	f.Add("c2VxOjA5")
	f.Fuzz(func(t *testing.T, token string) {
		seq, err := readPosition(token)
		if err == nil && position(seq) != token {
			t.Errorf("%q is read as %d, which is written as %q", token, seq, position(seq))
		}
	})
}

func TestReadIfMatch(t *testing.T) {
	tests := []struct {
		header string
		want   uint64
		any    bool
		bad    bool
	}{
		{"", 0, true, false}, {"*", 0, true, false}, {`"42"`, 42, false, false}, {`W/"42"`, 42, false, false},
		{`"x"`, 0, false, false}, {`""`, 0, false, false}, {`42`, 0, false, true}, {`"42`, 0, false, true}, {`"1","2"`, 0, false, true},
		{`w/"1"`, 0, false, true},
	}
	for _, tt := range tests {
		got, err := readIfMatch(tt.header)
		if (err != nil) != tt.bad || err == nil && (got == nil) != tt.any || got != nil && *got != tt.want {
			t.Errorf("%s: %v, %v", tt.header, got, err)
		}
	}
}
