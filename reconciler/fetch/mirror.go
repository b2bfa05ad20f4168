package fetch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"
)

const (
	acceptedRef  = "refs/plumbline/accepted"
	acceptedFile = "accepted.json"
)

// accepted is what was accepted last. The file is the truth; the ref is there so that git knows the commit is in use.
type accepted struct {
	Follows string `json:"follows"` // Ref.String(): a commit of another ref says nothing about this one
	Ref     string `json:"ref"`
	Tip     string `json:"tip"` // what the remote advertised: the commit, or an annotated tag
	Commit  string `json:"commit"`
}

// mirror is the local copy of one source.
type mirror struct {
	owner *Mirrors
	dir   string
	turn  chan struct{} // holds a token while a fetch is running

	// Of the fetch that is running:
	sound   map[plumbing.Hash]int // trees that are complete, and their files
	rebuild bool                  // something is missing that the disk did not lose

	mu       sync.Mutex // guards what follows; held briefly, never over the network
	calls    int        // ordinal of the last fetch that was asked for
	shared   outcome    // of the last fetch that ran
	store    *store     // nil until opened
	accepted accepted
	current  *treeFS // FS of the accepted commit
}

// outcome is the result of a fetch that began after the calls up to asked had come in: it answers them, too.
type outcome struct {
	asked    int
	source   Source
	snapshot Snapshot
	err      error
}

// fetch waits for its turn. A call that was waiting when another one began shares its result: however many triggers
// arrive during a fetch, one more fetch answers them.
func (m *mirror) fetch(ctx context.Context, s Source) (Snapshot, error) {
	m.mu.Lock()
	m.calls++
	ticket := m.calls
	m.mu.Unlock()
	select {
	case m.turn <- struct{}{}:
		defer func() { <-m.turn }()
	case <-ctx.Done():
		return Snapshot{}, fail(s, "wait for a running fetch", context.Cause(ctx))
	}
	m.mu.Lock()
	o := m.shared
	asked := m.calls
	m.mu.Unlock()
	if o.asked >= ticket && o.source == s {
		return o.snapshot, o.err
	}
	snap, err := m.run(ctx, s)
	if ctx.Err() == nil { // or it says more about this caller than about the source
		m.mu.Lock()
		m.shared = outcome{asked, s, snap, err}
		m.mu.Unlock()
	}
	return snap, err
}

// run is one trip: list, compare, transfer, check, accept.
func (m *mirror) run(ctx context.Context, s Source) (Snapshot, error) {
	st, err := m.open()
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrCorrupt) {
		return Snapshot{}, fail(s, "open mirror", err)
	}
	ses, err := m.owner.connect(ctx, s)
	if err != nil {
		return Snapshot{}, fail(s, "connect to "+redactURL(s.URL), err)
	}
	where := ses.remote.String()
	defer ses.close()
	adv, err := ses.list(ctx)
	if err != nil {
		return Snapshot{}, fail(s, "list refs of "+where, err)
	}
	want, err := choose(s.Ref, adv)
	if err != nil {
		return Snapshot{}, fail(s, "choose "+s.Ref.String()+" of "+where, err)
	}
	if st != nil && m.at(s, want) {
		return m.lastAccepted(s)
	}
	c, err := m.bring(ctx, s, ses, st, want)
	if err != nil {
		return Snapshot{}, fail(s, "fetch "+want.name+" from "+where, err)
	}
	snap, err := m.accept(ctx, s, want, c)
	m.rebuild = m.rebuild || incomplete(err)
	return snap, fail(s, "accept "+want.name+" at "+c.Hash.String(), err)
}

// bring makes sure that the mirror has the tip, complete, and returns the commit it leads to.
func (m *mirror) bring(ctx context.Context, s Source, ses *session, st *store, want tip) (*commit, error) {
	if st == nil || m.rebuild {
		return m.create(ctx, s, ses, st, want)
	}
	if !st.has(want.id) {
		m.mu.Lock()
		from := plumbing.NewHash(m.accepted.Commit)
		m.mu.Unlock()
		if err := ses.download(ctx, st, want.id, st.haves(from)); err != nil {
			return nil, err
		}
	}
	c, err := m.inspect(ctx, st, want)
	if incomplete(err) {
		m.rebuild = true // the next fetch clones anew; until then the accepted commit stays readable
		return nil, fmt.Errorf("%w: %v", ErrCorrupt, err)
	}
	return c, err
}

// inspect checks that everything which a tip needs is there.
func (m *mirror) inspect(ctx context.Context, st *store, want tip) (*commit, error) {
	c, err := st.peel(want.id)
	if err != nil {
		return nil, err
	}
	if len(m.sound) > 1<<16 || m.sound == nil {
		m.sound = map[plumbing.Hash]int{}
	}
	_, err = st.survey(ctx, c.TreeHash, m.sound, 0)
	return c, err
}

// create clones into a temporary directory and gives it its name when it is complete. A damaged mirror stays in place
// until then, and the record of what was accepted moves over. old is that mirror, or nil if it cannot be opened.
func (m *mirror) create(ctx context.Context, s Source, ses *session, old *store, want tip) (*commit, error) {
	tmp, err := m.owner.prepare()
	if err != nil {
		return nil, err
	}
	defer m.owner.discard(tmp)
	st, err := openStore(tmp, m.owner.limits(), false)
	if err != nil {
		return nil, err
	}
	if err := ses.download(ctx, st, want.id, nil); err != nil {
		return nil, err
	}
	m.sound = nil
	c, err := m.inspect(ctx, st, want)
	if incomplete(err) {
		err = fmt.Errorf("%w: the remote sent an incomplete pack: %v", ErrProtocol, err)
	}
	if err != nil {
		return nil, err
	}
	was, err := m.inherit(ctx, s, old, st, want, c)
	if err != nil {
		return nil, err
	}
	if was.Commit != "" {
		if err := was.write(tmp); err != nil {
			return nil, err
		}
	}
	return c, m.publish(tmp, was)
}

// publish puts a complete mirror in place of what is there.
func (m *mirror) publish(tmp string, was accepted) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := os.Lstat(m.dir); err == nil {
		old, err := m.owner.prepare()
		if err != nil {
			return err
		}
		defer m.owner.discard(old)
		if err := os.Rename(m.dir, filepath.Join(old, "damaged")); err != nil {
			return err
		}
	}
	if err := os.Rename(tmp, m.dir); err != nil {
		return err
	}
	st, err := openStore(m.dir, m.owner.limits(), false)
	if err != nil {
		return err
	}
	m.store, m.accepted, m.current, m.rebuild = st, was, nil, false
	return syncDir(filepath.Dir(m.dir))
}

// accept decides whether a commit may replace the accepted one, and records it.
func (m *mirror) accept(ctx context.Context, s Source, want tip, c *commit) (Snapshot, error) {
	m.mu.Lock()
	st, was := m.store, m.accepted
	m.mu.Unlock()
	if err := checkRewrite(ctx, s, st, was, c); err != nil {
		return Snapshot{}, err
	}
	signer, err := s.Verify.check(c, want.name)
	if err != nil {
		return Snapshot{}, err
	}
	now := accepted{Follows: s.Ref.String(), Ref: want.name, Tip: want.id.String(), Commit: c.Hash.String()}
	if err := now.write(m.dir); err != nil {
		return Snapshot{}, err
	}
	if err := st.compact(orDefault(m.owner.MaxPacks, 24)); err != nil {
		st.suspect.Store(true) // the commit is good; have the packs looked at before the next fetch
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.accepted = now
	return m.snapshot(s, c, signer), nil
}

// snapshot builds what is handed out; m.mu is held.
func (m *mirror) snapshot(s Source, c *commit, signer string) Snapshot {
	if m.current == nil || m.current.root != c.TreeHash || m.current.st != m.store {
		m.current = &treeFS{st: m.store, root: c.TreeHash, maxFile: orDefault(m.owner.MaxFileBytes, 10<<20)}
	}
	return Snapshot{
		Source: s.Name, Ref: m.accepted.Ref, Commit: c.Hash.String(), Author: c.author(), Subject: c.subject(),
		Time: c.Committer.When, Signer: signer, FS: m.current,
	}
}

// lastAccepted hands out the accepted commit, if it satisfies what the source demands now.
func (m *mirror) lastAccepted(s Source) (Snapshot, error) {
	const op = "read the last accepted commit"
	st, err := m.open()
	if err != nil {
		return Snapshot{}, fail(s, op, fmt.Errorf("%w: %w", ErrNoSnapshot, err))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.accepted.Commit == "" {
		return Snapshot{}, fail(s, op, ErrNoSnapshot)
	}
	if m.accepted.Follows != s.Ref.String() {
		return Snapshot{}, fail(s, op, fmt.Errorf("%w: the last one was of %s", ErrNoSnapshot, m.accepted.Follows))
	}
	c, err := st.peel(plumbing.NewHash(m.accepted.Tip))
	if err != nil {
		return Snapshot{}, fail(s, op, fmt.Errorf("%w: %w", ErrNoSnapshot, err))
	}
	signer, err := s.Verify.check(c, m.accepted.Ref)
	if err != nil {
		return Snapshot{}, fail(s, op, err)
	}
	return m.snapshot(s, c, signer), nil
}

// at reports whether the accepted commit is the one that is wanted.
func (m *mirror) at(s Source, want tip) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.accepted == accepted{Follows: s.Ref.String(), Ref: want.name, Tip: want.id.String(), Commit: m.accepted.Commit} && m.accepted.Commit != ""
}

// open returns the store, from the disk at first, and again after an object could not be read.
func (m *mirror) open() (*store, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.store != nil && !m.store.suspect.Load() {
		return m.store, nil
	}
	m.store, m.current = nil, nil
	st, err := openStore(m.dir, m.owner.limits(), true)
	if err != nil {
		return nil, err
	}
	was, err := readAccepted(m.dir)
	if err != nil {
		return nil, err
	}
	if err := st.complete(was); err != nil {
		return nil, err
	}
	m.store, m.accepted = st, was
	return st, nil
}

// complete finds out whether a pack is missing, as far as the accepted commit needs it.
func (st *store) complete(was accepted) error {
	if was.Commit == "" {
		return nil
	}
	c, err := st.peel(plumbing.NewHash(was.Tip))
	if err == nil {
		_, err = st.survey(context.Background(), c.TreeHash, map[plumbing.Hash]int{}, 0)
	}
	if err != nil {
		return corrupt(err)
	}
	return nil
}

func (m *Mirrors) limits() limits {
	return limits{treeBytes: orDefault(m.TreeBytes, 4<<20), objects: orDefault(m.MaxObjects, 1_000_000)}
}

func readAccepted(dir string) (a accepted, err error) {
	if _, err := os.Stat(filepath.Join(dir, "HEAD")); err != nil {
		return a, corrupt(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, acceptedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(data, &a); err != nil {
		return accepted{}, fmt.Errorf("%w: %s: %v", ErrCorrupt, acceptedFile, err)
	}
	return a, nil
}

func (a accepted) write(dir string) error {
	if err := replaceFile(filepath.Join(dir, filepath.FromSlash(acceptedRef)), []byte(a.Commit+"\n")); err != nil {
		return err
	}
	data, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(dir, acceptedFile), append(data, '\n'))
}

// replaceFile is all or nothing, power cuts included.
func replaceFile(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".tmp-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	return syncDir(filepath.Dir(name))
}
