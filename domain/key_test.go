package domain

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

var (
	noon     = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	tomorrow = noon.Add(24 * time.Hour)
	nextYear = time.Date(2027, 12, 31, 0, 0, 0, 0, time.UTC)
)

func spec(change ...func(*KeySpec)) KeySpec {
	s := KeySpec{
		ID: "key_0123456789abcdef", Account: "acme", Type: KeyTypeAPI, Name: "Production Server",
		Environment: EnvironmentLive, Scopes: Scopes{"invoices:read"}, Mac: Mac{1}, PepperID: "p1", Display: "sk_live_01234567…",
	}
	for _, c := range change {
		c(&s)
	}
	return s
}

func expiring(at time.Time) func(*KeySpec) { return func(s *KeySpec) { s.ExpiresAt = at } }

func created(change ...func(*KeySpec)) KeyEvent {
	return KeyCreated{KeySpec: spec(change...), CreatedBy: "key_admin", CreatedAt: noon.Add(-time.Hour)}
}

//go:fix inline
func fold(events []KeyEvent) Key {
	var k Key
	for _, e := range events {
		k = Evolve(k, e)
	}
	return k
}

var rotate = RotateKey{NewID: "key_new0000000000000", NewMac: Mac{2}, PepperID: "p1", Display: "sk_live_new00000…", Actor: "key_admin"}

func overlapping(d time.Duration) RotateKey {
	r := rotate
	r.Overlap = d
	return r
}

func rotated(ends time.Time) KeyEvent {
	return KeyRotated{ReplacedBy: rotate.NewID, EndsAt: ends, RotatedAt: noon.Add(-time.Minute)}
}

// TestDecide reads: given these events, when this command comes at noon, then
// these events follow, or this refusal.
func TestDecide(t *testing.T) {
	revoked := KeyRevoked{Reason: "compromised", RevokedAt: noon.Add(-time.Minute)}
	create := CreateKey{KeySpec: spec(), Actor: "key_admin"}
	type events = []KeyEvent
	for name, tc := range map[string]struct {
		given events
		when  KeyCommand
		then  events
		code  string
	}{
		"create":                    {nil, create, events{KeyCreated{KeySpec: spec(), CreatedBy: "key_admin", CreatedAt: noon}}, ""},
		"create again":              {events{created()}, create, nil, CodeKeyExists},
		"create a dead key again":   {events{created(), revoked}, create, nil, CodeKeyExists},
		"create already expired":    {nil, CreateKey{KeySpec: spec(expiring(noon))}, nil, CodeExpiryInPast},
		"import":                    {nil, ImportKey{KeySpec: spec(), Actor: "key_admin"}, events{KeyImported{KeySpec: spec(), CreatedBy: "key_admin", ImportedAt: noon}}, ""},
		"import an existing key":    {events{created()}, ImportKey{KeySpec: spec()}, nil, CodeKeyExists},
		"update nothing that is":    {nil, UpdateKey{Name: new("x")}, nil, CodeKeyNotFound},
		"update the name":           {events{created()}, UpdateKey{Name: new("POS")}, events{KeyUpdated{Name: new("POS"), UpdatedAt: noon}}, ""},
		"update to the same":        {events{created()}, UpdateKey{Name: new("Production Server"), Scopes: &Scopes{"invoices:read"}, Expiry: &Expiry{}}, nil, ""},
		"update only what differs":  {events{created()}, UpdateKey{Name: new("Production Server"), Description: new("x")}, events{KeyUpdated{Description: new("x"), UpdatedAt: noon}}, ""},
		"update metadata":           {events{created()}, UpdateKey{Metadata: &map[string]string{"team": "billing"}}, events{KeyUpdated{Metadata: &map[string]string{"team": "billing"}, UpdatedAt: noon}}, ""},
		"update allowed ips":        {events{created()}, UpdateKey{AllowedIPs: &[]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, events{KeyUpdated{AllowedIPs: &[]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, UpdatedAt: noon}}, ""},
		"set an expiry":             {events{created()}, UpdateKey{Expiry: &Expiry{At: nextYear}}, events{KeyUpdated{Expiry: &Expiry{At: nextYear}, UpdatedAt: noon}}, ""},
		"clear an expiry":           {events{created(expiring(nextYear))}, UpdateKey{Expiry: &Expiry{}}, events{KeyUpdated{Expiry: &Expiry{}, UpdatedAt: noon}}, ""},
		"set a past expiry":         {events{created()}, UpdateKey{Expiry: &Expiry{At: noon}}, nil, CodeExpiryInPast},
		"update to no scopes":       {events{created()}, UpdateKey{Scopes: &Scopes{}}, nil, CodeValidation},
		"update a revoked key":      {events{created(), revoked}, UpdateKey{Name: new("x")}, nil, CodeKeyRevoked},
		"prolong an expired key":    {events{created(expiring(noon))}, UpdateKey{Expiry: &Expiry{At: nextYear}}, nil, CodeKeyExpired},
		"prolong a rotated key":     {events{created(), rotated(tomorrow)}, UpdateKey{Expiry: &Expiry{At: nextYear}}, nil, CodeKeyRotated},
		"rename a rotated key":      {events{created(), rotated(tomorrow)}, UpdateKey{Name: new("old POS")}, events{KeyUpdated{Name: new("old POS"), UpdatedAt: noon}}, ""},
		"rotate at once":            {events{created()}, rotate, events{KeyRotated{ReplacedBy: rotate.NewID, EndsAt: noon, RotatedAt: noon}, KeyRevoked{Reason: "rotated", RevokedAt: noon}}, ""},
		"rotate with overlap":       {events{created()}, overlapping(24 * time.Hour), events{KeyRotated{ReplacedBy: rotate.NewID, EndsAt: tomorrow, RotatedAt: noon}}, ""},
		"overlap up to the expiry":  {events{created(expiring(tomorrow))}, overlapping(24 * time.Hour), events{KeyRotated{ReplacedBy: rotate.NewID, EndsAt: tomorrow, RotatedAt: noon}}, ""},
		"overlap beyond the expiry": {events{created(expiring(tomorrow))}, overlapping(25 * time.Hour), nil, "overlap_beyond_expiry"},
		"negative overlap":          {events{created()}, overlapping(-time.Second), nil, CodeValidation},
		"absurd overlap":            {events{created()}, overlapping(MaxOverlap + 1), nil, CodeValidation},
		"rotate twice":              {events{created(), rotated(tomorrow)}, rotate, nil, CodeKeyRotated},
		"rotate a revoked key":      {events{created(), revoked}, rotate, nil, CodeKeyRevoked},
		"rotate an expired key":     {events{created(expiring(noon))}, rotate, nil, CodeKeyExpired},
		"rotate after the overlap":  {events{created(), rotated(noon)}, rotate, nil, CodeKeyRevoked},
		"revoke":                    {events{created()}, RevokeKey{Reason: "lost"}, events{KeyRevoked{Reason: "lost", RevokedAt: noon}}, ""},
		"revoke again":              {events{created(), revoked}, RevokeKey{Reason: "lost"}, nil, ""},
		"revoke during the overlap": {events{created(), rotated(tomorrow)}, RevokeKey{Reason: "lost"}, events{KeyRevoked{Reason: "lost", RevokedAt: noon}}, ""},
		"revoke after the overlap":  {events{created(), rotated(noon)}, RevokeKey{Reason: "lost"}, nil, ""},
		"revoke an expired key":     {events{created(expiring(noon))}, RevokeKey{Reason: "lost"}, nil, CodeKeyExpired},
		"revoke with a long reason": {events{created()}, RevokeKey{Reason: strings.Repeat("x", 501)}, nil, CodeValidation},
		"revoke nothing that is":    {nil, RevokeKey{Reason: "lost"}, nil, CodeKeyNotFound},
		"leak, revoking":            {events{created()}, ReportLeak{Source: "github", Location: "repo", Revoke: true}, events{KeyLeaked{Source: "github", Location: "repo", LeakedAt: noon}, KeyRevoked{Reason: "leaked", RevokedAt: noon}}, ""},
		"leak, only noting":         {events{created()}, ReportLeak{Source: "github"}, events{KeyLeaked{Source: "github", LeakedAt: noon}}, ""},
		"leak of a revoked key":     {events{created(), revoked}, ReportLeak{Source: "github", Revoke: true}, events{KeyLeaked{Source: "github", LeakedAt: noon}}, ""},
		"leak reported twice":       {events{created(), KeyLeaked{Source: "github", LeakedAt: noon}}, ReportLeak{Source: "github"}, nil, ""},
		"leak without a source":     {events{created()}, ReportLeak{}, nil, CodeValidation},
		"notice":                    {events{created(expiring(tomorrow))}, NotifyExpiry{Deadline: tomorrow, Lead: 7 * day}, events{KeyExpiring{ExpiresAt: tomorrow, LeadSeconds: 7 * 86400}}, ""},
		"notice too early":          {events{created(expiring(nextYear))}, NotifyExpiry{Deadline: nextYear, Lead: 7 * day}, nil, ""},
		"notice twice":              {events{created(expiring(tomorrow)), KeyExpiring{ExpiresAt: tomorrow, LeadSeconds: 7 * 86400}}, NotifyExpiry{Deadline: tomorrow, Lead: 7 * day}, nil, ""},
		"second, shorter notice":    {events{created(expiring(tomorrow)), KeyExpiring{ExpiresAt: tomorrow, LeadSeconds: 7 * 86400}}, NotifyExpiry{Deadline: tomorrow, Lead: day}, events{KeyExpiring{ExpiresAt: tomorrow, LeadSeconds: 86400}}, ""},
		"longer notice after short": {events{created(expiring(tomorrow)), KeyExpiring{ExpiresAt: tomorrow, LeadSeconds: 86400}}, NotifyExpiry{Deadline: tomorrow, Lead: 7 * day}, nil, ""},
		"notice of a moved expiry":  {events{created(expiring(tomorrow))}, NotifyExpiry{Deadline: noon.Add(time.Hour), Lead: 7 * day}, nil, ""},
		"notice anew after a move":  {events{created(expiring(tomorrow)), KeyExpiring{ExpiresAt: tomorrow, LeadSeconds: 7 * 86400}, KeyUpdated{Expiry: &Expiry{At: noon.Add(48 * time.Hour)}}}, NotifyExpiry{Deadline: noon.Add(48 * time.Hour), Lead: 7 * day}, events{KeyExpiring{ExpiresAt: noon.Add(48 * time.Hour), LeadSeconds: 7 * 86400}}, ""},
		"no notice when revoked":    {events{created(expiring(tomorrow)), revoked}, NotifyExpiry{Deadline: tomorrow, Lead: 7 * day}, nil, ""},
		"no notice of an overlap":   {events{created(expiring(tomorrow)), rotated(noon.Add(time.Hour))}, NotifyExpiry{Deadline: tomorrow, Lead: 7 * day}, nil, ""},
		"expire":                    {events{created(expiring(noon))}, ExpireKey{Deadline: noon}, events{KeyExpired{ExpiresAt: noon}}, ""},
		"expire too early":          {events{created(expiring(tomorrow))}, ExpireKey{Deadline: tomorrow}, nil, ""},
		"expire twice":              {events{created(expiring(noon)), KeyExpired{ExpiresAt: noon}}, ExpireKey{Deadline: noon}, nil, ""},
		"expire a moved deadline":   {events{created(expiring(tomorrow))}, ExpireKey{Deadline: noon}, nil, ""},
		"expire a revoked key":      {events{created(expiring(noon)), revoked}, ExpireKey{Deadline: noon}, nil, ""},
		"expire what never expires": {events{created()}, ExpireKey{Deadline: noon}, nil, ""},
		"end an overlap late":       {events{created(), rotated(noon.Add(-time.Hour))}, EndOverlap{}, events{KeyRevoked{Reason: "rotated", RevokedAt: noon.Add(-time.Hour)}}, ""},
		"end an overlap early":      {events{created(), rotated(tomorrow)}, EndOverlap{}, nil, ""},
		"end an overlap twice":      {events{created(), rotated(noon), KeyRevoked{Reason: "rotated", RevokedAt: noon}}, EndOverlap{}, nil, ""},
		"end no overlap":            {events{created()}, EndOverlap{}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Decide(fold(tc.given), tc.when, noon)
			if CodeOf(err) != tc.code {
				t.Fatalf("refusal %q (%v), want %q", CodeOf(err), err, tc.code)
			}
			if !reflect.DeepEqual(got, tc.then) {
				t.Errorf("events\n%#v\nwant\n%#v", got, tc.then)
			}
			if e, ok := err.(*Error); err != nil && (!ok || e.Fix == "") { //nolint:errorlint // the error itself, not its chain
				t.Errorf("the refusal %v does not say what to do", err)
			}
		})
	}
}

const day = 24 * time.Hour

func TestDecideChecksWhatAKeyIsMadeWith(t *testing.T) {
	management := func(s *KeySpec) { s.Type, s.Environment, s.Scopes = KeyTypeManagement, "", Scopes{ScopeKeysRead} }
	long := func(n int) string { return strings.Repeat("é", n) }
	metadata := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[string(rune('a'+i))] = "v"
		}
		return m
	}
	token, err := TokenFormat{}.NewToken(KeyTypeAPI, EnvironmentLive, "key_0123456789abcdef", zeros{})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change  func(*KeySpec)
		pointer string // "" means accepted
	}{
		"as it is":                 {func(*KeySpec) {}, ""},
		"name of 100 characters":   {func(s *KeySpec) { s.Name = long(100) }, ""},
		"name of 101 characters":   {func(s *KeySpec) { s.Name = long(101) }, "/name"},
		"blank name":               {func(s *KeySpec) { s.Name = "  " }, "/name"},
		"name with escape":         {func(s *KeySpec) { s.Name = "a\x1b[2Jb" }, "/name"},
		"name with newline":        {func(s *KeySpec) { s.Name = "a\nb" }, "/name"},
		"name not UTF-8":           {func(s *KeySpec) { s.Name = "a\xff" }, "/name"},
		"name holding a token":     {func(s *KeySpec) { s.Name = "x " + token.Reveal() }, "/name"},
		"description of 500":       {func(s *KeySpec) { s.Description = long(500) }, ""},
		"description of 501":       {func(s *KeySpec) { s.Description = long(501) }, "/description"},
		"description over lines":   {func(s *KeySpec) { s.Description = "a\n\tb" }, ""},
		"description with a token": {func(s *KeySpec) { s.Description = "key=" + token.Reveal() + ";" }, "/description"},
		"metadata with a token":    {func(s *KeySpec) { s.Metadata = map[string]string{"a/b": token.Reveal()} }, "/metadata/a~1b"},
		"16 metadata entries":      {func(s *KeySpec) { s.Metadata = metadata(16) }, ""},
		"17 metadata entries":      {func(s *KeySpec) { s.Metadata = metadata(17) }, "/metadata"},
		"long metadata key":        {func(s *KeySpec) { s.Metadata = map[string]string{long(41): "v"} }, "/metadata"},
		"empty metadata key":       {func(s *KeySpec) { s.Metadata = map[string]string{"": "v"} }, "/metadata"},
		"long metadata value":      {func(s *KeySpec) { s.Metadata = map[string]string{"k": long(501)} }, "/metadata/k"},
		"in the root account":      {func(s *KeySpec) { s.Account = RootAccount }, "/account"},
		"no environment":           {func(s *KeySpec) { s.Environment = "" }, "/environment"},
		"other environment":        {func(s *KeySpec) { s.Environment = "dev" }, "/environment"},
		"other type":               {func(s *KeySpec) { s.Type = "x" }, "/key_type"},
		"ordinary key with grants": {func(s *KeySpec) { s.Grants = &Grants{} }, "/grants"},
		"management key":           {management, ""},
		"management, environment":  {func(s *KeySpec) { management(s); s.Environment = EnvironmentLive }, "/environment"},
		"management, wrong grants": {func(s *KeySpec) { management(s); s.Grants = &Grants{Environments: []Environment{"dev"}} }, "/grants/environments"},
		"management, ranges":       {func(s *KeySpec) { management(s); s.AllowedIPs = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} }, "/allowed_ips"},
		"no scopes":                {func(s *KeySpec) { s.Scopes = nil }, "/scopes"},
		"33 ranges":                {func(s *KeySpec) { s.AllowedIPs = make([]netip.Prefix, 33) }, "/allowed_ips"},
		"an invalid range":         {func(s *KeySpec) { s.AllowedIPs = make([]netip.Prefix, 1) }, "/allowed_ips/0"},
		"expiry now":               {expiring(noon), "/expires_at"},
		"expiry in a microsecond":  {expiring(noon.Add(time.Microsecond)), ""},
		"expiry in the year 10000": {expiring(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)), "/expires_at"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Decide(Key{}, CreateKey{KeySpec: spec(tc.change)}, noon)
			if tc.pointer == "" {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			e, ok := err.(*Error) //nolint:errorlint // the error itself, not its chain
			if !ok || len(e.Fields) != 1 || e.Fields[0].Pointer != tc.pointer {
				t.Fatalf("error %v, want one at %s", err, tc.pointer)
			}
			if strings.Contains(err.Error(), token.Reveal()) {
				t.Error("the error echoes a token")
			}
		})
	}
}

func TestSuccessorKeepsTheKeysPowersAndLinksBack(t *testing.T) {
	old := fold([]KeyEvent{created(expiring(nextYear), func(s *KeySpec) {
		s.Metadata = map[string]string{"team": "billing"}
		s.AllowedIPs = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	})})
	events, err := Decide(Key{}, Successor(old, rotate), noon)
	if err != nil {
		t.Fatal(err)
	}
	successor := fold(events)
	want := old.KeySpec
	want.ID, want.Mac, want.Display, want.RotatedFrom = rotate.NewID, rotate.NewMac, rotate.Display, old.ID
	if !reflect.DeepEqual(successor.KeySpec, want) {
		t.Errorf("successor %+v\nwant %+v", successor.KeySpec, want)
	}
}

func TestAKeyComesToBeOnce(t *testing.T) {
	once := fold([]KeyEvent{created()})
	forged := created(func(s *KeySpec) { s.Mac, s.Scopes = Mac{9}, Scopes{FullAccess} })
	if got := Evolve(once, forged); !reflect.DeepEqual(got, once) {
		t.Errorf("a second creation changed the key to %+v", got)
	}
	if got := Evolve(Key{}, KeyRevoked{Reason: "lost", RevokedAt: noon}); got.Exists() {
		t.Errorf("a revocation made the key %+v", got)
	}
}

func TestStatusGoesByTheClock(t *testing.T) {
	for name, tc := range map[string]struct {
		given []KeyEvent
		want  Status
	}{
		"new":                      {[]KeyEvent{created()}, StatusActive},
		"expires later":            {[]KeyEvent{created(expiring(tomorrow))}, StatusActive},
		"expires now":              {[]KeyEvent{created(expiring(noon))}, StatusExpired},
		"revoked":                  {[]KeyEvent{created(), KeyRevoked{RevokedAt: noon}}, StatusRevoked},
		"revoked before expiry":    {[]KeyEvent{created(expiring(noon)), KeyRevoked{RevokedAt: noon.Add(-1)}}, StatusRevoked},
		"in its overlap":           {[]KeyEvent{created(), rotated(tomorrow)}, StatusActive},
		"at the end of overlap":    {[]KeyEvent{created(), rotated(noon)}, StatusRevoked},
		"recorded as expired":      {[]KeyEvent{created(expiring(noon)), KeyExpired{ExpiresAt: noon}}, StatusExpired},
		"recorded, clock set back": {[]KeyEvent{created(expiring(tomorrow)), KeyExpired{ExpiresAt: tomorrow}}, StatusExpired},
	} {
		t.Run(name, func(t *testing.T) {
			if got := fold(tc.given).Status(noon); got != tc.want {
				t.Errorf("status %s, want %s", got, tc.want)
			}
		})
	}
}
