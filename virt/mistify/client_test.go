package mistify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

const jobID = "2f1a2b3c-0000-4000-8000-000000000001"

// agent answers every request with the same, and notes it.
type agent struct {
	status int
	body   string
	header http.Header

	got  string // METHOD URI BODY
	seen http.Header
}

func (a *agent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.got, a.seen = strings.TrimSpace(r.Method+" "+r.RequestURI+" "+string(body)), r.Header
	w.Header().Set("Content-Type", "application/json")
	for k, v := range a.header {
		w.Header()[k] = v
	}
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body)
}

func newClient(t *testing.T, h http.Handler, o ClientOptions) *Client {
	t.Helper()
	ts := httptest.NewServer(h)
	transport := &http.Transport{}
	o.Transport = transport
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		ts.Close()
	})
	c, err := NewClient(ts.URL, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Every method of the client asks what the agent before us was asked.
func TestClientRequests(t *testing.T) {
	ctx := context.Background()
	a := &agent{status: 202, header: http.Header{HeaderJob: {jobID}}}
	c := newClient(t, a, ClientOptions{})
	bar, empty := "bar", ""
	all, disk := SnapshotID{Guest: "G", Name: "s1"}, SnapshotID{Guest: "G", Disk: "0", Name: "s1"}
	const noJob = "-"
	two := func(job string, err error) (any, string, error) { return nil, job, err }
	one := func(v any, err error) (any, string, error) { return v, noJob, err }
	for _, x := range []struct {
		name, want, body, value string
		do                      func() (any, string, error)
	}{
		{"Metadata", "GET /metadata", `{"a":"b"}`, `{"a":"b"}`, func() (any, string, error) { return one(c.Metadata(ctx)) }},
		{"PatchMetadata", `PATCH /metadata {"a":null,"b":"","c":"bar"}`, `{"c":"bar"}`, `{"c":"bar"}`, func() (any, string, error) {
			return one(c.PatchMetadata(ctx, MetadataPatch{"a": nil, "b": &empty, "c": &bar}))
		}},
		{"Images", "GET /images", `[{"id":"i"}]`, `[{"id":"i"`, func() (any, string, error) { return one(c.Images(ctx, "")) }},
		{"Images of a type", "GET /images?type=container", `[]`, `[]`, func() (any, string, error) { return one(c.Images(ctx, "container")) }},
		{"Image", "GET /images/a:b", `{"id":"i"}`, `{"id":"i"`, func() (any, string, error) { return one(c.Image(ctx, "a:b")) }},
		{"FetchImage", `POST /images {"id":"i","type":"","dest":"","source":"http://x"}`, `{"images":null}`, "null", func() (any, string, error) { return two(c.FetchImage(ctx, ImageRequest{ID: "i", Source: "http://x"})) }},
		{"DeleteImage", "DELETE /images/i", `{}`, "null", func() (any, string, error) { return two(c.DeleteImage(ctx, "i")) }},
		{"ContainerImages", "GET /container_images", `[]`, `[]`, func() (any, string, error) { return one(c.ContainerImages(ctx)) }},
		{"ContainerImage", "GET /container_images/lib%2Fbusybox", `{}`, `{`, func() (any, string, error) { return one(c.ContainerImage(ctx, "lib/busybox")) }},
		{"FetchContainerImage", `POST /container_images {"id":"i","type":"","dest":"","source":""}`, `{}`, "null", func() (any, string, error) { return two(c.FetchContainerImage(ctx, ImageRequest{ID: "i"})) }},
		{"DeleteContainerImage", "DELETE /container_images/i", `{}`, "null", func() (any, string, error) { return two(c.DeleteContainerImage(ctx, "i")) }},
		{"Jobs", "GET /jobs", `[{"ID":"a"}]`, `[{"ID":"a"`, func() (any, string, error) { return one(c.Jobs(ctx, 0)) }},
		{"Jobs limited", "GET /jobs?limit=5", `[]`, `[]`, func() (any, string, error) { return one(c.Jobs(ctx, 5)) }},
		{"Job", "GET /jobs/j", `{"ID":"j"}`, `{"ID":"j"`, func() (any, string, error) { return one(c.Job(ctx, "j")) }},
		{"GuestJobs", "GET /guests/G/jobs?limit=2", `[]`, `[]`, func() (any, string, error) { return one(c.GuestJobs(ctx, "G", 2)) }},
		{"GuestJob", "GET /guests/G/jobs/j", `{"ID":"j"}`, `{"ID":"j"`, func() (any, string, error) { return one(c.GuestJob(ctx, "G", "j")) }},
		{"Guests", "GET /guests", `[{"id":"a"}]`, `[{"id":"a"}]`, func() (any, string, error) { return one(c.Guests(ctx)) }},
		{"Guest", "GET /guests/G", `{"id":"G"}`, `{"id":"G"}`, func() (any, string, error) { return one(c.Guest(ctx, "G")) }},
		{"a hostile id", "GET /guests/..%2F..%2Fx%3Fy", `{"id":"G"}`, `{"id":"G"}`, func() (any, string, error) { return one(c.Guest(ctx, "../../x?y")) }},
		{"an id of dots", "GET /guests/%2E%2E", `{"id":"G"}`, `{"id":"G"}`, func() (any, string, error) { return one(c.Guest(ctx, "..")) }},
		{"CreateGuest", `POST /guests {"id":"","cpu":1}`, `{"id":"G"}`, `{"id":"G"}`, func() (any, string, error) { return c.CreateGuest(ctx, Guest{CPU: 1}) }},
		{"DefineGuest", `POST /guests/G/define {"id":"G","cpu":1}`, `{"id":"G"}`, `{"id":"G"}`, func() (any, string, error) { return c.DefineGuest(ctx, Guest{ID: "G", CPU: 1}) }},
		{"DeleteGuest", "DELETE /guests/G", `{"id":"G"}`, `null`, func() (any, string, error) { return two(c.DeleteGuest(ctx, "G")) }},
		{"Act", "POST /guests/G/resume", `{"id":"G"}`, `{"id":"G"}`, func() (any, string, error) { return c.Act(ctx, "G", "resume") }},
		{"GuestMetadata", "GET /guests/G/metadata", `null`, `null`, func() (any, string, error) { return one(c.GuestMetadata(ctx, "G")) }},
		{"PatchGuestMetadata", `PATCH /guests/G/metadata {"a":null}`, `{}`, `{}`, func() (any, string, error) { return one(c.PatchGuestMetadata(ctx, "G", MetadataPatch{"a": nil})) }},
		{"CPUMetrics", "GET /guests/G/metrics/cpu", `[{"cpu_time":1}]`, `[{"cpu_time":1`, func() (any, string, error) { return one(c.CPUMetrics(ctx, "G")) }},
		{"DiskMetrics", "GET /guests/G/metrics/disk", `{"vda":{"read_ops":1}}`, `{"vda":{"disk":"","read_ops":1`, func() (any, string, error) { return one(c.DiskMetrics(ctx, "G")) }},
		{"NICMetrics", "GET /guests/G/metrics/nic", `{"net0":null}`, `{"net0":{"name":""`, func() (any, string, error) { return one(c.NICMetrics(ctx, "G")) }},
		{"Snapshots", "GET /guests/G/snapshots", `[{"id":"s","size":1}]`, `[{"id":"s","size":1}]`, func() (any, string, error) { return one(c.Snapshots(ctx, SnapshotID{Guest: "G"})) }},
		{"Snapshots of a disk", "GET /guests/G/disks/0/snapshots", `null`, `null`, func() (any, string, error) { return one(c.Snapshots(ctx, disk)) }},
		{"Snapshot", "GET /guests/G/snapshots/s1", `[]`, `[]`, func() (any, string, error) { return one(c.Snapshot(ctx, all)) }},
		{"CreateSnapshot", `POST /guests/G/snapshots {"id":"","dest":"s1","recursive":true,"destroyMoreRecent":false}`, `{}`, `null`, func() (any, string, error) { return two(c.CreateSnapshot(ctx, all)) }},
		{"CreateSnapshot of a disk", `POST /guests/G/disks/0/snapshots {"id":"","dest":"s1","recursive":false,"destroyMoreRecent":false}`, `{}`, `null`, func() (any, string, error) { return two(c.CreateSnapshot(ctx, disk)) }},
		{"DeleteSnapshot", "DELETE /guests/G/disks/0/snapshots/s1", `{}`, `null`, func() (any, string, error) { return two(c.DeleteSnapshot(ctx, disk)) }},
		{"Rollback", `POST /guests/G/snapshots/s1/rollback {"id":"","dest":"","recursive":false,"destroyMoreRecent":true}`, `{}`, `null`, func() (any, string, error) { return two(c.Rollback(ctx, all, true)) }},
		{"ProvisionGuest", `POST /guests/G/provision {"id":"G"}`, `{}`, `null`, func() (any, string, error) { return two(c.ProvisionGuest(ctx, Guest{ID: "G"})) }},
		{"DeprovisionGuest", `POST /guests/G/deprovision {"id":"G"}`, `{}`, `null`, func() (any, string, error) { return two(c.DeprovisionGuest(ctx, Guest{ID: "G"})) }},
		{"GuestStatus", "GET /v1/status?id=G", `{"complete":true,"guests":[]}`, `{"complete":true,"guests":[]}`, func() (any, string, error) { return one(c.GuestStatus(ctx, "G")) }},
		{"Status", "GET /v1/status", `{"complete":true,"guests":[]}`, `{"complete":true,"guests":[]}`, func() (any, string, error) { return one(c.Status(ctx)) }},
		{"MigrateGuest", `POST /guests/G/migrate {"to":"qemu+tls://h2/system"}`, `{}`, `null`, func() (any, string, error) {
			return two(c.MigrateGuest(ctx, "G", MigrateRequest{To: "qemu+tls://h2/system"}))
		}},
		{"Settle", "PUT /v1/guests/G/fence?wait=30s", `{"jobs":2}`, `{"jobs":2}`, func() (any, string, error) { return one(c.Settle(ctx, "G", 30*time.Second)) }},
		{"ResetFence", "DELETE /v1/guests/G/fence", ``, `null`, func() (any, string, error) { return one(nil, c.ResetFence(ctx, "G")) }},
	} {
		t.Run(x.name, func(t *testing.T) {
			a.body = x.body
			value, job, err := x.do()
			if err != nil || a.got != x.want {
				t.Errorf("it asked %q, want %q: %v", a.got, x.want, err)
			}
			if job != noJob && job != jobID {
				t.Errorf("the job is %q", job)
			}
			if text, _ := json.Marshal(value); !strings.HasPrefix(string(text), x.value) {
				t.Errorf("it returned %s, want %s", text, x.value)
			}
		})
	}
}

func TestClientHeaders(t *testing.T) {
	a := &agent{status: 200, body: `[]`}
	c := newClient(t, a, ClientOptions{Token: func() string { return "secret" }})
	ctx := trail.With(context.Background(), trail.Trail{Transaction: "t", Reason: "a b", Token: trail.Token{Epoch: 1, Number: 2}})
	if _, err := c.Guests(ctx); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"Authorization": "Bearer secret", HeaderTransaction: "t", HeaderReason: "a%20b", HeaderToken: "1.2", HeaderSource: ""} {
		if got := a.seen.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestClientErrors(t *testing.T) {
	html := http.Header{"Content-Type": {"text/html"}}
	for _, x := range []struct {
		name   string
		status int
		body   string
		header http.Header
		want   string
		is     error
	}{
		{"Mistify's words", 404, `{"message":"not found","code":404,"stack":["a"]}`, nil, "refused GET /guests/G: not found", virt.ErrNotFound},
		{"a kind", 409, `{"message":"it runs","code":409,"kind":"busy"}`, nil, "it runs", virt.ErrBusy},
		{"a conflict", 409, `{"message":"taken","code":409}`, nil, "taken", virt.ErrConflict},
		{"fenced", 412, `{"message":"old","code":412}`, nil, "old", ErrFenced},
		{"too many", 429, `{"message":"full","code":429}`, nil, "full", ErrTooMany},
		{"denied", 401, `{"message":"who","code":401}`, nil, "who", ErrDenied},
		{"bad", 400, `{"message":"bad","code":400}`, nil, "bad", virt.ErrInvalid},
		{"not made", 501, `{"message":"no","code":501}`, nil, "no", virt.ErrUnsupported},
		{"another code in the body", 404, `{"message":"x","code":200}`, nil, "x", virt.ErrNotFound},
		{"a path it does not serve", 404, `404 page not found`, html, "it answered 404 Not Found", virt.ErrUnsupported},
		{"a proxy", 502, `<html>`, html, "it answered 502", virt.ErrUnreachable},
		{"elsewhere", 302, ``, http.Header{"Location": {"http://127.0.0.1:1/"}}, "it answered 302", nil},
		{"no JSON", 200, `<html>`, nil, "cannot read the agent's answer", virt.ErrUnreachable},
		{"nothing", 200, ``, nil, "there is nothing", virt.ErrUnreachable},
		{"cut", 200, `{"id":`, nil, "breaks off", virt.ErrUnreachable},
		{"half", 200, `{"id":`, http.Header{"Content-Length": {"100"}}, "cannot read the agent's answer", virt.ErrUnreachable},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := newClient(t, &agent{status: x.status, body: x.body, header: x.header}, ClientOptions{})
			_, err := c.Guest(context.Background(), "G")
			if err == nil || !strings.Contains(err.Error(), x.want) || x.is != nil && !errors.Is(err, x.is) {
				t.Errorf("%v, want %q, %v", err, x.want, x.is)
			}
		})
	}
	t.Run("nobody", func(t *testing.T) {
		c, err := NewClient("http://127.0.0.1:1", ClientOptions{Transport: &http.Transport{}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Guests(context.Background()); !errors.Is(err, virt.ErrUnreachable) {
			t.Error(err)
		}
	})
	t.Run("no live listing", func(t *testing.T) {
		c := newClient(t, http.NotFoundHandler(), ClientOptions{})
		if _, err := c.Status(context.Background()); !errors.Is(err, virt.ErrUnsupported) || errors.Is(err, virt.ErrNotFound) {
			t.Error(err)
		}
		c = newClient(t, &agent{status: 404, body: `{"message":"not found","code":404}`}, ClientOptions{})
		if _, err := c.Status(context.Background()); !errors.Is(err, virt.ErrUnsupported) || errors.Is(err, virt.ErrNotFound) {
			t.Error(err)
		}
	})
	t.Run("no job", func(t *testing.T) {
		for _, header := range []http.Header{nil, {HeaderJob: {"../x"}}} {
			c := newClient(t, &agent{status: 202, body: `{}`, header: header}, ClientOptions{})
			if _, _, err := c.Act(context.Background(), "G", "start"); !errors.Is(err, errNoJob) {
				t.Error(err)
			}
		}
	})
	t.Run("bases", func(t *testing.T) {
		for _, base := range []string{"", "127.0.0.1:80", "ftp://x", "http://", "http://a:b@c", "http://a/?b"} {
			if _, err := NewClient(base, ClientOptions{}); !errors.Is(err, virt.ErrInvalid) {
				t.Errorf("%q: %v", base, err)
			}
		}
	})
	t.Run("which snapshot", func(t *testing.T) {
		c := newClient(t, http.NotFoundHandler(), ClientOptions{})
		s := SnapshotID{Guest: "G"}
		_, err1 := c.Snapshot(context.Background(), s)
		_, err2 := c.DeleteSnapshot(context.Background(), s)
		_, err3 := c.Rollback(context.Background(), s, false)
		_, err4 := c.DownloadSnapshot(context.Background(), s)
		for _, err := range []error{err1, err2, err3, err4} {
			if !errors.Is(err, virt.ErrInvalid) {
				t.Error(err)
			}
		}
	})
}

// WaitJob asks again until the job ends, also an agent that does not wait.
func TestWaitJob(t *testing.T) {
	var asked atomic.Int32
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := JobRunning
		if asked.Add(1) == 2 {
			status = JobError
		}
		if r.URL.Query().Get("wait") != "30s" {
			t.Errorf("it asks %s", r.URL)
		}
		_ = json.NewEncoder(w).Encode(Job{ID: jobID, Action: "start", Status: status, Message: "it broke", Kind: KindBusy})
	})
	c := newClient(t, h, ClientOptions{})
	j, err := c.WaitJob(within(t, 20*time.Second), jobID)
	if n := asked.Load(); err != nil || n != 2 || j.Status != JobError {
		t.Errorf("%+v, %v, asked %d times", j, err, n)
	}
	if err := j.Err(); !errors.Is(err, virt.ErrBusy) || err.Error() != "the agent's job "+jobID+" (start) failed: it broke" {
		t.Errorf("its error is %v", err)
	}
	if err := (Job{Status: JobComplete}).Err(); err != nil {
		t.Error(err)
	}
	if _, err := c.WaitJob(within(t, 200*time.Millisecond), jobID); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("in too little time: %v", err)
	}
	if n := asked.Load(); n > 3 {
		t.Errorf("it asked %d times in a fifth of a second", n-2)
	}
}

func TestClientDownload(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", octets)
		switch r.URL.Path {
		case "/guests/G/snapshots/whole/download":
			_, _ = io.WriteString(w, "foobar")
		case "/guests/G/disks/0/snapshots/broken/download":
			_, _ = io.WriteString(w, strings.Repeat("x", 100_000))
			panic(http.ErrAbortHandler)
		case "/guests/G/snapshots/part/download":
			_, _ = io.WriteString(w, r.URL.Query().Get("from")+" "+r.URL.Query().Get("resume"))
		default:
			http.Error(w, `{"message":"not found","code":404}`, http.StatusNotFound)
		}
	})
	c := newClient(t, h, ClientOptions{})
	d, err := c.DownloadSnapshot(context.Background(), SnapshotID{Guest: "G", Name: "whole"})
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(d)
	if err != nil || string(data) != "foobar" || d.ContentType != octets || d.Length != 6 {
		t.Errorf("%q, %+v, %v", data, d, err)
	}
	_ = d.Close()
	d, err = c.DownloadSnapshot(context.Background(), SnapshotID{Guest: "G", Disk: "0", Name: "broken"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, d); err == nil {
		t.Error("a download that broke off looks whole")
	}
	_ = d.Close()
	d, err = c.DownloadPart(context.Background(), SnapshotID{Guest: "G", Name: "part"}, "a:b", "1-2&x=y")
	if err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(d); err != nil || string(data) != "a:b 1-2&x=y" {
		t.Errorf("it was asked for %q (%v)", data, err)
	}
	_ = d.Close()
	if _, err := c.DownloadSnapshot(context.Background(), SnapshotID{Guest: "G", Name: "none"}); !errors.Is(err, virt.ErrNotFound) {
		t.Errorf("one that is not there: %v", err)
	}
}

func Example() {
	// A sub-agent that knows one action.
	s := NewServer(ServerOptions{})
	Register(s, "Hello.Create", func(_ context.Context, r *GuestRequest) (*GuestResponse, error) {
		r.Guest.State = "running"
		return &GuestResponse{Guest: r.Guest, Message: "hello"}, nil
	})
	ln, err := Listen(Endpoint{})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, ln) }()

	// What an agent does with it.
	var port int
	_, _ = fmt.Sscanf(ln.Addr().String(), "127.0.0.1:%d", &port)
	service, err := NewRPC(Endpoint{Port: port}, RPCOptions{Name: "hello"})
	if err != nil {
		fmt.Println(err)
		return
	}
	soon, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var response GuestResponse
	err = service.Call(soon, "Hello.Create", &GuestRequest{Guest: &Guest{ID: "0f8fad5b-d9cb-469f-a165-70867728950e"}, Action: "create"}, &response)
	fmt.Println(response.Guest.State, response.Message, err)

	service.Close()
	stop()
	fmt.Println(<-ended)
	// Output:
	// running hello <nil>
	// <nil>
}
