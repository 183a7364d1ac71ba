package agent

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

var update = flag.Bool("update", false, "write the golden files again")

// script is requests, one a line: METHOD PATH [HEADER: VALUE |]... [BODY]. What
// is async is waited for.
type script struct {
	name  string
	setup func(o *hostOptions)
	lines []string
}

const (
	vm1  = "0f8fad5b-d9cb-469f-a165-70867728950e"
	ct1  = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
	none = "00000000-0000-4000-8000-00000000dead"
)

func scripts() []script {
	made := `POST /guests {"id":"` + vm1 + `","type":"vm","memory":512,"cpu":1,"disks":[{"bus":"virtio","device":"vda","size":1024}],"nics":[{"network":"br0","model":"virtio"}]}`
	return []script{
		{name: "metadata", lines: []string{
			"GET /metadata", `PATCH /metadata {"a":"1","b":"2"}`, `PATCH /metadata {"a":null,"b":"","c":"3"}`, "GET /metadata",
			`PATCH /metadata {"a":1}`, `PATCH /metadata nonsense`, `PATCH /metadata ["a"]`, `PATCH /metadata {"\u0001":"x"}`, `PATCH /metadata {} {}`,
		}},
		{name: "guests", lines: []string{
			"GET /guests", made, "GET /guests", "GET /guests/" + vm1, "GET /guests/" + strings.ToUpper(vm1), made,
			`POST /guests {"type":"vm"}`, `POST /guests {"id":"nobody"}`, `POST /guests {"id":"` + vm1 + `","type":"../x"}`, "POST /guests", `POST /guests {`,
			"GET /guests/" + none, "GET /guests/..%2Fetc", "GET /guests/" + vm1 + "/metadata", "PATCH /guests/" + vm1 + `/metadata {"k":"v"}`,
			"GET /guests/" + vm1 + "/metadata", "PATCH /guests/" + none + `/metadata {"k":"v"}`, "GET /guests/" + none + "/metadata",
			"HEAD /guests/" + vm1, "DELETE /guests/" + none, "DELETE /guests/" + vm1, "GET /guests/" + vm1,
		}},
		{name: "actions", lines: []string{
			made, "POST /guests/" + vm1 + "/start", "POST /guests/" + vm1 + "/shutdown", "POST /guests/" + vm1 + "/reboot", "POST /guests/" + vm1 + "/restart",
			"POST /guests/" + vm1 + "/poweroff", "POST /guests/" + vm1 + "/suspend", "POST /guests/" + vm1 + "/resume", "GET /guests/" + vm1 + "/start",
			"GET /guests/" + vm1 + "/start Sec-Fetch-Site: cross-site", "GET /guests/" + vm1 + "/start Sec-Purpose: prefetch", "HEAD /guests/" + vm1 + "/start",
			"POST /guests/" + vm1 + "/start Sec-Fetch-Site: cross-site", "POST /guests/" + vm1 + "/dance", "POST /guests/" + none + "/start", "PUT /guests/" + vm1 + "/start",
			"POST /guests/" + vm1 + "/undefine", "GET /guests/" + vm1, "POST /guests/" + vm1 + "/define", "POST /guests/" + vm1 + `/define {"type":"vm","memory":64}`, "GET /guests/" + vm1,
			"POST /guests/" + vm1 + `/define {"memory":128}`, "GET /guests/" + vm1, "POST /guests/" + vm1 + `/define {"id":"` + ct1 + `"}`,
			"POST /guests/" + ct1 + `/provision {"type":"vm"}`, "GET /guests/" + ct1, "POST /guests/" + ct1 + "/deprovision", "POST /guests/" + vm1 + "/deprovision",
			"POST /guests/" + vm1 + "/delete", "GET /guests/" + vm1,
		}},
		{name: "get-actions", lines: []string{
			made, "GET /guests/" + vm1 + "/shutdown", "GET /guests/" + vm1 + "/reboot", "GET /guests/" + vm1 + "/restart", "GET /guests/" + vm1 + "/poweroff", "GET /guests/" + vm1 + "/suspend",
			"GET /guests/" + vm1 + "/delete",
		}},
		{name: "get-actions-off", setup: func(o *hostOptions) { o.cfg.GetActions = false }, lines: []string{made, "GET /guests/" + vm1 + "/start", "POST /guests/" + vm1 + "/start"}},
		{name: "containers", lines: []string{
			`POST /guests {"id":"` + ct1 + `","type":"container","image":"busybox"}`, "POST /guests/" + ct1 + "/start", "GET /jobs?limit=1",
			"POST /guests/" + ct1 + "/delete",
		}},
		{name: "save", lines: []string{
			made, `POST /guests {"id":"` + ct1 + `","type":"container","image":"busybox"}`, "POST /guests/" + ct1 + `/save {"dest":"team/web:1"}`, "GET /jobs?limit=1",
			"POST /guests/" + ct1 + `/save {"id":"` + vm1 + `","dest":"team/web:2","job":"mine"}`, "POST /guests/" + ct1 + "/save {}", "POST /guests/" + ct1 + "/save", "POST /guests/" + ct1 + `/save {"dest":"../x"}`,
			"POST /guests/" + ct1 + `/save {"dest":"-rf"}`, "POST /guests/" + vm1 + `/save {"dest":"a"}`, "POST /guests/" + none + `/save {"dest":"a"}`, "GET /guests/" + ct1 + "/save",
		}},
		{name: "jobs", lines: []string{
			"GET /jobs", made, "POST /guests/" + vm1 + "/start", "GET /jobs", "GET /jobs?limit=1", "GET /jobs?limit=0", "GET /jobs?limit=x", "GET /jobs/JOB1", "GET /jobs/JOB2?wait=1s",
			"GET /jobs/JOB2?wait=often", "GET /jobs/" + none, "GET /jobs/x", "GET /guests/" + vm1 + "/jobs", "GET /guests/" + vm1 + "/jobs?limit=1", "GET /guests/" + vm1 + "/jobs/JOB2",
			"GET /guests/" + ct1 + "/jobs/JOB2", "GET /guests/" + ct1 + "/jobs",
		}},
		{name: "metrics", lines: []string{
			made, "GET /guests/" + vm1 + "/metrics/cpu", "GET /guests/" + vm1 + "/metrics/disk", "GET /guests/" + vm1 + "/metrics/nic", "GET /guests/" + none + "/metrics/cpu",
			"GET /guests/" + vm1 + "/metrics/gpu",
		}},
		{name: "snapshots", lines: []string{
			made, "GET /guests/" + vm1 + "/snapshots", "POST /guests/" + vm1 + `/snapshots {"dest":"one"}`, "POST /guests/" + vm1 + "/snapshots", "GET /guests/" + vm1 + "/snapshots/one",
			"POST /guests/" + vm1 + `/snapshots/one/rollback {"destroyMoreRecent":true}`, "DELETE /guests/" + vm1 + "/snapshots/one", "GET /guests/" + vm1 + "/snapshots/one/download",
			"GET /guests/" + vm1 + "/disks/0/snapshots", "POST /guests/" + vm1 + `/disks/0/snapshots {"dest":"two"}`, "GET /guests/" + vm1 + "/disks/0/snapshots/two",
			"POST /guests/" + vm1 + "/disks/0/snapshots/two/rollback", "DELETE /guests/" + vm1 + "/disks/0/snapshots/two", "GET /guests/" + vm1 + "/disks/0/snapshots/two/download",
			"POST /guests/" + vm1 + `/snapshots {"dest":"-rf"}`, "GET /guests/" + vm1 + "/snapshots/a@b", "GET /guests/" + vm1 + "/disks/..%2f0/snapshots", "GET /guests/" + none + "/snapshots",
			"POST /guests/" + vm1 + `/snapshots/one/rollback {"destroyMoreRecent":"yes"}`,
		}},
		{name: "images", lines: []string{
			"GET /images", "GET /images?type=container", "GET /images?type=..", "GET /images/img", `POST /images {"id":"img","source":"http://127.0.0.1/x"}`, `POST /images {}`, `POST /images {"id":"a/b"}`,
			`POST /images {"id":"lib/busybox:1","type":"container"}`, "DELETE /images/img", "GET /container_images", "GET /container_images/lib%2Fbusybox:1", `POST /container_images {"id":"lib/busybox:1"}`,
			"DELETE /container_images/lib%2Fbusybox:1", "GET /images/%2e%2e", "GET /jobs",
			"PUT /images/sent/content?size=3 abc", "PUT /images/sent/content?size=4 abc", "PUT /images/sent/content?size=many abc", "PUT /images/-sent/content abc",
		}},
		{name: "no-images", setup: func(o *hostOptions) {
			o.sub.image = func(string, *mistify.ImageRequest) (*mistify.ImageResponse, error) {
				return &mistify.ImageResponse{}, nil
			}
		}, lines: []string{"GET /images", "GET /images/img", "DELETE /images/img"}},
		{name: "status", setup: func(o *hostOptions) {
			o.sub.status = func(*mistify.StatusRequest) (*mistify.StatusResponse, error) {
				return &mistify.StatusResponse{Complete: true, Capacity: virt.Capacity{CPU: 8, Memory: 4096}, Guests: []mistify.Seen{
					{ID: vm1, State: virt.Running, CPU: 1, Memory: 512}, {ID: ct1, Name: "other", State: virt.Stopped}, {ID: "", Name: "nameless", State: virt.Paused},
				}}, nil
			}
		}, lines: []string{made, "GET /v1/status", "GET /v1/status?id=" + vm1, "GET /v1/status?id=x", "DELETE /v1/guests/" + vm1 + "/fence", "DELETE /v1/guests/" + none + "/fence", "GET /healthz"}},
		{name: "unconfigured", setup: func(o *hostOptions) {
			o.cfg.Actions = map[string]ActionConfig{"create": o.cfg.Actions["create"]}
		}, lines: []string{
			made, "GET /v1/status", "GET /images", "GET /guests/" + vm1 + "/metrics/cpu", "POST /guests/" + vm1 + "/restart", "POST /guests/" + vm1 + "/undefine", "GET /guests/" + vm1 + "/snapshots",
			"GET /guests/" + vm1 + "/snapshots/a/download", `POST /guests {"type":"container"}`, `POST /images {"id":"a"}`, "GET /debug/pprof", "GET /nothing",
		}},
		{name: "fence", lines: []string{
			made + "", "POST /guests/" + vm1 + "/start Vagoth-Token: 2.7", "POST /guests/" + vm1 + "/start Vagoth-Token: 2.6", "POST /guests/" + vm1 + "/start Vagoth-Token: 2.7",
			"PATCH /guests/" + vm1 + `/metadata Vagoth-Token: 1.9|{"a":"b"}`, "GET /guests/" + vm1 + " Vagoth-Token: 1.9", "POST /guests/" + vm1 + "/start", "POST /guests/" + vm1 + "/start Vagoth-Token: x",
			"DELETE /v1/guests/" + vm1 + "/fence", "POST /guests/" + vm1 + "/start Vagoth-Token: 1.1",
			"PUT /v1/guests/" + vm1 + "/fence Vagoth-Token: 3.1", "PUT /v1/guests/" + vm1 + "/fence?wait=x", "PUT /v1/guests/" + vm1 + "/fence Vagoth-Token: 3.0", "PUT /v1/guests/" + none + "/fence Vagoth-Token: 3.0",
			"POST /guests/" + vm1 + `/migrate Vagoth-Token: 3.1|{"to":"qemu+tls://h2/system"}`, "POST /guests/" + vm1 + "/start Vagoth-Token: 3.1", "POST /guests/" + vm1 + `/migrate Vagoth-Token: 3.2|{"to":""}`,
		}},
		{name: "sub-agent-errors", setup: badSubAgents, lines: []string{
			made, "GET /guests/" + vm1 + "/metrics/cpu", "GET /guests/" + vm1 + "/metrics/disk", "GET /guests/" + vm1 + "/metrics/nic", "GET /guests/" + vm1 + "/snapshots/plain",
			"GET /guests/" + vm1 + "/snapshots/not_found", "GET /guests/" + vm1 + "/snapshots/busy", "GET /guests/" + vm1 + "/snapshots/conflict", "GET /guests/" + vm1 + "/snapshots/invalid",
			"GET /guests/" + vm1 + "/snapshots/unsupported", "GET /guests/" + vm1 + "/snapshots/unreachable", "GET /guests/" + vm1 + "/snapshots/timeout", "GET /guests/" + vm1 + "/snapshots/fenced",
			"GET /guests/" + vm1 + "/snapshots/too_many", "GET /guests/" + vm1 + "/snapshots/denied", "POST /guests/" + vm1 + "/snapshots/busy/rollback", "GET /jobs?limit=1",
			"GET /guests/" + vm1 + "/snapshots/one/download", "GET /images", "GET /v1/status",
		}},
		{name: "console", lines: []string{made, "POST /guests/" + none + "/console", "GET /guests/" + vm1 + "/console"}},
		{name: "full", setup: func(o *hostOptions) { o.cfg.MaxGuests = 1 }, lines: []string{made, `POST /guests {"type":"vm"}`, "GET /guests"}},
		{name: "require-token", setup: func(o *hostOptions) { o.cfg.RequireToken = true }, lines: []string{made, "GET /guests", `POST /guests Vagoth-Token: 1.1|{"id":"` + vm1 + `"}`, "POST /guests/" + vm1 + "/start"}},
	}
}

// badSubAgents has sub-agents that hang, are down, answer garbage, and fail in
// every way that there is a word for.
func badSubAgents(o *hostOptions) {
	o.cfg.Services["hangs"] = ServiceConfig{Timeout: 50 * time.Millisecond}
	o.cfg.Services["garbage"] = ServiceConfig{}
	o.cfg.Services["down"] = ServiceConfig{Port: 1}
	o.subs = map[string]http.Handler{
		"hangs": http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // before that nobody notices that the other side has gone
			<-r.Context().Done()
		}),
		"garbage":  http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }),
		"download": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no such snapshot", 404) }),
	}
	for action, service := range map[string]string{"cpuMetrics": "hangs", "diskMetrics": "down", "nicMetrics": "garbage", "listImages": "garbage", "status": "down"} {
		o.cfg.Actions[action].Stages[0].Service = service
	}
	o.sub.snap = func(_ string, r *mistify.SnapshotRequest) (*mistify.SnapshotResponse, error) {
		_, name, _ := strings.Cut(r.ID, "@")
		if err := mistify.ErrorKind(name).Err(); err != nil {
			return nil, fmt.Errorf("cannot do it: %w", err)
		}
		return nil, errNo
	}
}

// Every endpoint and every error is as it was.
func TestGolden(t *testing.T) {
	used := map[string]bool{}
	for _, sc := range scripts() {
		t.Run(sc.name, func(t *testing.T) {
			cfg := testConfig()
			o := hostOptions{cfg: &cfg, sub: newSub(), deps: Deps{Now: func() time.Time { return time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC) }, Version: "test"}}
			if sc.setup != nil {
				sc.setup(&o)
			}
			h := newHost(t, o)
			got := h.play(sc.lines, used)
			file := filepath.Join("testdata", "golden", sc.name+".txt")
			if *update {
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				a, b := strings.Split(got, "\n"), strings.Split(string(want), "\n")
				for i := range min(len(a), len(b)) {
					if a[i] != b[i] {
						t.Fatalf("line %d:\n got %s\nwant %s", i+1, a[i], b[i])
					}
				}
				t.Fatalf("%d lines, want %d", len(a), len(b))
			}
		})
	}
	s := &server{a: &Agent{cfg: testConfig()}}
	for _, r := range s.routes() {
		if !used[r.method+" "+r.path] && r.path != "/v1/openapi.json" {
			t.Errorf("no script asks %s %s", r.method, r.path)
		}
	}
}

var (
	anyID  = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	header = regexp.MustCompile(`^((?:Vagoth|Sec)-[A-Za-z-]+): ([^|{]*)\|?`)
)

// play sends the requests and writes what was answered, with ids that are made
// up named in the order in which they came.
func (h *host) play(lines []string, used map[string]bool) string {
	names, jobs := map[string]string{vm1: vm1, ct1: ct1, none: none}, map[string]string{}
	made := 0
	anonymous := func(text string) string {
		return anyID.ReplaceAllStringFunc(text, func(id string) string {
			if names[id] == "" {
				made++
				names[id] = fmt.Sprintf("ID%d", made)
			}
			return names[id]
		})
	}
	var out bytes.Buffer
	for _, line := range lines {
		fmt.Fprintf(&out, "> %s\n", line)
		words := strings.SplitN(line, " ", 3)
		method, path, rest := words[0], words[1], ""
		if len(words) == 3 {
			rest = words[2]
		}
		for name, id := range jobs {
			path = strings.ReplaceAll(path, name, id)
		}
		var headers []string
		if m := header.FindStringSubmatch(rest); m != nil {
			headers, rest = []string{m[1], m[2]}, rest[len(m[0]):]
		}
		a := h.do(method, path, rest, headers...)
		used[method+" "+pattern(path)] = true
		fmt.Fprintf(&out, "%d %s", a.status, a.header.Get("Content-Type"))
		if id := a.job(); id != "" {
			name := fmt.Sprintf("JOB%d", len(jobs)+1)
			jobs[name], names[id] = id, name
			fmt.Fprintf(&out, " %s: %s", mistify.HeaderJob, name)
			h.ended(id)
		}
		for _, name := range []string{"Allow", "Retry-After"} {
			if v := a.header.Get(name); v != "" {
				fmt.Fprintf(&out, " %s: %s", name, v)
			}
		}
		fmt.Fprintf(&out, "\n%s\n\n", strings.TrimSuffix(anonymous(a.body), "\n"))
	}
	return out.String()
}

// pattern is the route of a path, as far as the scripts need it.
func pattern(path string) string {
	path, _, _ = strings.Cut(path, "?")
	parts := strings.Split(path, "/")
	for i := 2; i < len(parts); i++ {
		name, ok := map[string]string{"guests": ":guest", "jobs": ":job", "images": ":image", "container_images": ":image", "disks": ":disk", "snapshots": ":name"}[parts[i-1]]
		if ok && !slices.Contains([]string{":guest"}, parts[i]) {
			parts[i] = name
		}
	}
	return strings.Join(parts, "/")
}
