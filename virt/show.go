package virt

import (
	"strings"

	"github.com/vagoth/vagoth/registry"
)

// ShownDefinition is a VM's definition without what may be a secret, for answers
// and listings. One that cannot be read is shown without any of it.
func ShownDefinition(doc registry.Document) registry.Document {
	if !strings.Contains(doc.String(), `"user_data"`) {
		return doc
	}
	m, err := doc.Map()
	if err != nil {
		return registry.Document{}
	}
	hideUserData(m)
	shown, err := registry.NewDocument(m)
	if err != nil {
		return registry.Document{}
	}
	return shown
}

func hideUserData(m map[string]any) {
	for k, v := range m {
		inner, ok := v.(map[string]any)
		switch {
		case strings.EqualFold(k, "user_data"): // as encoding/json reads it
			delete(m, k)
		case ok && strings.EqualFold(k, "cloud_init"):
			hideUserData(inner)
		}
	}
}

// Shown is n as answers and listings show it.
func Shown(n *registry.Node) *registry.Node {
	if n == nil {
		return nil
	}
	doc := n.Definition()
	shown := ShownDefinition(doc)
	if shown.String() == doc.String() {
		return n
	}
	d := n.Draft()
	d.Definition = shown
	return registry.NewNode(d, n.Stamp())
}
