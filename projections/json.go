package projections

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/keyledger/keyledger/domain"
)

const jsonNull = "null"

func jsonText(s string) json.RawMessage {
	if s == "" {
		return nil
	}
	return AppendText(make([]byte, 0, len(s)+2), s)
}

func jsonTime(t time.Time) json.RawMessage {
	if t.IsZero() {
		return nil
	}
	return append(t.AppendFormat([]byte{'"'}, time.RFC3339Nano), '"')
}

func jsonSeconds(d time.Duration) json.RawMessage {
	if d == 0 {
		return nil
	}
	return strconv.AppendInt(nil, int64(d/time.Second), 10)
}

func jsonList[S ~string](list []S) json.RawMessage {
	if len(list) == 0 {
		return nil
	}
	return AppendList(nil, list)
}

func jsonGrants(g *domain.Grants) json.RawMessage {
	if g == nil {
		return nil
	}
	out := append([]byte(`{"environments":`), AppendList(nil, g.Environments)...)
	return append(AppendList(append(out, `,"scopes":`...), g.Scopes), '}')
}

func jsonObject(m map[string]string) json.RawMessage {
	if len(m) == 0 {
		return nil
	}
	return AppendObject(nil, m)
}

// jsonValue marshals what is rare enough for reflection.
func jsonValue(v any, empty bool) json.RawMessage {
	if empty {
		return nil
	}
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // lists and maps of text
	}
	return text
}

// AppendChanges appends the changes as a JSON array, the form in which stores keep
// them; [ParseChanges] reads it.
func AppendChanges(dst []byte, list []Change) []byte {
	dst = append(dst, '[')
	for i, c := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(AppendText(append(dst, `{"field":`...), c.Field), `,"before":`...)
		dst = append(appendValue(dst, c.Before), `,"after":`...)
		dst = append(appendValue(dst, c.After), '}')
	}
	return append(dst, ']')
}

func appendValue(dst []byte, value json.RawMessage) []byte {
	if value == nil {
		return append(dst, jsonNull...)
	}
	return append(dst, value...)
}

// ParseChanges reads what [AppendChanges] wrote. Anything else is an error of
// KindInternal with [CodeCorrupt].
func ParseChanges(text []byte) ([]Change, error) {
	var list []Change
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, errCorrupt("read the changes of an audit entry", err)
	}
	if len(list) == 0 {
		return nil, nil
	}
	for i := range list {
		for _, value := range [...]*json.RawMessage{&list[i].Before, &list[i].After} {
			if string(*value) == jsonNull {
				*value = nil
			}
		}
	}
	return list, nil
}

// AppendList appends a list of texts as a JSON array.
func AppendList[S ~string](dst []byte, list []S) []byte {
	dst = append(dst, '[')
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendText(dst, string(s))
	}
	return append(dst, ']')
}

// AppendObject appends a map of texts as a JSON object, in the order of the names.
func AppendObject(dst []byte, m map[string]string) []byte {
	dst = append(dst, '{')
	next := func(name string) {
		if dst[len(dst)-1] != '{' {
			dst = append(dst, ',')
		}
		dst = AppendText(append(AppendText(dst, name), ':'), m[name])
	}
	if len(m) == 1 {
		for name := range m {
			next(name)
		}
	} else {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			next(name)
		}
	}
	return append(dst, '}')
}

// AppendText appends s as a JSON string. Plain text, nearly all there is, goes
// through without reflection: rebuilds pass here for every member of every event.
func AppendText(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			text, err := json.Marshal(s)
			if err != nil {
				panic(err) // a string
			}
			return append(dst, text...)
		}
	}
	return append(append(append(dst, '"'), s...), '"')
}
