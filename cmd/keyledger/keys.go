package main

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/keyledger/keyledger/client"
)

type keysCommand struct {
	Create  keysCreate  `cmd:"" help:"Create a key. Its token is shown once."`
	List    keysList    `cmd:"" help:"List keys."`
	Show    keysShow    `cmd:"" help:"Show one key."`
	History keysHistory `cmd:"" help:"Show what happened to a key."`
	Usage   keysUsage   `cmd:"" help:"Show how often a key was used."`
	Update  keysUpdate  `cmd:"" help:"Change a key."`
	Rotate  keysRotate  `cmd:"" help:"Put a new key in a key's place."`
	Revoke  keysRevoke  `cmd:"" help:"End a key for good."`
}

// changeFlags holds the flags of everything that changes a key.
type changeFlags struct {
	connection
	IdempotencyKey string `placeholder:"ID" help:"Name of this command: given again, it is not done again."`
}

func (c changeFlags) options() []client.CallOption {
	if c.IdempotencyKey == "" {
		return nil
	}
	return []client.CallOption{client.WithIdempotencyKey(c.IdempotencyKey)}
}

// expiry holds the flags about a key's end.
type expiry struct {
	ExpiresOn *string    `xor:"expiry" placeholder:"DATE" help:"Expire at midnight UTC at the beginning of this day (2006-01-02)."`
	ExpiresAt *time.Time `xor:"expiry" placeholder:"TIME" help:"Expire at this instant (RFC 3339)."`
}

type keysCreate struct {
	Name        string            `required:"" placeholder:"TEXT" help:"What the key is for, for example \"Production Server\"."`
	Environment string            `placeholder:"live|test" help:"live or test."`
	Scopes      []string          `xor:"scopes" placeholder:"SCOPE" help:"What the key may do, separated by commas; resource:* for all of a resource."`
	FullAccess  bool              `xor:"scopes" help:"Everything in the catalogue, whatever it grows to."`
	Description string            `placeholder:"TEXT" help:"More about it."`
	Metadata    map[string]string `placeholder:"NAME=VALUE" mapsep:"none" help:"Your own data; repeat for more."`
	AllowedIPs  []string          `name:"allowed-ips" placeholder:"CIDR" help:"Address ranges the key works from, separated by commas. Default: from anywhere."`
	Account     string            `placeholder:"ID" help:"Account that owns the key; only instance keys may name one."`
	TokenSHA256 string            `name:"token-sha256" placeholder:"HEX" help:"SHA-256 of a token that you made yourself, in hex; not for management keys."`
	expiry

	Management        bool     `help:"Create a management key: a key of keyledger itself."`
	GrantEnvironments []string `placeholder:"live,test" help:"With --management: environments of the keys it may make."`
	GrantScopes       []string `placeholder:"SCOPE" help:"With --management: scopes it may give to the keys it makes."`
	changeFlags
}

func (keysCreate) Help() string {
	return `The token goes to standard output, alone on its line; everything else about the key goes to standard error. So this keeps it in a variable:

    KEY=$(keyledger keys create --name "POS Integration" --environment test --scopes invoices:read,payouts:read)

More examples:

    keyledger keys create --name "Production Server" --environment live --full-access --expires-on 2030-01-01
    keyledger keys create --management --name billing --account acme --scopes keyledger.keys:read,keyledger.keys:write --grant-environments live --grant-scopes 'invoices:*'

Scopes are listed by GET /v1/scopes.`
}

func (c keysCreate) Run(a *app) error {
	cl, err := c.client(a)
	if err != nil {
		return err
	}
	out, err := c.create(a, cl)
	if err != nil {
		return err
	}
	return a.printNewKey(c.outputFlag, newKey{Outcome: out, done: "Created", management: c.Management, ownToken: c.TokenSHA256 != ""})
}

func (c keysCreate) create(a *app, cl *client.Client) (client.Outcome, error) {
	if !c.Management {
		if len(c.GrantEnvironments)+len(c.GrantScopes) > 0 {
			return client.Outcome{}, usagef("add --management, or leave them out", "only management keys have grants")
		}
		if c.Environment == "" {
			return client.Outcome{}, usagef("add --environment live or --environment test", "a key belongs to an environment")
		}
		return cl.CreateKey(a.ctx, client.CreateKeyRequest{
			Name: c.Name, Environment: c.Environment, Scopes: c.Scopes, FullAccess: c.FullAccess,
			ExpiresOn: c.ExpiresOn, ExpiresAt: c.ExpiresAt, Description: c.Description, Metadata: c.Metadata,
			AllowedIPs: c.AllowedIPs, Account: c.Account, TokenSHA256: c.TokenSHA256,
		}, c.options()...)
	}
	if c.Environment != "" || c.FullAccess || len(c.Metadata)+len(c.AllowedIPs) > 0 {
		return client.Outcome{}, usagef("leave them out", "a management key has no environment, full access, metadata or address ranges")
	}
	if c.TokenSHA256 != "" {
		return client.Outcome{}, usagef("leave --token-sha256 out", "the token of a management key is made by the server and no other")
	}
	req := client.CreateManagementKeyRequest{
		Name: c.Name, Description: c.Description, Account: c.Account, Scopes: c.Scopes, ExpiresOn: c.ExpiresOn, ExpiresAt: c.ExpiresAt,
	}
	if len(c.GrantEnvironments)+len(c.GrantScopes) > 0 {
		req.Grants = &client.Grants{Environments: c.GrantEnvironments, Scopes: c.GrantScopes}
	}
	return cl.CreateManagementKey(a.ctx, req, c.options()...)
}

type keysUpdate struct {
	ID           string            `arg:"" help:"The key's id, key_…"`
	Name         *string           `placeholder:"TEXT" help:"New name."`
	Description  *string           `placeholder:"TEXT" help:"New description; \"\" for none."`
	Scopes       []string          `xor:"scopes" placeholder:"SCOPE" help:"The scopes from now on, separated by commas."`
	FullAccess   bool              `xor:"scopes" help:"Everything in the catalogue from now on."`
	Metadata     map[string]string `xor:"metadata" placeholder:"NAME=VALUE" mapsep:"none" help:"The metadata from now on; repeat for more."`
	NoMetadata   bool              `xor:"metadata" help:"No metadata from now on."`
	AllowedIPs   []string          `name:"allowed-ips" xor:"ips" placeholder:"CIDR" help:"The address ranges from now on, separated by commas."`
	FromAnywhere bool              `xor:"ips" help:"No address ranges from now on."`
	NeverExpires bool              `xor:"expiry" help:"No expiry from now on."`
	OnlyIfSeq    *uint64           `placeholder:"SEQ" help:"Only if this is still the key's last seq (keys show)."`
	expiry
	changeFlags
}

func (keysUpdate) Help() string {
	return `What is not given stays as it is. Lists and metadata are replaced as a whole.

Examples:

    keyledger keys update key_4fJq0Zr8kLw2TnXb --name "POS Integration, Berlin"
    keyledger keys update key_4fJq0Zr8kLw2TnXb --scopes invoices:read,clients:read --never-expires`
}

func (c keysUpdate) Run(a *app) error {
	req := c.request()
	if req == (client.UpdateKeyRequest{}) {
		return usagef("run keyledger keys update --help to see what can change", "no change was given")
	}
	cl, err := c.client(a)
	if err != nil {
		return err
	}
	opts := c.options()
	if c.OnlyIfSeq != nil {
		opts = append(opts, client.WithIfMatch(*c.OnlyIfSeq))
	}
	out, err := cl.UpdateKey(a.ctx, c.ID, req, opts...)
	if err != nil {
		return err
	}
	if a.machine(c.outputFlag) {
		return a.printJSON(out)
	}
	a.printf("Updated %s (%s), seq %d.\n", clean(out.Key.ID), clean(out.Key.Name), out.Seq)
	return nil
}

func (c keysUpdate) request() client.UpdateKeyRequest {
	req := client.UpdateKeyRequest{Name: c.Name, Description: c.Description}
	if len(c.Scopes) > 0 {
		req.Scopes = &c.Scopes
	}
	if c.FullAccess {
		req.FullAccess = &c.FullAccess
	}
	if len(c.Metadata) > 0 || c.NoMetadata {
		metadata := maps.Clone(c.Metadata)
		if metadata == nil {
			metadata = map[string]string{} // null would leave it as it is
		}
		req.Metadata = &metadata
	}
	if len(c.AllowedIPs) > 0 || c.FromAnywhere {
		ranges := append([]string{}, c.AllowedIPs...)
		req.AllowedIPs = &ranges
	}
	switch {
	case c.NeverExpires:
		req.ExpiresAt = client.Null[time.Time]()
	case c.ExpiresOn != nil:
		req.ExpiresOn = client.Some(*c.ExpiresOn)
	case c.ExpiresAt != nil:
		req.ExpiresAt = client.Some(*c.ExpiresAt)
	}
	return req
}

type keysRotate struct {
	ID          string        `arg:"" help:"The key's id, key_…"`
	Overlap     time.Duration `placeholder:"DURATION" help:"How long the old key goes on working, for example 24h. Default: it is refused at once."`
	TokenSHA256 string        `name:"token-sha256" placeholder:"HEX" help:"SHA-256 of a token that you made yourself, in hex."`
	Yes         bool          `short:"y" help:"Do not ask."`
	changeFlags
}

func (keysRotate) Help() string {
	return `The new key has the old one's name, environment, scopes, restrictions and expiry. Its token goes to standard output, alone on its line.

Examples:

    keyledger keys rotate key_4fJq0Zr8kLw2TnXb --overlap 24h
    keyledger keys rotate key_4fJq0Zr8kLw2TnXb --yes`
}

func (c keysRotate) Run(a *app) error {
	if c.Overlap < 0 {
		return usagef("give how long the old key goes on working, for example 24h", "an overlap cannot be negative")
	}
	cl, err := c.client(a)
	if err != nil {
		return err
	}
	if err := a.confirm(c.Yes || c.Overlap > 0, c.question(a, cl)); err != nil {
		return err
	}
	req := client.RotateKeyRequest{TokenSHA256: c.TokenSHA256}
	if c.Overlap > 0 {
		req.Overlap = c.Overlap.String()
	}
	out, err := cl.RotateKey(a.ctx, c.ID, req, c.options()...)
	if err != nil {
		return err
	}
	return a.printNewKey(c.outputFlag, newKey{Outcome: out, done: "Rotated " + c.ID + " into", ownToken: c.TokenSHA256 != ""})
}

func (c keysRotate) question(a *app, cl *client.Client) func() (string, error) {
	return func() (string, error) {
		key, err := cl.Key(a.ctx, c.ID)
		return fmt.Sprintf("Rotate %s? The old key is refused at once; --overlap 24h would let both work for a day.", describe(key)), err
	}
}

type keysRevoke struct {
	ID         string `arg:"" help:"The key's id, key_…"`
	Reason     string `placeholder:"TEXT" help:"Why; it is kept in the history."`
	Management bool   `help:"It is a management key."`
	Yes        bool   `short:"y" help:"Do not ask."`
	changeFlags
}

func (keysRevoke) Help() string {
	return `A revoked key is refused from the moment this returns, and for good.

Examples:

    keyledger keys revoke key_4fJq0Zr8kLw2TnXb --reason "laptop lost"
    keyledger keys revoke key_4fJq0Zr8kLw2TnXb --yes --output json`
}

func (c keysRevoke) Run(a *app) error {
	cl, err := c.client(a)
	if err != nil {
		return err
	}
	err = a.confirm(c.Yes, func() (string, error) {
		key, err := getKey(a, cl, c.Management, c.ID)
		return fmt.Sprintf("Revoke %s? It is refused at once and for good.", describe(key)), err
	})
	if err != nil {
		return err
	}
	revoke := cl.RevokeKey
	if c.Management {
		revoke = cl.RevokeManagementKey
	}
	out, err := revoke(a.ctx, c.ID, client.RevokeKeyRequest{Reason: c.Reason}, c.options()...)
	if err != nil {
		return err
	}
	if a.machine(c.outputFlag) {
		return a.printJSON(out)
	}
	a.printf("Revoked %s (%s), seq %d.\n", clean(out.Key.ID), clean(out.Key.Name), out.Seq)
	return nil
}

// describe names a key in a question.
func describe(k client.Key) string {
	parts := []string{k.ID}
	if k.Environment != "" {
		parts = append(parts, k.Environment)
	}
	return clean(fmt.Sprintf("%q (%s)", k.Name, strings.Join(parts, ", ")))
}
