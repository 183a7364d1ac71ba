package registrytest

import (
	"testing"

	"github.com/vagoth/vagoth/registry"
)

// Open opens an empty registry for a test. The suite closes it.
type Open func(t *testing.T) registry.Registry

// Run runs every test that a registry must pass.
func Run(t *testing.T, open Open) {
	t.Run("Model", func(t *testing.T) { testModel(t, open) })
}
