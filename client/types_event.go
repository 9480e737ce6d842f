package client

import "encoding/json"

// EventRecord is one event of the log. Event holds the stored bytes, a CloudEvents
// 1.0 JSON object; they are what exports, hashes and proofs are made of, so they
// must not be marshalled again before they are compared.
//
// The server writes records by concatenation, on one line each:
// {"seq":…,"subject":…,"event":<the stored bytes>}.
type EventRecord struct {
	Seq     uint64          `json:"seq" doc:"The place in the one total order, without gaps."`
	Subject string          `json:"subject" example:"keyledger.events.default.key.key_4fJq0Zr8kLw2TnXb"`
	Event   json.RawMessage `json:"event"`
}

// EventPage is one page of history, oldest first.
type EventPage struct {
	Events        []EventRecord `json:"events" nullable:"false"`
	NextPageToken string        `json:"next_page_token" doc:"Send it as page_token for the next page; empty at the end of the log."`
}
