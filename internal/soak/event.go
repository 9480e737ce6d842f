package soak

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/keyledger/keyledger/domain"
)

// Ref names a command: who sent it, what it was, and under which id.
type Ref struct {
	Actor   domain.ActorID
	Command domain.CommandName
	ID      string
}

// Event is one event of the log, as far as the judge looks at it.
type Event struct {
	Seq       uint64
	Ref       Ref
	RequestID string
	Account   domain.AccountID
	Key       domain.KeyID
	Type      domain.EventType
	Time      time.Time
	Data      domain.KeyEvent
	Sum       [sha256.Size]byte // of the stored bytes
}

// Decode reads the stored bytes of the event at seq.
func Decode(seq uint64, raw []byte) (Event, error) {
	var stored struct {
		Type      domain.EventType   `json:"type"`
		Subject   domain.KeyID       `json:"subject"`
		Time      time.Time          `json:"time"`
		Account   domain.AccountID   `json:"account"`
		Actor     domain.ActorID     `json:"actor"`
		Command   domain.CommandName `json:"command"`
		CommandID string             `json:"commandid"`
		RequestID string             `json:"requestid"`
		Data      json.RawMessage    `json:"data"`
	}
	if err := json.Unmarshal(raw, &stored); err != nil {
		return Event{}, fmt.Errorf("event %d: %w", seq, err)
	}
	data, err := decodeData(stored.Type, stored.Data)
	if err != nil {
		return Event{}, fmt.Errorf("event %d: %s: %w", seq, stored.Type, err)
	}
	return Event{
		Seq: seq, Ref: Ref{stored.Actor, stored.Command, stored.CommandID}, RequestID: stored.RequestID,
		Account: stored.Account, Key: stored.Subject, Type: stored.Type, Time: stored.Time, Data: data,
		Sum: sha256.Sum256(raw),
	}, nil
}

// decodeData knows the events that commands lead to; nothing else belongs into a
// log that only commands were sent to.
func decodeData(t domain.EventType, raw []byte) (domain.KeyEvent, error) {
	switch t {
	case domain.TypeKeyCreated:
		return payload[domain.KeyCreated](raw)
	case domain.TypeKeyUpdated:
		return payload[domain.KeyUpdated](raw)
	case domain.TypeKeyRotated:
		return payload[domain.KeyRotated](raw)
	case domain.TypeKeyRevoked:
		return payload[domain.KeyRevoked](raw)
	default:
		return nil, fmt.Errorf("nobody asked for an event of this type")
	}
}

func payload[E domain.KeyEvent](raw []byte) (domain.KeyEvent, error) {
	var e E
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, err
	}
	return e, nil
}
