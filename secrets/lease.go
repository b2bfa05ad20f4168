package secrets

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// lease is how long values live. Its fields are locked with the client.
type lease struct {
	id        string // "": can be neither looked up nor renewed
	began     time.Time
	expires   time.Time
	ttl       time.Duration // as it was given first
	renewable bool
	session   *session // it ends with this one's token
}

// care is what a lease needs.
type care int

const (
	careNone  care = iota
	careRenew      // more than half is gone
	careRead       // it can't be renewed, and two thirds are gone
	careLost       // it ended
)

// needs says what to do about a lease, given when its session ends, if it does.
func (l *lease) needs(now, sessionEnds time.Time) care {
	end := l.expires
	renewable := l.renewable
	if !sessionEnds.IsZero() {
		renewable = false // no lease outlives its token
		if sessionEnds.Before(end) {
			end = sessionEnds
		}
	}
	gone, whole := now.Sub(l.began), end.Sub(l.began)
	switch {
	case !now.Before(end):
		return careLost
	case renewable && gone > whole/2:
		return careRenew
	case !renewable && gone > whole*2/3:
		return careRead
	}
	return careNone
}

func (b *Bao) leaseNeeds(l *lease) care {
	if !l.session.alive(b.now()) {
		return careLost
	}
	ends := l.session.lasting()
	b.mu.Lock()
	defer b.mu.Unlock()
	return l.needs(b.now(), ends)
}

// lives is true while a lease has not ended. The client is locked.
func (b *Bao) lives(l *lease) bool {
	return l.session.alive(b.now()) && l.needs(b.now(), l.session.lasting()) != careLost
}

// leaseOf is the lease of an answer: OpenBao's, or for a certificate without one
// its own end. nil: the values don't end.
func (b *Bao) leaseOf(got *answer, s *session, certificate bool) *lease {
	now := b.now()
	l := &lease{id: got.LeaseID, began: now, ttl: time.Duration(got.LeaseDuration) * time.Second, renewable: got.Renewable, session: s}
	if l.id == "" {
		var expiration int64
		if !certificate || json.Unmarshal(got.Data["expiration"], &expiration) != nil || expiration <= 0 {
			return nil
		}
		l.ttl, l.session = time.Unix(expiration, 0).Sub(now), unending
	}
	l.expires = now.Add(l.ttl)
	return l
}

// unending is the session of what needs none: nobody takes a certificate back
// because a token has ended.
var unending = &session{}

// asks is true where tend, with look, asks OpenBao.
func (b *Bao) asks(l *lease) bool {
	needs := b.leaseNeeds(l)
	return needs == careRenew || needs == careNone && l.id != ""
}

// tend does what a lease needs, and says why it is good no longer; "": it is. With
// look it is looked up in any case. What was revoked is dropped.
func (b *Bao) tend(ctx context.Context, k *kept, look bool) (over string, err error) {
	needs := b.leaseNeeds(k.lease)
	switch {
	case needs == careRenew:
		over, err = b.renewLease(ctx, k.lease)
	case look && needs == careNone && k.lease.id != "":
		over, err = b.lookUpLease(ctx, k.lease)
	}
	if over != "" {
		b.drop(k)
	}
	if over != "" || err != nil {
		return over, err
	}
	switch b.leaseNeeds(k.lease) {
	case careLost:
		return "its lease has ended", nil
	case careRead:
		return "its lease is nearly over, and can't be renewed", nil
	}
	return "", nil
}

// renewLease renews. Where that is refused, the lease may be lost, or at its longest.
func (b *Bao) renewLease(ctx context.Context, l *lease) (lost string, err error) {
	got, _, err := b.do(ctx, call{method: http.MethodPut, path: "sys/leases/renew", body: map[string]any{"lease_id": l.id}, hide: []string{l.id}})
	defer got.wipe()
	switch {
	case refusalOf(err) != nil:
		b.mu.Lock()
		l.renewable = false
		b.mu.Unlock()
		return b.lookUpLease(ctx, l)
	case err != nil:
		return "", err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now, ttl := b.now(), time.Duration(got.LeaseDuration)*time.Second
	l.began, l.expires = now, now.Add(ttl)
	l.renewable = got.Renewable && ttl+time.Second >= l.ttl // less than at first: its longest is near
	return "", nil
}

// lookUpLease asks whether a lease is still there. Who may not ask learns nothing.
func (b *Bao) lookUpLease(ctx context.Context, l *lease) (lost string, err error) {
	got, _, err := b.do(ctx, call{method: http.MethodPut, path: "sys/leases/lookup", body: map[string]any{"lease_id": l.id}, hide: []string{l.id}})
	defer got.wipe()
	switch {
	case refusedAs(err, http.StatusBadRequest), refusedAs(err, http.StatusNotFound):
		return "its lease was revoked", nil
	case refusalOf(err) != nil:
		return "", nil
	}
	return "", err
}
