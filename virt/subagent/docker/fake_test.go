package docker_test

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// fake stands for a dockerd, as far as the sub-agent asks it. It is no test of
// Docker, which TestReal is.
type fake struct {
	t      *testing.T
	socket string
	server *http.Server

	mu         sync.Mutex
	containers map[string]*box // by id
	images     map[string]*img // by whole name
	asked      []string        // METHOD PATH
	archives   [][]byte        // that were loaded
	count      int
	before     func(w http.ResponseWriter, r *http.Request) bool // true: it answered
}

type box struct {
	ID, Name, State, Image string
	Labels                 map[string]string
	Memory, NanoCPUs       int64
	Networks               map[string]bool
	Signal                 string
	Tty, OpenStdin         bool
	lines                  []net.Conn // of who is attached
	began                  time.Time
}

type img struct {
	ID     string
	Size   int64
	Labels map[string]string
}

// newFake listens; the socket of a test is no longer than its path may be.
func newFake(t *testing.T) *fake {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "vagoth-docker-")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{t: t, socket: filepath.Join(dir, "s"), containers: map[string]*box{}, images: map[string]*img{}}
	f.images["docker.io/library/base:latest"] = &img{ID: "sha256:" + sum("base"), Size: 3 << 20}
	f.listen()
	t.Cleanup(func() {
		f.close()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return f
}

func (f *fake) listen() {
	ln, err := net.Listen("unix", f.socket)
	if err != nil {
		f.t.Fatal(err)
	}
	f.server = &http.Server{Handler: f, ReadHeaderTimeout: time.Minute}
	server := f.server
	go func() { _ = server.Serve(ln) }()
}

// close is a dockerd that ends.
func (f *fake) close() { _ = f.server.Close() }

func sum(text string) string {
	s := sha256.Sum256([]byte(text))
	return hex.EncodeToString(s[:])
}

func (f *fake) all() (names []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.containers {
		names = append(names, b.Name)
	}
	slices.Sort(names)
	return names
}

func (f *fake) boxNamed(name string) (box, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.containers {
		if b.Name == name {
			return *b, true
		}
	}
	return box{}, false
}

// loaded is how many archives were.
func (f *fake) loaded() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.archives)
}

// put changes what there is behind the sub-agent's back.
func (f *fake) put(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fake) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	got := f.asked
	f.asked = nil
	return got
}

func say(w http.ResponseWriter, status int, what any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if what != nil {
		_ = json.NewEncoder(w).Encode(what)
	}
}

func wrong(w http.ResponseWriter, status int, format string, args ...any) {
	say(w, status, map[string]string{"message": fmt.Sprintf(format, args...)})
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	before := f.before
	f.mu.Unlock()
	if before != nil && before(w, r) {
		return
	}
	path := r.URL.Path
	if path == "/_ping" {
		w.Header().Set("Api-Version", "1.41")
		return
	}
	path = strings.TrimPrefix(path, "/v1.41")
	if path == "/images/load" {
		f.load(w, r)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, r.Method+" "+path)
	switch words := strings.Split(strings.Trim(path, "/"), "/"); {
	case path == "/info":
		say(w, 200, map[string]any{"NCPU": 4, "MemTotal": 8 << 30})
	case path == "/containers/json":
		f.listContainers(w, r)
	case path == "/containers/create":
		f.create(w, r)
	case path == "/images/json":
		f.listImages(w)
	case path == "/images/create":
		f.pull(w, r)
	case path == "/commit":
		name := r.URL.Query().Get("repo") + ":" + r.URL.Query().Get("tag")
		f.images[name] = &img{ID: "sha256:" + sum(name), Size: 1 << 20, Labels: map[string]string{}}
		for _, change := range r.URL.Query()["changes"] {
			if key, value, ok := strings.Cut(strings.TrimPrefix(change, "LABEL "), "="); ok {
				f.images[name].Labels[key] = strings.Trim(value, `"`)
			}
		}
		say(w, 201, map[string]string{"Id": f.images[name].ID})
	case words[0] == "images":
		f.image(w, r, strings.TrimSuffix(strings.TrimPrefix(path, "/images/"), "/json"))
	case words[0] == "networks":
		f.connect(w, r, words[1])
	case words[0] == "containers" && len(words) >= 2:
		verb := ""
		if len(words) > 2 {
			verb = words[2]
		}
		f.container(w, r, words[1], verb)
	default:
		wrong(w, 404, "page not found")
	}
}

func (f *fake) listContainers(w http.ResponseWriter, r *http.Request) {
	var filters map[string]map[string]bool
	_ = json.Unmarshal([]byte(r.URL.Query().Get("filters")), &filters)
	list := []map[string]any{}
	for _, b := range f.containers {
		match := true
		for label := range filters["label"] {
			key, value, exact := strings.Cut(label, "=")
			has, ok := b.Labels[key]
			match = match && ok && (!exact || has == value)
		}
		if match {
			list = append(list, map[string]any{"Id": b.ID, "Names": []string{"/" + b.Name}, "Labels": b.Labels, "State": b.State})
		}
	}
	say(w, 200, list)
}

func (f *fake) create(w http.ResponseWriter, r *http.Request) {
	var c struct {
		Image, StopSignal string
		Tty, OpenStdin    bool
		Labels            map[string]string
		HostConfig        struct {
			Memory, NanoCpus int64
			NetworkMode      string
		}
	}
	_ = json.NewDecoder(r.Body).Decode(&c)
	name := r.URL.Query().Get("name")
	for _, b := range f.containers {
		if b.Name == name {
			wrong(w, 409, "Conflict. The container name %q is already in use", name)
			return
		}
	}
	if f.images[c.Image] == nil {
		wrong(w, 404, "No such image: %s", c.Image)
		return
	}
	f.count++
	b := &box{ID: sum(fmt.Sprint(name, f.count)), Name: name, State: "created", Image: c.Image, Labels: c.Labels, Tty: c.Tty, OpenStdin: c.OpenStdin, Memory: c.HostConfig.Memory, NanoCPUs: c.HostConfig.NanoCpus, Networks: map[string]bool{}}
	if c.HostConfig.NetworkMode != "none" {
		b.Networks[c.HostConfig.NetworkMode] = true
	}
	f.containers[b.ID] = b
	say(w, 201, map[string]any{"Id": b.ID})
}

func (f *fake) connect(w http.ResponseWriter, r *http.Request, name string) {
	var c struct{ Container string }
	_ = json.NewDecoder(r.Body).Decode(&c)
	if strings.HasPrefix(name, "none") {
		wrong(w, 404, "network %s not found", name)
		return
	}
	f.containers[c.Container].Networks[name] = true
	say(w, 200, nil)
}

func (f *fake) container(w http.ResponseWriter, r *http.Request, name, verb string) {
	b := f.containers[name]
	for _, other := range f.containers {
		if other.Name == name {
			b = other
		}
	}
	if b == nil {
		wrong(w, 404, "No such container: %s", name)
		return
	}
	runs := b.State == "running" || b.State == "paused"
	turn := func(ok bool, state string) {
		if !ok {
			wrong(w, 409, "Container %s is %s", name, b.State)
			return
		}
		if state == "running" && b.State != "paused" {
			b.began = time.Now()
		}
		b.State = state
		if state == "exited" {
			b.hangUp()
		}
		w.WriteHeader(204)
	}
	switch {
	case r.Method == http.MethodDelete:
		if runs && r.URL.Query().Get("force") != "1" {
			wrong(w, 409, "You cannot remove a running container")
			return
		}
		delete(f.containers, b.ID)
		w.WriteHeader(204)
	case verb == "json":
		networks := map[string]any{}
		for n := range b.Networks {
			networks[n] = map[string]any{"IPAddress": "172.17.0.2"}
		}
		say(w, 200, map[string]any{
			"Id": b.ID, "Name": "/" + b.Name, "State": map[string]any{"Status": b.State, "StartedAt": b.began.Format(time.RFC3339Nano)}, "Config": map[string]any{"Labels": b.Labels, "Tty": b.Tty, "OpenStdin": b.OpenStdin},
			"HostConfig": map[string]any{"Memory": b.Memory, "NanoCpus": b.NanoCPUs}, "NetworkSettings": map[string]any{"Networks": networks},
		})
	case verb == "stats":
		used := uint64(0)
		if runs {
			used = uint64(time.Since(b.began))
		}
		say(w, 200, map[string]any{"cpu_stats": map[string]any{"cpu_usage": map[string]any{"total_usage": used}}})
	case verb == "update":
		var c struct{ Memory, NanoCpus int64 }
		_ = json.NewDecoder(r.Body).Decode(&c)
		b.Memory, b.NanoCPUs = c.Memory, c.NanoCpus
		say(w, 200, map[string]any{})
	case verb == "attach":
		b.attach(w, r)
	case verb == "start" && b.State == "running":
		w.WriteHeader(304)
	case verb == "start", verb == "restart":
		turn(b.State != "paused" && b.State != "dead", "running")
	case verb == "stop" && !runs:
		w.WriteHeader(304)
	case verb == "stop":
		turn(true, "exited")
	case verb == "kill":
		b.Signal = r.URL.Query().Get("signal")
		turn(runs, "exited")
	case verb == "pause":
		turn(b.State == "running", "paused")
	case verb == "unpause":
		turn(b.State == "paused", "running")
	default:
		wrong(w, 404, "page not found")
	}
}

// attach is a terminal that repeats what is typed, or output in pieces.
func (b *box) attach(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("stream") != "1" || r.URL.Query().Get("stdin") == "1" != b.Tty || r.Header.Get("Upgrade") != "tcp" {
		wrong(w, 400, "who attaches like that?")
		return
	}
	line := upgrade(w)
	b.lines = append(b.lines, line)
	if !b.Tty {
		_, _ = line.Write([]byte("\x01\x00\x00\x00\x00\x00\x00\x04says\x02\x00\x00\x00\x00\x00\x00\x05 oops"))
		return
	}
	go func() {
		_, _ = io.WriteString(line, "/ # ")
		_, _ = io.Copy(line, line)
		_ = line.Close()
	}()
}

// upgrade answers as dockerd does where a connection is taken over.
func upgrade(w http.ResponseWriter) net.Conn {
	line, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	_, _ = io.WriteString(line, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	return line
}

// hangUp is the end of a container.
func (b *box) hangUp() {
	for _, line := range b.lines {
		_ = line.Close()
	}
	b.lines = nil
}

func (f *fake) listImages(w http.ResponseWriter) {
	list := []map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(f.images)) {
		familiar := strings.TrimPrefix(strings.TrimPrefix(name, "docker.io/"), "library/")
		list = append(list, map[string]any{"Id": f.images[name].ID, "RepoTags": []string{familiar}, "Size": f.images[name].Size})
	}
	say(w, 200, list)
}

func (f *fake) image(w http.ResponseWriter, r *http.Request, name string) {
	i := f.images[name]
	for _, other := range f.images {
		if other.ID == name {
			i = other
		}
	}
	if i == nil {
		wrong(w, 404, "No such image: %s", name)
		return
	}
	if r.Method == http.MethodDelete {
		for _, b := range f.containers {
			if b.Image == name {
				wrong(w, 409, "conflict: unable to remove, container %s is using it", b.ID)
				return
			}
		}
		delete(f.images, name)
		say(w, 200, []map[string]string{{"Untagged": name}})
		return
	}
	say(w, 200, map[string]any{"Id": i.ID, "Size": i.Size, "Config": map[string]any{"Labels": i.Labels}})
}

func (f *fake) pull(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("fromImage") + ":" + r.URL.Query().Get("tag")
	if strings.Contains(name, "none") {
		wrong(w, 404, "manifest for %s not found: manifest unknown", name)
		return
	}
	f.images[name] = &img{ID: "sha256:" + sum(name), Size: 2 << 20}
	_, _ = fmt.Fprint(w, `{"status":"Pulling from x","id":"latest"}`+"\r\n"+`{"status":"Downloading","progressDetail":{"current":5,"total":10},"id":"a"}`+"\r\n")
}

// load believes the manifest, as dockerd does.
func (f *fake) load(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		wrong(w, 500, "%v", err)
		return
	}
	var all []struct {
		Config   string
		RepoTags []string
	}
	files := tar.NewReader(strings.NewReader(string(data)))
	for {
		h, err := files.Next()
		if err != nil {
			break
		}
		if h.Name == "manifest.json" {
			_ = json.NewDecoder(files).Decode(&all)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, "POST /images/load")
	f.archives = append(f.archives, data)
	for _, m := range all {
		for _, tag := range m.RepoTags {
			f.images[tag] = &img{ID: "sha256:" + sum(m.Config), Size: int64(len(data))}
		}
	}
	_, _ = fmt.Fprintln(w, `{"stream":"Loaded image"}`)
}
