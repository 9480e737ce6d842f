package access

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/keyledger/keyledger/eventstore"
)

// Secrets are the seeds of the nkeys that nodes have on NATS. All nodes on one
// server or cluster share them. They print as nothing.
type Secrets struct {
	node, clients, system nkeys.KeyPair // users, one for each account
	issuer                nkeys.KeyPair // signs the permissions of who connects
	xkey                  nkeys.KeyPair // opens what the server asks: a password is in it
}

// Public is the public half of [Secrets], as a server's configuration names it.
type Public struct {
	Node, Clients, System string // user nkeys
	Issuer                string // an account nkey
	XKey                  string // a curve nkey
}

// secretsFile is the JSON of a file of secrets.
type secretsFile struct {
	Version int    `json:"version"`
	Node    string `json:"node"`
	Clients string `json:"clients"`
	System  string `json:"system"`
	Issuer  string `json:"issuer"`
	XKey    string `json:"xkey"`
}

const secretsVersion = 1

// NewSecrets makes new ones, from crypto/rand.
func NewSecrets() (*Secrets, error) {
	s := &Secrets{}
	for _, part := range s.parts() {
		pair, err := nkeys.CreatePair(part.prefix)
		if err != nil {
			return nil, fmt.Errorf("make the secrets for NATS: %w", err)
		}
		*part.pair = pair
	}
	return s, nil
}

// part is one of the seeds: where it is kept and of which kind it must be.
type part struct {
	name   string
	pair   *nkeys.KeyPair
	prefix nkeys.PrefixByte
}

func (s *Secrets) parts() []part {
	return []part{
		{"node", &s.node, nkeys.PrefixByteUser},
		{"clients", &s.clients, nkeys.PrefixByteUser},
		{"system", &s.system, nkeys.PrefixByteUser},
		{"issuer", &s.issuer, nkeys.PrefixByteAccount},
		{"xkey", &s.xkey, nkeys.PrefixByteCurve},
	}
}

// LoadSecrets reads a file of secrets. One that others can read is refused.
func LoadSecrets(path string) (*Secrets, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open the secrets for NATS: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("the secrets for NATS in %s can be read by others (mode %04o): run chmod 600 on the file, and consider making new ones", path, mode)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("open the secrets for NATS: %w", err)
	}
	var file secretsFile
	if err := json.Unmarshal(text, &file); err != nil || file.Version != secretsVersion {
		return nil, fmt.Errorf("the secrets for NATS in %s cannot be read: give the file that was made with the server's configuration", path)
	}
	s := &Secrets{}
	seeds := map[string]string{"node": file.Node, "clients": file.Clients, "system": file.System, "issuer": file.Issuer, "xkey": file.XKey}
	for _, part := range s.parts() {
		if *part.pair, err = pairOf(seeds[part.name], part.prefix); err != nil {
			return nil, fmt.Errorf("the secrets for NATS in %s: %s: %w", path, part.name, err)
		}
	}
	return s, nil
}

// pairOf reads a seed. The library's errors are not handed on: they might repeat it.
func pairOf(seed string, prefix nkeys.PrefixByte) (nkeys.KeyPair, error) {
	got, _, err := nkeys.DecodeSeed([]byte(seed))
	if err != nil || got != prefix {
		return nil, errors.New("not a seed of its kind")
	}
	if prefix == nkeys.PrefixByteCurve {
		return nkeys.FromCurveSeed([]byte(seed))
	}
	return nkeys.FromSeed([]byte(seed))
}

// File returns the content of a file of secrets, for [LoadSecrets].
func (s *Secrets) File() ([]byte, error) {
	seeds := map[string]string{}
	for _, part := range s.parts() {
		seed, err := (*part.pair).Seed()
		if err != nil {
			return nil, fmt.Errorf("write the secrets for NATS: %s: %w", part.name, err)
		}
		seeds[part.name] = string(seed)
	}
	text, err := json.MarshalIndent(secretsFile{
		Version: secretsVersion, Node: seeds["node"], Clients: seeds["clients"], System: seeds["system"], Issuer: seeds["issuer"], XKey: seeds["xkey"],
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the secrets for NATS: %w", err)
	}
	return append(text, '\n'), nil
}

// Public returns the public half.
func (s *Secrets) Public() (Public, error) {
	keys := map[string]string{}
	for _, part := range s.parts() {
		key, err := (*part.pair).PublicKey()
		if err != nil {
			return Public{}, fmt.Errorf("the public half of the secrets for NATS: %s: %w", part.name, err)
		}
		keys[part.name] = key
	}
	return Public{Node: keys["node"], Clients: keys["clients"], System: keys["system"], Issuer: keys["issuer"], XKey: keys["xkey"]}, nil
}

// Options returns what a node connects with to be in an account, which is one of
// the three of this package.
func (s *Secrets) Options(account string) ([]nats.Option, error) {
	user, pair := "_node", s.node
	switch account {
	case AccountLog:
	case AccountClients:
		pair = s.clients
	case AccountSystem:
		user, pair = systemUser, s.system
	default:
		return nil, fmt.Errorf("nodes have nothing to do in the account %q", account)
	}
	public, err := pair.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("the nkey of a node: %w", err)
	}
	return []nats.Option{nats.Nkey(public, pair.Sign), nats.CustomInboxPrefix(eventstore.InboxPrefix(user))}, nil
}

// String hides everything.
func (s *Secrets) String() string { return "secrets for NATS" }

// GoString hides everything from %#v.
func (s *Secrets) GoString() string { return s.String() }
