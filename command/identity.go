package command

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

const minIDSecret = 32

// maxCommandID is the longest idempotency key that is kept, in bytes.
const maxCommandID = 255

// identity is what makes two requests the same command.
type identity struct {
	name  domain.CommandName
	actor domain.ActorID
	id    string
	hash  string
}

// first returns the events of the history that this command led to, with
// everything before them, or nothing if it was not carried out. Another command
// under the same id is a conflict.
func (i identity) first(history eventstore.History) (upTo []eventstore.Event, err error) {
	last := -1
	for n, e := range history.Events {
		if e.Command == i.name && e.Actor == i.actor && e.CommandID == i.id {
			if e.CommandHash != i.hash {
				return nil, domain.NewError(domain.KindConflict, domain.CodeIdempotencyConflict,
					"this idempotency key was used for a command with other content",
					"use a new idempotency key for every new command, and the same one only for exact repeats")
			}
			last = n
		}
	}
	return history.Events[:last+1], nil
}

// identities derives ids and hashes. Both are keyed, so that the log tells its
// readers nothing about ids to come and lets nobody test guesses of what a command held.
type identities struct{ secret []byte }

// keyID derives the id of the key that a command creates: the same command always
// means the same key, which is how a repeat finds it.
func (d identities) keyID(account domain.AccountID, i identity, of domain.KeyID) (domain.KeyID, error) {
	stream := &macStream{mac: hmac.New(sha256.New, d.secret)}
	for _, part := range []string{"key-id", string(account), string(i.actor), string(i.name), i.id, string(of)} {
		stream.seed = binary.AppendUvarint(stream.seed, uint64(len(part)))
		stream.seed = append(stream.seed, part...)
	}
	id, err := domain.RandomBase62(stream, 16)
	if err != nil {
		return "", fmt.Errorf("derive key id: %w", err)
	}
	return domain.NewKeyID(id), nil
}

// hash returns the keyed hash of a command's content.
func (d identities) hash(name domain.CommandName, account domain.AccountID, content any) (string, error) {
	body, err := json.Marshal(struct {
		Command domain.CommandName `json:"command"`
		Account domain.AccountID   `json:"account"`
		Content any                `json:"content"`
	}{name, account, content})
	if err != nil {
		return "", fmt.Errorf("hash command: %w", err)
	}
	mac := hmac.New(sha256.New, d.secret)
	mac.Write([]byte("command-hash"))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil)), nil
}

// macStream is an endless stream of pseudo-random bytes: HMAC(secret, seed || n)
// for n = 0, 1, 2…
type macStream struct {
	mac  hash.Hash
	seed []byte
	n    uint64
	rest []byte
}

// Read fills p.
func (s *macStream) Read(p []byte) (int, error) {
	for read := 0; read < len(p); {
		if len(s.rest) == 0 {
			s.mac.Reset()
			s.mac.Write(s.seed)
			s.mac.Write(binary.BigEndian.AppendUint64(nil, s.n))
			s.rest = s.mac.Sum(nil)
			s.n++
		}
		n := copy(p[read:], s.rest)
		s.rest = s.rest[n:]
		read += n
	}
	return len(p), nil
}

// ValidID reports whether an id of a command can be kept as it is.
func ValidID(id string) bool {
	ok := id != "" && len(id) <= maxCommandID
	for n := range len(id) {
		ok = ok && id[n] > ' ' && id[n] <= '~'
	}
	return ok && !domain.ContainsToken(id)
}

// checkCommandID refuses ids that cannot be kept as they are.
func checkCommandID(id string) error {
	if ValidID(id) {
		return nil
	}
	return domain.NewError(domain.KindInvalid, "invalid_idempotency_key", "the idempotency key cannot be used",
		"use 1 to 255 visible ASCII characters, for example a UUID; never an API key")
}
