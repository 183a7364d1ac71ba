package component_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/vagoth/vagoth/manager/component"
)

func ExampleDefine() {
	type Config struct {
		Path  component.Path `ini:"path" help:"directory of the store"`
		Every time.Duration  `ini:"every" help:"time between snapshots" min:"1s"`
	}
	kind := component.Define("in memory over a journal", Config{Every: time.Minute},
		func(_ context.Context, cfg Config, owner string) (string, error) {
			return fmt.Sprintf("%s keeps %s, a snapshot every %s", owner, cfg.Path, cfg.Every), nil
		})
	open, problems := kind.Decode(component.Source{File: "vagoth.ini", Dir: "/etc/vagoth", Own: []component.Section{
		{Name: "registry", Line: 1, Entries: []component.Entry{{Key: "path", Value: "store", Line: 2}}},
	}})
	fmt.Println(problems)
	fmt.Println(open(context.Background(), "manager"))
	// Output:
	// []
	// manager keeps /etc/vagoth/store, a snapshot every 1m0s <nil>
}

func ExampleWriteExample() {
	type Config struct {
		URI   string        `ini:"uri" help:"where libvirt listens" required:"true"`
		Every time.Duration `ini:"every" help:"time between polls" min:"1s"`
	}
	_ = component.WriteExample(os.Stdout, component.Example{
		Section: "drivers.local",
		Of:      component.Describe("libvirt over its RPC protocol", Config{Every: time.Minute}),
		Set:     []component.Setting{{Key: "use", Value: "libvirt"}, {Key: "uri", Value: "qemu:///system"}},
	})
	// Output:
	// ; libvirt over its RPC protocol
	// [drivers.local]
	// use = libvirt
	// ; where libvirt listens; text (required)
	// uri = qemu:///system
	// ; time between polls; duration, at least 1s
	// ; every = 1m
}

func ExampleSuggest() {
	fmt.Println(component.Suggest("pth", slices.Values([]string{"uri", "path", "password"})))
	fmt.Println(component.Suggest("sytsem", maps.Keys(map[string]bool{"session": true, "system": true})))
	fmt.Println(component.DidYouMean("stat", slices.Values([]string{"start", "stop"})))
	// Output:
	// path
	// system
	// did you mean "start"?
}

func ExampleSecret() {
	token := component.NewSecret("hunter2")
	fmt.Println(token, token.Reveal())
	// Output: *** hunter2
}
