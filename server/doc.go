// Package server is the HTTP door of keyledger: the API under /v1, its OpenAPI
// document and documentation page, and the endpoints that operators watch.
//
// A request goes this way:
//
//	net/http -> Server.ServeHTTP     request id, panics, the access log line, metrics
//	         -> guard                query, credential, scope: see admit
//	         -> strict body          size, media type, depth, unknown and repeated members
//	         -> huma                 parameters and body into Go types
//	         -> the route's handler  one function per route: read the request, call
//	                                 the floor below, write the answer
//
// Some are plain handlers behind the same guard: POST /v1/verify for speed, the event
// routes because stored events must leave byte for byte, the audit log and the jobs on
// the tables because their answers are streams.
//
// The door decides nothing about keys. What a caller may do, what a key may hold
// and what is refused is said by domain and command; this package translates: HTTP
// into commands and queries, and errors into problems (RFC 9457) by the one table
// in problem.go.
//
// It may import domain, eventstore, command, projections, verify and client, and
// asks for what it needs by the interfaces in needs.go. cmd starts it.
package server
