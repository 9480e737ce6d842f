package client

import "time"

// What can become of a command.
const (
	OutcomeDone    = "done"    // carried out
	OutcomeRefused = "refused" // understood, and refused
	OutcomeDead    = "dead"    // can never be carried out as it is
)

// CommandOutcome is what became of a command. It never holds a token.
type CommandOutcome struct {
	ID       string     `json:"id" doc:"The command's id: of the CloudEvent, or the Idempotency-Key." example:"0198c0de-5c1e-7000-8000-000000000001"`
	Command  string     `json:"command" example:"revoke_key"`
	Outcome  string     `json:"outcome" enum:"done,refused,dead" doc:"done: carried out. refused: understood, and refused. dead: it can never be carried out as it is, and is kept as a dead letter."`
	Code     string     `json:"code,omitempty" doc:"Why not, as a word for programs; the same as over HTTP. Absent when done." example:"key_revoked"`
	Message  string     `json:"message,omitempty" doc:"Why not, for people."`
	Fix      string     `json:"fix,omitempty" doc:"What to do about it."`
	KeyID    string     `json:"key_id,omitempty" doc:"The key that the command made or changed; of a rotation, the new one."`
	Seq      uint64     `json:"seq,omitempty" doc:"The sequence number of the command's last event. Reads with min_seq wait for it."`
	Producer string     `json:"producer,omitempty" doc:"The management key that sent it."`
	Replayed bool       `json:"replayed,omitempty" doc:"The command had been carried out before; this is its first outcome again."`
	Time     *time.Time `json:"time,omitempty" nullable:"false" doc:"When this was found out."`
}

// CommandReply is what a producer's inbox gets: the outcome, and of a command that
// was carried out the key. Nobody keeps it.
type CommandReply struct {
	CommandOutcome

	Key *Key `json:"key,omitempty"`
	// Token is the secret of a key that was made here, given this once.
	Token string `json:"token,omitempty"`
}

// DeadLetter is a command that can never be carried out as it is.
type DeadLetter struct {
	Seq       uint64    `json:"seq" doc:"Its place among the dead letters."`
	Time      time.Time `json:"time" doc:"When it was found out."`
	Account   string    `json:"account" doc:"The account in its subject." example:"default"`
	Producer  string    `json:"producer" doc:"The management key in its subject; _invalid where the subject is none of a command." example:"key_9bQwXr3LmZ0vTc7K"`
	Command   string    `json:"command" doc:"The command in its subject." example:"create_key"`
	ID        string    `json:"id,omitempty" doc:"Its id, as far as it has one."`
	Code      string    `json:"code" doc:"Why it is dead, as a word for programs." example:"not_a_cloudevent"`
	Message   string    `json:"message" doc:"Why it is dead, for people."`
	Fix       string    `json:"fix,omitempty" doc:"What to do about it."`
	Subject   string    `json:"subject" doc:"The subject that it was published on."`
	SentSeq   uint64    `json:"sent_seq" doc:"Its place among the commands."`
	Redacted  bool      `json:"redacted" doc:"It held what looks like a token, which was taken out: it cannot be sent again."`
	Body      string    `json:"body,omitempty" doc:"What it said. Absent in lists, and where that is not text."`
	BodyBytes int       `json:"body_bytes" doc:"How long it was."`
}

// DeadLetterPage is one page of the dead letters.
type DeadLetterPage struct {
	DeadLetters   []DeadLetter `json:"dead_letters" nullable:"false"`
	NextPageToken string       `json:"next_page_token" doc:"Send it as page_token for the next page; empty on the last."`
}

// Resent says where a dead letter was sent again.
type Resent struct {
	ID      string `json:"id,omitempty" doc:"The id of the command, whose outcome is to come."`
	Account string `json:"account" doc:"The account in its subject." example:"default"`
	Subject string `json:"subject" doc:"The subject that it was published on again."`
}
