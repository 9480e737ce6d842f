// Package wire is what both doors for commands share: reading what callers send,
// strictly, into the API's types, and turning those into commands and keys into what
// callers see. So a command means the same however it comes: sent again through the
// other door, it is the same command.
//
// It may import client and domain, and command for its contents. Doors call it.
package wire
