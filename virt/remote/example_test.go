package remote_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/remote"
)

// A host is asked through its agent, which here only lists what is there.
func Example() {
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, `{"complete": true, "capacity": {"cpu": 8}, "guests": [
			{"id": "0f8fad5b-d9cb-469f-a165-70867728950e", "name": "web1", "state": "running", "cpu": 2, "memory": 512}]}`)
	}))
	defer agent.Close()

	ctx := context.Background()
	d, err := remote.Open(ctx, remote.Defaults(), virt.DriverDeps{Name: "agents"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = d.Close() }()
	l, err := d.Status(ctx, virt.Host{ID: "h1", Address: agent.URL})
	fmt.Println(l.Complete, l.Capacity.CPU, l.Guests, err)
	// Output: true 8 [{0f8fad5b-d9cb-469f-a165-70867728950e web1 running 2 512}] <nil>
}
