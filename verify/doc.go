// Package verify answers "may this key do this?" in process: an in-memory table of
// all keys, fed by the log, that needs no database and no network for an answer.
//
// Doors call [Verifier.Verify] for customers' keys and [Verifier.Authenticate] for
// management keys; whoever starts a node runs [Verifier.Run]; whoever has written
// waits with [Verifier.WaitFor] until the table shows it. An answer is a [Code];
// [Explain] says what doors make of it. [Judge] is the same check of a key of the past.
//
// A check costs one SHA-256 of the token, one HMAC for each pepper that keys use
// (normally one), and one look into a hash table. It allocates nothing and waits only for
// the assignment of single entries by the feed.
//
// Every check that a key passes is counted: [Verifier.TakeUses] says which keys were
// used, how often and when, and a [Reporter] sends that on each minute.
//
// A verifier that cannot know fails closed: before it has read the log to its end,
// and after its feed has ended, nothing is valid.
//
// The package may import domain and eventstore (for what it is fed with), never
// command, projections or a door.
package verify
