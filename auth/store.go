package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/vagoth/vagoth/internal/lockfile"
	"github.com/vagoth/vagoth/registry"
)

const (
	prefix      = "vagoth"
	idBytes     = 4
	secretBytes = 32
	lastChars   = 4
	lockWait    = 5 * time.Second

	// alphabet is that of unpadded base64 for URLs.
	alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
)

// Options modify Open. The zero Options are sensible.
type Options struct {
	Log *slog.Logger     // nil discards
	Now func() time.Time // nil is the machine's clock
}

// Store is a file of tokens. It is safe for concurrent use, also by several
// processes.
type Store struct {
	path string
	log  *slog.Logger
	now  func() time.Time

	mu    sync.Mutex
	known known
	seen  os.FileInfo // of the file that was read last, or refused; nil if there was none
}

// known are the entries as requests look for them.
type known struct {
	bearers      map[string]Token // by ID
	certificates map[string]Token // by name
}

func index(lines []line) known {
	k := known{bearers: map[string]Token{}, certificates: map[string]Token{}}
	for _, l := range lines {
		switch l.entry.Kind {
		case Bearer:
			k.bearers[l.entry.ID] = l.entry
		case Certificate:
			k.certificates[l.entry.Name] = l.entry
		}
	}
	return k
}

// Open reads the file, which need not exist yet.
func Open(path string, o Options) (*Store, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Store{path: path, log: o.Log, now: o.Now}
	return s, s.Reload()
}

// Reload reads the file again. On an error what was known stays.
func (s *Store) Reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reload()
}

func (s *Store) reload() error {
	lines, info, err := read(s.path)
	s.seen = info
	if err != nil {
		return err
	}
	s.known = index(lines)
	return nil
}

// current returns what is known, from the file as it is now.
func (s *Store) current() known {
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := os.Stat(s.path)
	if err != nil {
		info = nil
	}
	if !same(info, s.seen) {
		if err := s.reload(); err != nil {
			s.log.Error("the tokens have changed and cannot be read: those that were known stay", "error", err)
			if s.seen == nil {
				s.seen = info // it could not even be opened: said once is enough
			}
		}
	}
	return s.known
}

// same reports whether a file has not been touched in between.
func same(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && a.Mode() == b.Mode()
}

// Spec is a token that is wanted.
type Spec struct {
	Name    string // on whose behalf; of a certificate, its common name
	Role    Role
	Expires time.Time // zero is never
}

func (s *Store) check(want Spec) error {
	if err := registry.CheckName(want.Name); err != nil {
		return fmt.Errorf("the name of a token: %w", err)
	}
	if _, err := ParseRole(string(want.Role)); err != nil {
		return err
	}
	if !want.Expires.IsZero() && !want.Expires.After(s.now()) {
		return fmt.Errorf("the token would have expired at %s already", want.Expires.Format(time.RFC3339))
	}
	return nil
}

// Create makes a bearer token. Its secret is returned this once and kept
// nowhere.
func (s *Store) Create(ctx context.Context, want Spec) (t Token, secret string, err error) {
	var random [secretBytes]byte
	_, _ = rand.Read(random[:]) // never fails
	text := base64.RawURLEncoding.EncodeToString(random[:])
	t, err = s.add(ctx, want, func(t *Token) {
		t.Kind, t.hash, t.Last = Bearer, sha256.Sum256(random[:]), text[len(text)-lastChars:]
	})
	if err != nil {
		return Token{}, "", err
	}
	return t, prefix + "_" + t.ID + "_" + text, nil
}

// Allow lets in the TLS client certificates with want.Name as their common
// name. That they are genuine is for the TLS configuration to check.
func (s *Store) Allow(ctx context.Context, want Spec) (Token, error) {
	return s.add(ctx, want, func(t *Token) { t.Kind = Certificate })
}

func (s *Store) add(ctx context.Context, want Spec, fill func(*Token)) (t Token, err error) {
	if err := s.check(want); err != nil {
		return t, err
	}
	t = Token{Name: want.Name, Role: want.Role, Created: s.now().UTC().Truncate(time.Second), Expires: want.Expires.UTC().Truncate(time.Second)}
	fill(&t)
	err = s.change(ctx, func(lines []line) ([]line, error) {
		used := map[string]bool{}
		for _, l := range lines {
			used[l.entry.ID] = true
			if l.entry.Kind == Certificate && t.Kind == Certificate && l.entry.Name == t.Name {
				return nil, fmt.Errorf("the certificate of %s is let in already, as %s: revoke %s first", t.Name, l.entry.Role, l.entry.ID)
			}
		}
		if len(used) > MaxEntries {
			return nil, fmt.Errorf("there are %d tokens, at most %d are kept: revoke some", MaxEntries, MaxEntries)
		}
		for t.ID == "" || used[t.ID] {
			var id [idBytes]byte
			_, _ = rand.Read(id[:]) // never fails
			t.ID = hex.EncodeToString(id[:])
		}
		if len(lines) == 0 {
			lines = []line{{comment: header}}
		}
		return append(lines, line{entry: t}), nil
	})
	return t, err
}

// HasTokens reports whether there is a bearer token that lets somebody in now.
func (s *Store) HasTokens() bool {
	now := s.now()
	for _, t := range s.current().bearers {
		if !t.Expired(now) {
			return true
		}
	}
	return false
}

// List returns all, in the order in which they were made.
func (s *Store) List() ([]Token, error) {
	lines, _, err := read(s.path)
	if err != nil {
		return nil, err
	}
	list := []Token{}
	for _, l := range lines {
		if l.entry.ID != "" {
			list = append(list, l.entry)
		}
	}
	return list, nil
}

// Revoke ends the token or certificate with the ID.
func (s *Store) Revoke(ctx context.Context, id string) (gone Token, err error) {
	err = s.change(ctx, func(lines []line) ([]line, error) {
		for i, l := range lines {
			if l.entry.ID != "" && l.entry.ID == id {
				gone = l.entry
				return append(lines[:i:i], lines[i+1:]...), nil
			}
		}
		return nil, fmt.Errorf("there is no token %.32q: `vagoth token list` shows their IDs", id)
	})
	return gone, err
}

// change replaces the file while no other process does.
func (s *Store) change(ctx context.Context, fn func([]line) ([]line, error)) (err error) {
	lock, err := lockfile.Acquire(ctx, s.path+".lock", lockWait)
	if err != nil {
		return fmt.Errorf("cannot change the tokens: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	s.mu.Lock()
	defer s.mu.Unlock()
	lines, _, err := read(s.path)
	if err != nil {
		return err
	}
	if lines, err = fn(lines); err != nil {
		return err
	}
	if err := write(s.path, lines); err != nil {
		return err
	}
	return s.reload()
}

// Authenticate says who sends r: by its bearer token or, without one, by its
// TLS client certificate. A bad token is refused even beside a good certificate.
func (s *Store) Authenticate(r *http.Request) (Identity, error) {
	if given := r.Header.Values("Authorization"); len(given) > 0 {
		scheme, secret, _ := strings.Cut(given[0], " ")
		if len(given) > 1 || !strings.EqualFold(scheme, "Bearer") {
			return Identity{}, fmt.Errorf("%w: send one header, Authorization: Bearer TOKEN", ErrRefused)
		}
		return s.bearer(strings.TrimLeft(secret, " "))
	}
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.VerifiedChains[0]) == 0 {
		return Identity{}, fmt.Errorf("%w: send the header Authorization: Bearer TOKEN, or a client certificate", ErrNoCredentials)
	}
	name := r.TLS.VerifiedChains[0][0].Subject.CommonName
	t, ok := s.current().certificates[name]
	switch {
	case !ok || name == "":
		return Identity{}, fmt.Errorf("%w: the certificate of %.64q is not let in: see `vagoth token`", ErrRefused, name)
	case t.Expired(s.now()):
		return Identity{}, fmt.Errorf("%w: what lets in the certificate of %s expired at %s", ErrRefused, name, t.Expires.Format(time.RFC3339))
	}
	return Identity{Name: t.Name, Role: t.Role}, nil
}

func (s *Store) bearer(secret string) (Identity, error) {
	unknown := fmt.Errorf("%w: the token is not known, or was revoked", ErrRefused)
	parts := strings.SplitN(secret, "_", 3)
	if len(parts) != 3 || parts[0] != prefix {
		return Identity{}, unknown
	}
	random, err := base64.RawURLEncoding.Strict().DecodeString(parts[2])
	if err != nil || len(random) != secretBytes {
		return Identity{}, unknown
	}
	t := s.current().bearers[parts[1]] // of an unknown ID no hash fits
	hash := sha256.Sum256(random)
	switch {
	case subtle.ConstantTimeCompare(hash[:], t.hash[:]) != 1:
		return Identity{}, unknown
	case t.Expired(s.now()):
		return Identity{}, fmt.Errorf("%w: the token %s expired at %s", ErrRefused, t.ID, t.Expires.Format(time.RFC3339))
	}
	return Identity{Name: t.Name, Role: t.Role}, nil
}
