package testlong

import "testing"

func TestCount(t *testing.T) {
	for _, c := range []struct {
		long int
		full bool
		want int
	}{
		{200, false, 20}, {200, true, 200}, {50, false, 5}, {3, false, 1}, {0, false, 1}, {0, true, 1}, {1, true, 1},
	} {
		if got := count(c.long, c.full); got != c.want {
			t.Errorf("count(%d, %v) = %d, want %d", c.long, c.full, got, c.want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv(longEnv, "1")
	if !Long() || Count(t, 70) != 70 {
		t.Error("VAGOTH_LONG=1 did not give the full count")
	}
	t.Setenv(longEnv, "")
	if Long() || Count(t, 70) != 7 {
		t.Error("without VAGOTH_LONG the count is not a tenth")
	}
	t.Setenv(seedEnv, "42")
	if Seed(t) != 42 {
		t.Error("VAGOTH_SEED was not used")
	}
	t.Setenv(seedEnv, "")
	if first := Seed(t); Seed(t) != first {
		t.Error("the default seed is not fixed")
	}
}
