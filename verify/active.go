package verify

import "github.com/keyledger/keyledger/domain"

// Active returns what the bearer of a management key may do now; false if the key
// is not good now, by the clock, or the table is not fresh. It is for what goes on
// after [Verifier.Authenticate] has let somebody in. It may wait for the feed to
// finish a run of events.
func (v *Verifier) Active(id domain.KeyID) (domain.Authority, bool) {
	rec, ok := v.copyOf(id)
	if !ok || rec.typ != typeManagement || !v.fresh() {
		return domain.Authority{}, false
	}
	if code, _ := rec.judge(&Requirement{}, v.catalogue, v.now); code != CodeValid {
		return domain.Authority{}, false
	}
	v.authMu.RLock()
	defer v.authMu.RUnlock()
	return v.authorities[id], true
}

func (v *Verifier) copyOf(id domain.KeyID) (record, bool) {
	v.feedMu.Lock()
	defer v.feedMu.Unlock()
	rec := v.record(id)
	if rec == nil {
		return record{}, false
	}
	return *rec, true
}
