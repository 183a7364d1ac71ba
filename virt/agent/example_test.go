package agent_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/vagoth/vagoth/virt/agent"
	"github.com/vagoth/vagoth/virt/mistify"
)

// An agent with one sub-agent, inside the process, that starts guests.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	sub := mistify.NewServer(mistify.ServerOptions{})
	mistify.Register(sub, "Example.Create", func(_ context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
		r.Guest.State = "running"
		return &mistify.GuestResponse{Guest: r.Guest, Message: "as you wish"}, nil
	})

	cfg := agent.Defaults()
	cfg.Services = map[string]agent.ServiceConfig{"example": {}}
	cfg.Actions = map[string]agent.ActionConfig{"create": {Stages: []agent.Stage{{Service: "example", Method: "Example.Create", Idempotent: true}}}}
	a, err := agent.Open(ctx, cfg, agent.Deps{Local: map[string]http.Handler{"example": sub}})
	if err != nil {
		fmt.Println(err)
		return
	}
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	server := httptest.NewServer(a.Handler())

	client, err := mistify.NewClient(server.URL, mistify.ClientOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	guest, id, err := client.CreateGuest(ctx, mistify.Guest{Memory: 512})
	if err != nil {
		fmt.Println(err)
		return
	}
	job, err := client.WaitJob(ctx, id)
	fmt.Println(job.Status, job.Message, err)
	guest, err = client.Guest(ctx, guest.ID)
	fmt.Println(guest.State, guest.Memory, err)

	http.DefaultClient.CloseIdleConnections()
	server.Close()
	stop()
	fmt.Println(<-ended, a.Close())
	// Output:
	// Complete as you wish <nil>
	// running 512 <nil>
	// <nil> <nil>
}
