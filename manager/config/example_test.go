package config_test

import (
	"context"
	"fmt"
	"time"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/manager/config"
)

type pollConfig struct {
	Every time.Duration `ini:"every" help:"time between polls" min:"1s"`
}

func monitors() map[string]component.Kind[string, string] {
	return map[string]component.Kind[string, string]{
		"poll": component.Define("asks every host in turn", pollConfig{Every: 10 * time.Second},
			func(_ context.Context, cfg pollConfig, who string) (string, error) {
				return fmt.Sprintf("%s polls every %s", who, cfg.Every), nil
			}),
	}
}

// Nothing is opened before everything has been read and found right.
func ExampleSelect() {
	f, _ := config.Parse("vagoth.ini", []byte("[monitor]\nuse = poll\nevery = 30s ; often enough\n"))
	monitor := config.Select(f, "monitor", "poll", monitors())
	if err := f.Err(); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(monitor.Open(context.Background(), "manager"))
	// Output: manager polls every 30s <nil>
}

// All problems come at once.
func ExampleFile_Err() {
	f, _ := config.Parse("vagoth.ini", []byte("[monitor]\nevery = 30\nevry = 1m\n[monitr]\n"))
	config.Select(f, "monitor", "poll", monitors())
	fmt.Println(f.Err())
	// Output:
	// vagoth.ini has 3 problems:
	//   vagoth.ini:2: [monitor] every: "30" needs a unit, such as 30s
	//   vagoth.ini:3: [monitor] unknown key "evry" (did you mean "every"?)
	//   vagoth.ini:4: [monitr] unknown section (did you mean [monitor]?)
}
