// Command worker is an example of a worker outside the manager: it takes jobs
// from the queues storage and emulation and works on files in a scratch folder.
//
//	go run ./examples/worker -scratch /tmp/scratch
//
// It asks the manager on this machine, or with -manager https://HOST:PORT and
// -token FILE another one. docs/workers.md explains what it does and walks through
// a package; worker.py beside it is the same in Python.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/scheduler/worker"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := run(ctx, log, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		log.Error("the worker ends", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, log *slog.Logger, args []string) error {
	flags := flag.NewFlagSet("worker", flag.ContinueOnError)
	manager := flags.String("manager", "vagoth-data/vagoth.sock", "the manager's socket, or https://HOST:PORT")
	token := flags.String("token", "", "the file with a token of the role worker, for https")
	ca := flags.String("ca", "", "the file with the certificate that signed the manager's, if the system does not know it")
	scratch := flags.String("scratch", "", "the folder to work in; it is made")
	queues := flags.String("queues", "storage,emulation", "the queues to take jobs from")
	parallel := flags.Int("parallel", 2, "how many jobs at once")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *scratch == "" {
		return errors.New("say where to work: -scratch DIR")
	}
	if err := os.MkdirAll(*scratch, 0o700); err != nil {
		return fmt.Errorf("cannot make the scratch folder: %w", err)
	}
	root, err := os.OpenRoot(*scratch)
	if err != nil {
		return fmt.Errorf("cannot open the scratch folder: %w", err)
	}
	defer func() { _ = root.Close() }()
	client, err := connect(*manager, *token, *ca)
	if err != nil {
		return err
	}
	w, err := worker.New(client, worker.Config{
		Queues:   strings.Split(*queues, ","),
		Actions:  (&host{root}).actions(),
		Parallel: *parallel,
		Log:      log,
	})
	if err != nil {
		return err
	}
	log.Info("waiting for jobs", "queues", *queues)
	return w.Run(ctx)
}

// connect makes a client of the manager.
func connect(manager, tokenFile, caFile string) (*api.Client, error) {
	if !strings.Contains(manager, "://") {
		return api.NewClient("http://vagoth", &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "unix", manager)
			},
			MaxIdleConnsPerHost: 16,
			IdleConnTimeout:     time.Minute,
		}), nil
	}
	if !strings.HasPrefix(manager, "https://") {
		return nil, fmt.Errorf("%q is neither a socket nor https://HOST:PORT: a token is not sent in the clear", manager)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("cannot read the certificate: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("there is no certificate in %s", caFile)
		}
		transport.TLSClientConfig.RootCAs = pool
	}
	if tokenFile == "" {
		return nil, errors.New("a manager elsewhere asks for a token: -token FILE (vagoth token create --role worker)")
	}
	token, err := os.ReadFile(tokenFile)
	if err != nil {
		return nil, fmt.Errorf("cannot read the token: %w", err)
	}
	return api.NewClient(manager, api.Bearer(strings.TrimSpace(string(token)), transport)), nil
}
