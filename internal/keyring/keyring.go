// Package keyring keeps the secrets that live outside the log, in one file: the
// peppers that turn tokens into macs, and the secret that ids are derived with.
// Whoever has only the log has neither.
//
// It may import domain. The serve command and doctor call it; the packages that
// need a pepper are given it.
package keyring

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/keyledger/keyledger/domain"
)

const (
	fileVersion  = 1
	fileMode     = 0o600
	idSecretSize = 32
)

// Keyring is the content of the file. It prints as its pepper ids only.
type Keyring struct {
	primary  domain.Pepper
	peppers  []domain.Pepper
	idSecret []byte
}

// file is the keyring's JSON. Byte slices are base64.
type file struct {
	Version  int          `json:"version"`
	Primary  string       `json:"primary"`
	Peppers  []filePepper `json:"peppers"`
	IDSecret []byte       `json:"id_secret"`
}

type filePepper struct {
	ID  string `json:"id"`
	Key []byte `json:"key"`
}

// Primary returns the pepper of new keys.
func (k *Keyring) Primary() domain.Pepper { return k.primary }

// Peppers returns every pepper, the primary first.
func (k *Keyring) Peppers() []domain.Pepper { return slices.Clone(k.peppers) }

// IDSecret returns the secret that ids and command hashes are derived with.
func (k *Keyring) IDSecret() []byte { return slices.Clone(k.idSecret) }

// String names the peppers and hides everything else.
func (k *Keyring) String() string { return fmt.Sprintf("keyring of %v", k.peppers) }

// GoString hides the secrets from %#v.
func (k *Keyring) GoString() string { return k.String() }

// Load reads a keyring. The error is fs.ErrNotExist if there is no file; a file
// that others can read is refused.
func Load(path string) (*Keyring, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open keyring: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open keyring: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("the keyring %s can be read by others (mode %04o): run chmod 600 on it, and consider its secrets known", path, mode)
	}
	decoder := json.NewDecoder(f)
	decoder.DisallowUnknownFields()
	var content file
	if err := decoder.Decode(&content); err != nil {
		return nil, fmt.Errorf("the keyring %s cannot be read as JSON (%s): restore it from your backup", path, jsonFault(err))
	}
	k, err := content.keyring()
	if err != nil {
		return nil, fmt.Errorf("the keyring %s: %w", path, err)
	}
	return k, nil
}

// jsonFault describes a decoding error without quoting the file's content.
func jsonFault(err error) string {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Sprintf("syntax error at byte %d", syntax.Offset)
	}
	return "unexpected content"
}

// Create makes a keyring with one pepper and stores it durably with mode 0600. It
// fails with fs.ErrExist rather than replace a file.
func Create(path string, entropy io.Reader) (*Keyring, error) {
	content := file{Version: fileVersion, IDSecret: make([]byte, idSecretSize)}
	pepper := filePepper{Key: make([]byte, domain.PepperSize)}
	suffix, err := domain.RandomBase62(entropy, 8)
	if err != nil {
		return nil, fmt.Errorf("make keyring: %w", err)
	}
	pepper.ID = "pepper_" + suffix
	for _, secret := range [][]byte{pepper.Key, content.IDSecret} {
		if _, err := io.ReadFull(entropy, secret); err != nil {
			return nil, fmt.Errorf("make keyring: %w", err)
		}
	}
	content.Primary, content.Peppers = pepper.ID, []filePepper{pepper}
	k, err := content.keyring()
	if err != nil {
		return nil, fmt.Errorf("make keyring: %w", err)
	}
	body, err := json.MarshalIndent(content, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("make keyring: %w", err)
	}
	if err := WriteSecretFile(path, append(body, '\n')); err != nil {
		return nil, fmt.Errorf("store keyring: %w", err)
	}
	return k, nil
}

// WriteSecretFile writes a new file with mode 0600 so that it is there, whole, or
// not at all: it is written and synced under another name, then linked to its own,
// which fails with fs.ErrExist if there is one.
func WriteSecretFile(path string, body []byte) error {
	dir := filepath.Dir(path)
	temp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(temp.Name()) //nolint:errcheck // the name is gone or will be overlooked
	if _, err = temp.Write(body); err == nil {
		err = temp.Sync()
	}
	if err = errors.Join(err, temp.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Link(temp.Name(), path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("write %s: %w", path, fs.ErrExist)
		}
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

func (c file) keyring() (*Keyring, error) {
	if c.Version != fileVersion {
		return nil, fmt.Errorf("version %d is not %d: it was written by another release", c.Version, fileVersion)
	}
	if len(c.IDSecret) < idSecretSize {
		return nil, fmt.Errorf("the id secret has %d bytes, want %d", len(c.IDSecret), idSecretSize)
	}
	k := &Keyring{idSecret: c.IDSecret}
	seen := map[string]bool{}
	for _, p := range c.Peppers {
		pepper, err := domain.NewPepper(p.ID, p.Key)
		if err != nil {
			return nil, err
		}
		if seen[p.ID] {
			return nil, fmt.Errorf("the pepper %s stands there twice", p.ID)
		}
		seen[p.ID] = true
		if p.ID == c.Primary {
			k.primary = pepper
			k.peppers = slices.Insert(k.peppers, 0, pepper)
		} else {
			k.peppers = append(k.peppers, pepper)
		}
	}
	if k.primary.ID() == "" {
		return nil, fmt.Errorf("the primary pepper %q is not among the peppers", c.Primary)
	}
	return k, nil
}
