package score_test

import (
	"testing"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/allocator/allocatortest"
	"github.com/vagoth/vagoth/allocator/score"
)

func open(policy string) allocatortest.Open {
	return func(t testing.TB, deps allocator.Deps) allocator.Allocator {
		cfg := score.Defaults()
		cfg.Policy = policy
		a, err := score.Open(t.Context(), cfg, deps)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
}

func TestSuite(t *testing.T) {
	for _, policy := range []string{score.Spread, score.Pack} {
		t.Run(policy, func(t *testing.T) { allocatortest.RunChoosing(t, open(policy)) })
	}
}
