package manager_test

import (
	"context"
	"fmt"

	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/manager/config"
	"github.com/vagoth/vagoth/virt"
)

// acmeConfig is a [drivers.NAME] section with use = acme.
type acmeConfig struct {
	URL   string           `ini:"url" help:"where the appliance listens" required:"true"`
	Token component.Secret `ini:"token" help:"what it asks for"`
}

// acme is a driver of somebody else. It only shows how one is chosen.
type acme struct {
	virt.Driver
	url string
}

func openAcme(_ context.Context, cfg acmeConfig, deps virt.DriverDeps) (virt.Driver, error) {
	fmt.Printf("driver %s speaks to %s\n", deps.Name, cfg.URL)
	return acme{url: cfg.URL}, nil
}

// A program with a driver of its own takes a menu, here a fake one instead of
// standard.Menu(), and adds a line.
func Example_thirdParty() {
	menu := fakeMenu(newLedger())
	menu.Drivers["acme"] = component.Define("the ACME appliance", acmeConfig{}, openAcme)

	f, _ := config.Parse("/tmp/vagoth-example/vagoth.ini", []byte("[drivers.lab]\nuse = acme\nurl = https://192.0.2.1\n"))
	settings, err := manager.Read(f, menu)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(settings.Choices[len(settings.Choices)-1])

	f, _ = config.Parse("vagoth.ini", []byte("[drivers.lab]\nuse = acme\nur = https://192.0.2.1\n"))
	_, err = manager.Read(f, menu)
	fmt.Println(err)
	// Output:
	// {drivers.lab acme}
	// vagoth.ini has 2 problems:
	//   vagoth.ini:1: [drivers.lab] required key "url" is missing (where the appliance listens)
	//   vagoth.ini:3: [drivers.lab] unknown key "ur" (did you mean "url"?)
}
