package eventstore

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/domain"
)

func TestDecodeRefuses(t *testing.T) {
	revoked := sample{domain.CommandRevokeKey, domain.KeyRevoked{Reason: "x", RevokedAt: time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)}}.event()
	raw, err := newEncoder().encode(revoked)
	if err != nil {
		t.Fatal(err)
	}
	good := string(raw)
	for name, bad := range map[string]string{
		"empty":             "",
		"not json":          "hello",
		"two lines":         strings.Replace(good, `,"data"`, ",\n\"data\"", 1),
		"trailing":          good + "{}",
		"repeated member":   strings.Replace(good, `"id":`, `"id":"again","id":`, 1),
		"wrong case":        strings.Replace(good, `"id":`, `"ID":`, 1),
		"other version":     strings.Replace(good, `"1.0"`, `"2.0"`, 1),
		"no id":             strings.Replace(good, `"`+revoked.ID+`"`, `""`, 1),
		"no source":         strings.Replace(good, `"source":"keyledger",`, ``, 1),
		"no actor":          strings.Replace(good, `"actor"`, `"aktor"`, 1),
		"no command":        strings.Replace(good, `"command"`, `"kommand"`, 1),
		"no command id":     strings.Replace(good, `"commandid"`, `"kommandid"`, 1),
		"no data":           good[:strings.Index(good, `,"data"`)] + "}",
		"null data":         good[:strings.Index(good, `"data"`)] + `"data":null}`,
		"data of no object": good[:strings.Index(good, `"data"`)] + `"data":7}`,
		"time of no form":   strings.Replace(good, `"2026-11-24T09:30:00.123456Z"`, `"yesterday"`, 1),
		"other account":     strings.Replace(good, `"acct_7"`, `"acct_8"`, 1),
		"other key":         strings.Replace(good, `"subject":"key_7`, `"subject":"key_8`, 1),
		"no revoked_at":     strings.Replace(good, `"revoked_at"`, `"revokedat"`, 1),
		"broken utf-8":      strings.Replace(good, `"reason":"x"`, "\"reason\":\"\xff\"", 1),
	} {
		t.Run(name, func(t *testing.T) {
			if bad == good {
				t.Fatal("the case changes nothing")
			}
			e, err := decode(7, revoked.Aggregate, []byte(bad))
			if err == nil {
				t.Fatalf("accepted as %+v", e)
			}
			if !strings.Contains(err.Error(), "event 7") {
				t.Errorf("the error does not name the event: %v", err)
			}
		})
	}
}

func TestDecodeUnknownType(t *testing.T) {
	e := sample{domain.CommandRevokeKey, domain.KeyExpired{ExpiresAt: time.Unix(1, 0)}}.event()
	raw, err := newEncoder().encode(e)
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range []string{"keyledger.key.created.v2", "keyledger.key.renamed.v1", "KEYLEDGER.KEY.EXPIRED.V1"} {
		_, err = decode(7, e.Aggregate, bytes.Replace(raw, []byte(domain.TypeKeyExpired), []byte(typ), 1))
		unknown, ok := errors.AsType[*UnknownTypeError](err)
		if !ok || unknown.Seq != 7 || string(unknown.Type) != typ {
			t.Errorf("%s: %v", typ, err)
		}
	}
}

// A later release may add members; what it adds is kept in the stored bytes.
func TestDecodeKeepsUnknownMembers(t *testing.T) {
	e := sample{domain.CommandRevokeKey, domain.KeyExpired{ExpiresAt: time.Unix(1, 0)}}.event()
	raw, err := newEncoder().encode(e)
	if err != nil {
		t.Fatal(err)
	}
	raw = bytes.Replace(raw, []byte(`"data":{`), []byte(`"partition":"x","data":{"why":"new",`), 1)
	got, err := decode(1, e.Aggregate, raw)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Raw, raw) {
		t.Error("the stored bytes changed")
	}
}

func TestEncodeTimes(t *testing.T) {
	zone := time.FixedZone("somewhere", 2*3600)
	e := sample{domain.CommandRevokeKey, domain.KeyRevoked{Reason: "x", RevokedAt: time.Date(2026, 11, 24, 11, 30, 0, 123456789, zone)}}.event()
	e.Time = time.Date(2026, 11, 24, 11, 30, 0, 999, zone)
	raw, err := newEncoder().encode(e)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"time":"2026-11-24T09:30:00Z"`, `"revoked_at":"2026-11-24T09:30:00.123456Z"`} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("%s lacks %s", raw, want)
		}
	}
}

func TestScanTakesWhatIsWritten(t *testing.T) {
	for _, s := range samples() {
		for _, e := range []Event{s.event(), withoutOptional(s.event())} {
			raw, err := newEncoder().encode(e)
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := scanEnvelope(raw); !ok {
				t.Errorf("not scanned: %s", raw)
			}
			got, err := decode(1, e.Aggregate, raw)
			careful, err2 := decodeCarefully(1, e.Aggregate, raw)
			if err != nil || err2 != nil || !reflect.DeepEqual(got, careful) {
				t.Errorf("%v, %v: %+v\n%+v", err, err2, got, careful)
			}
		}
	}
}

func withoutOptional(e Event) Event {
	e.CommandHash, e.RequestID, e.TraceParent = "", "", ""
	return e
}

func FuzzDecode(f *testing.F) {
	enc := newEncoder()
	for _, s := range samples() {
		raw, err := enc.encode(s.event())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
		f.Add(bytes.Replace(raw, []byte(`{"`), []byte(`{ "`), 1))
		f.Add(bytes.Replace(raw, []byte(`,"data"`), []byte(`,"ext":1,"data"`), 1))
		f.Add(append(bytes.Clone(raw[:len(raw)-1]), `,"ext":1}`...))
		f.Add(append(bytes.Clone(raw[:len(raw)-1]), `,"id":"again"}`...))
		f.Add(append(bytes.Clone(raw), ' '))
		f.Add(bytes.Replace(raw, []byte(`T09:`), []byte(`t09:`), 1))
		f.Add(bytes.Replace(raw, []byte(`.123456Z`), []byte(`,123456Z`), 1))
		f.Add(bytes.Replace(raw, []byte(`.123456Z`), []byte(`.123456+02:00`), 1))
	}
	a := sample{}.event().Aggregate
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := decode(1, a, raw)
		careful, carefulErr := decodeCarefully(1, a, raw)
		if (err == nil) != (carefulErr == nil) || err == nil && !reflect.DeepEqual(e, careful) {
			e.Raw, careful.Raw = nil, nil
			t.Fatalf("decoded %q as\n%+v, %v\ncarefully as\n%+v, %v", raw, e, err, careful, carefulErr)
		}
		if err != nil {
			return
		}
		if e.Data == nil || e.ID == "" || e.Actor == "" || e.Time.IsZero() || e.Time.Location() != time.UTC {
			t.Fatalf("accepted %q as %+v", raw, e)
		}
		// What was read can be written, and reads the same again.
		again, err := enc.encode(e)
		if err != nil {
			t.Fatalf("encode %+v: %v", e, err)
		}
		e2, err := decode(1, a, again)
		if err != nil {
			t.Fatalf("decode %s: %v", again, err)
		}
		third, err := enc.encode(e2)
		if err != nil || !bytes.Equal(again, third) {
			t.Fatalf("%v: encoded\n%s\nthen\n%s", err, again, third)
		}
	})
}

func FuzzSubject(f *testing.F) {
	for _, id := range []string{"key_a", "*", ">", "a.b", "a b", "a\r\nb", "é", "a\x00", "", strings.Repeat("a", 65), "$JS.API.>", "a\tb", "../x"} {
		f.Add(id, id)
	}
	f.Fuzz(func(t *testing.T, account, id string) {
		a := KeyAggregate(domain.AccountID(account), domain.KeyID(id))
		subject, err := a.Subject()
		if ok := domain.ValidID(account) && domain.ValidID(id); ok != (err == nil) {
			t.Fatalf("%q, %q: %q, %v", account, id, subject, err)
		}
		if err != nil {
			if domain.KindOf(err) != domain.KindInvalid {
				t.Fatalf("kind of %v", err)
			}
			return
		}
		if strings.Count(subject, ".") != 4 || strings.ContainsAny(subject, "*> \t\r\n\x00") {
			t.Fatalf("subject %q", subject)
		}
		back, err := parseSubject(subject)
		if err != nil || !reflect.DeepEqual(back, a) {
			t.Fatalf("%q reads back as %+v, %v", subject, back, err)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	for _, s := range samples() {
		e := s.event()
		raw, err := newEncoder().encode(e)
		if err != nil {
			b.Fatal(err)
		}
		for name, f := range map[string]func() (Event, error){
			"decode":  func() (Event, error) { return decode(1, e.Aggregate, raw) },
			"careful": func() (Event, error) { return decodeCarefully(1, e.Aggregate, raw) },
		} {
			b.Run(name+"/"+string(e.Type()), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := f(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
