// Command vagoth manages a cluster of hypervisors and what runs on them.
//
// # Why
//
// Every command speaks to package api and to nothing below it. Here the cluster
// is opened inside the process for as long as one command takes; the commands
// would not change if it were a daemon elsewhere. A program with components of
// its own is a copy of this file with a line added to the menu.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/vagoth/vagoth/cmd/vagoth/cli"
	"github.com/vagoth/vagoth/manager/standard"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(cli.Run(ctx, standard.Menu(), cli.System(), os.Args[1:]))
}
