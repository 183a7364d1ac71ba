package auth

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vagoth/vagoth/manager/component"
)

// Role says what somebody may do. The empty Role may nothing; what needs it, by
// mistake, only an Admin may.
type Role string

// The roles. Reader, Operator and Admin each may what the one before may.
const (
	Reader   Role = "reader"   // look at everything
	Operator Role = "operator" // change nodes, submit and operate jobs
	Admin    Role = "admin"    // everything
	Worker   Role = "worker"   // take jobs and complete them, nothing else
)

// Roles are all of them, the weakest first.
func Roles() []Role { return []Role{Worker, Reader, Operator, Admin} }

// May reports whether r is enough where needed is asked for.
func (r Role) May(needed Role) bool {
	switch needed {
	case Reader:
		return r == Reader || r == Operator || r == Admin
	case Operator:
		return r == Operator || r == Admin
	case Worker:
		return r == Worker || r == Admin
	}
	return r == Admin
}

// ParseRole reads a role's name.
func ParseRole(text string) (Role, error) {
	if r := Role(text); slices.Contains(Roles(), r) {
		return r, nil
	}
	names := make([]string, 0, 4)
	for _, r := range Roles() {
		names = append(names, string(r))
	}
	hint := "there are " + strings.Join(names, ", ")
	if s := component.DidYouMean(text, slices.Values(names)); s != "" {
		hint = s
	}
	return "", fmt.Errorf("there is no role %.32q (%s)", text, hint)
}

// Identity is who asks. An empty Name is somebody of this machine, whom the
// operating system let in: what he says of himself is believed.
type Identity struct {
	Name string
	Role Role
}

// Errors of Authenticate; test with errors.Is.
var (
	// ErrNoCredentials: the request shows neither token nor certificate.
	ErrNoCredentials = errors.New("no credentials")
	// ErrRefused: what it shows is not known, was revoked or has expired.
	ErrRefused = errors.New("not authenticated")
)
