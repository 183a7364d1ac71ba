package scheduler

import (
	"strings"

	"github.com/vagoth/vagoth/registry"
)

// ParamsError is an ErrInvalid: all that is wrong with the parameters of a job.
type ParamsError struct {
	Action   string
	Problems []string // each names the parameter
}

func (e *ParamsError) Error() string { return strings.Join(e.Problems, "; ") }

// Is makes the error an ErrInvalid.
func (e *ParamsError) Is(target error) bool { return target == ErrInvalid }

// CheckParams returns a *ParamsError if a parameter is missing, mistyped or
// unknown. Check does the same for a package that is submitted; a worker outside
// does it before it begins, as its queue may take what it cannot do.
func (a Action) CheckParams(params registry.Document) error {
	var c checker
	c.params(place{-1, a.Name}, a, params)
	if len(c.problems) == 0 {
		return nil
	}
	if len(c.problems) > maxProblems {
		c.problems = append(c.problems[:maxProblems], "…")
	}
	return &ParamsError{Action: a.Name, Problems: c.problems}
}
