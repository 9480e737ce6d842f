// Package access decides who may do what on NATS: producers, verifiers and
// auditors connect with their management keys, and nodes with nkeys of their own.
// It holds the permissions of an authority ([For]), the accounts that keep clients
// apart from the log ([Public.ServerConfig]), the answers to the server's auth
// callout and the ending of connections whose key has ended ([Door]).
//
// It may import domain, eventstore, and the libraries of NATS but not its server.
// Called by cmd, by eventstore/embedded and by tests.
package access
