package client

import "time"

// KeyUsage is how often a key was used.
type KeyUsage struct {
	KeyID string `json:"key_id" example:"key_4fJq0Zr8kLw2TnXb"`
	From  string `json:"from" format:"date" doc:"The first day of the answer, UTC."`
	To    string `json:"to" format:"date" doc:"The last day of the answer, included."`
	// Days are those on which the key was used, oldest first.
	Days       []DayUsage `json:"days" nullable:"false" doc:"The days on which the key was used, oldest first. Days without use are left out."`
	Total      uint64     `json:"total" doc:"How often the key was used on these days."`
	LastUsedAt *time.Time `json:"last_used_at" doc:"When the key was last used, on whatever day; null: not known."`
}

// DayUsage is how often a key was used on a day.
type DayUsage struct {
	Day   string `json:"day" format:"date" doc:"The day, UTC." example:"2030-01-15"`
	Count uint64 `json:"count" doc:"How many checks of the key were answered VALID."`
}
