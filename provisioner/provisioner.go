// Package provisioner makes nodes and takes them away.
//
// A Provisioner turns a Spec into a node: it checks the definition, derives the
// unique keys that it claims (a MAC or IP address, a disk volume) and commits
// node and keys in one transaction, or nothing.
//
// # Why
//
// The registry keeps any node that is well formed; what a good node of a type is
// depends on the site. So that is one exchangeable part, and it is asked before
// anything is written. What a type means (its schema, its keys, its columns) is
// a Class, chosen by name in [node_types].
package provisioner

import (
	"context"
	"log/slog"
	"time"

	"github.com/vagoth/vagoth/registry"
)

// Provisioner makes and removes nodes. Its methods are safe for concurrent use.
type Provisioner interface {
	// Provision creates the node of spec, all or nothing.
	Provision(ctx context.Context, spec Spec) (*registry.Node, error)
	// Plan returns what Provision would create, and creates nothing. Addresses
	// in it may be taken by the time of Provision.
	Plan(ctx context.Context, spec Spec) (registry.Draft, error)
	// Redefine replaces the definition of a node, deriving its keys anew in the
	// same transaction. force allows it while the node has a parent.
	Redefine(ctx context.Context, id string, definition registry.Document, force bool) (*registry.Node, error)
	// Deprovision deletes the node. It refuses one with a parent, with children
	// or with disks on a host.
	Deprovision(ctx context.Context, id string) error
}

// Spec is what somebody asks for.
type Spec struct {
	ID         string            `json:"id"`
	Name       string            `json:"name,omitempty"` // the ID if empty
	Type       string            `json:"type"`
	Tenant     string            `json:"tenant,omitempty"`
	Definition registry.Document `json:"definition,omitzero"`
	Metadata   registry.Document `json:"metadata,omitzero"`
	Tags       map[string]string `json:"tags,omitempty"`
	Keys       []string          `json:"keys,omitempty"` // beside those derived
	// Args choose what the provisioner adds, such as template and size. An
	// argument that it does not know is refused.
	Args map[string]string `json:"args,omitempty"`
}

// Class is what a node type means.
type Class struct {
	Help string // one line
	Only string // the one node type that it is for; "" is any
	// Validate returns why the definition is not one of the class; nil accepts
	// any.
	Validate func(registry.Document) error
	// Keys derives the unique keys that a node with the definition claims; nil
	// derives none.
	Keys func(id string, definition registry.Document) ([]string, error)
	// Busy returns why a node that stands on nothing cannot be deleted, such as
	// its disks; nil lets it go.
	Busy func(*registry.Node) error
	// Initial is the state of a node that was just made.
	Initial string
	// Columns shows a node in a table, beside its name, type and state.
	Columns []Column
	Verbs   []string // the actions that make sense for it
}

// AnyClass accepts every definition and claims no keys: racks, switches, people.
func AnyClass() Class { return Class{Help: "anything with a name; its definition is not checked"} }

// Column is one column of a table of nodes.
type Column struct {
	Name  string
	Wide  bool // only in the wide table
	Value func(*registry.Node) string
}

// Deps is what a provisioner is given.
type Deps struct {
	Registry registry.Registry
	Types    map[string]Class // by node type
	Log      *slog.Logger
	Now      func() time.Time
}
