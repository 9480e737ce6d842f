package main

import (
	"errors"
	"net"
	"net/netip"
	"os"
)

// reachable returns the address at which a listener can be reached from this
// machine: one that listens everywhere listens on loopback too.
func reachable(addr net.Addr) string {
	port, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return addr.String()
	}
	if ip := port.Addr().Unmap(); ip.IsUnspecified() {
		port = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port.Port())
	}
	return port.String()
}

// unwrapListen drops what net repeats of the address: "listen tcp …: bind: ".
func unwrapListen(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	if call, ok := errors.AsType[*os.SyscallError](err); ok {
		err = call.Err
	}
	return err
}
