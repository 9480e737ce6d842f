package verify

// Tick ends a tick of the clock by which uses are timed, as a Reporter does.
func (v *Verifier) Tick() { v.uses.advance() }
