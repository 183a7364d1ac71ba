package worker_test

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/scheduler/broker"
	"github.com/vagoth/vagoth/scheduler/worker"
)

// A worker in the process of its broker. One that is elsewhere has the client of
// package api in its place, and nothing else changes.
func Example() {
	cfg := broker.Defaults()
	cfg.Queues = map[string]broker.QueueConfig{"storage": {Remote: true}}
	b := broker.Memory(cfg, scheduler.Deps{Now: time.Now})
	defer func() { _ = b.Close() }()

	w, err := worker.New(b, worker.Config{
		Name:   "disk1",
		Queues: []string{"storage"},
		Actions: []scheduler.Action{{
			Name:   "add_volume",
			Params: []scheduler.Param{{Name: "path", Type: scheduler.String, Required: true}},
			Run: func(_ context.Context, t scheduler.Task) (any, error) {
				var p struct{ Path string }
				if err := scheduler.DecodeParams(t, &p); err != nil {
					return nil, err
				}
				t.Progress(50, "making the folder")
				return map[string]string{"made": p.Path}, nil
			},
		}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()

	jobs, err := b.Submit(ctx, scheduler.Package{Jobs: []scheduler.Job{
		{Queue: "storage", Action: "add_volume", Params: scheduler.MustParams(map[string]any{"path": "test"})},
		{Queue: "storage", Action: "add_volume", Params: scheduler.MustParams(map[string]any{"path": 7})},
		{Queue: "storage", Action: "add_volum"},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, j := range jobs {
		st, err := b.Wait(ctx, j.ID)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(st.State, cmp.Or(st.Error, st.Result.String()))
	}
	stop()
	fmt.Println("stopped:", <-done)

	// Output:
	// succeeded {"made":"test"}
	// failed action add_volume: the parameter "path" must be of type string, not number
	// failed this worker has no action "add_volum" (did you mean "add_volume"?)
	// stopped: <nil>
}
