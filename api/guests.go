package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/internal/duplex"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/virt"
)

// Disks are those of a VM: its own, and those that were detached.
type Disks struct {
	Disks    []virt.Disk     `json:"disks"` // filled in
	Detached []virt.Detached `json:"detached,omitempty"`
	On       string          `json:"on,omitempty"` // the host that has them
}

// ProbeRequest names a host that need not be a node yet.
type ProbeRequest struct {
	ID      string `json:"id"`
	Driver  string `json:"driver"`
	Address string `json:"address,omitempty"`
}

func (s *server) guestRoutes() []route {
	return []route{
		{method: "GET", path: "/v1/nodes/:ref/disks", do: s.listDisks, out: Disks{}, role: reader,
			help: "the disks of a VM, and those that were detached from it"},
		{method: "GET", path: "/v1/nodes/:ref/metrics", do: s.guestMetrics, out: virt.Metrics{}, role: reader,
			help: "the counters of a VM's CPUs, disks and network interfaces, from its host, now"},
		{method: "GET", path: "/v1/nodes/:ref/snapshots", do: s.listSnapshots, out: []virt.Snapshot{}, role: reader,
			help: "the snapshots of a VM, from its host, oldest first; the actions vm_snapshot, vm_rollback and vm_snapshot_delete change them"},
		{method: "GET", path: "/v1/nodes/:ref/snapshots/:name", do: s.getSnapshot, out: virt.Snapshot{}, role: reader,
			help: "one snapshot of a VM"},
		{method: "GET", path: "/v1/nodes/:ref/snapshots/:name/download", do: s.downloadSnapshot, out: "", media: octets, query: []string{"disk"}, role: operator, load: waiting,
			help: "what a disk held, as a stream; disk is its device, volume or number, the first if not given; the header Vagoth-Format says what the bytes are, where that is known; a download that breaks off is not ended"},
		{method: "POST", path: "/v1/nodes/:ref/console", do: s.console, in: "", out: "", media: octets, role: operator, load: waiting, line: true,
			help: "a VM's serial console: the body of the request is typed while the answer is what the guest prints, until either side ends it"},
		{method: "GET", path: "/v1/nodes/:ref/images", do: s.listImages, out: []virt.Image{}, role: reader,
			help: "the images of a hypervisor, from the host, now; the actions hv_fetch_image, hv_delete_image and vm_save_image change them"},
		{method: "GET", path: "/v1/nodes/:ref/images/:name", do: s.getImage, out: virt.Image{}, role: reader,
			help: "one image of a hypervisor"},
		{method: "POST", path: "/v1/probe", do: s.probe, in: ProbeRequest{}, out: virt.Capacity{}, role: operator,
			help: "ask a host that need not be a node yet what it has"},
	}
}

// vm finds the VM of the path, or an answer was given.
func (s *server) vm(c *gin.Context) (*virt.VirtualMachine, bool) {
	_, n, ok := s.node(c)
	if !ok {
		return nil, false
	}
	vm, err := virt.VM(c.Request.Context(), s.m, n.ID())
	if err != nil {
		s.fail(c, err)
		return nil, false
	}
	return vm, true
}

// hypervisor finds the hypervisor of the path, or an answer was given.
func (s *server) hypervisor(c *gin.Context) (*virt.Hypervisor, bool) {
	_, n, ok := s.node(c)
	if !ok {
		return nil, false
	}
	hv, err := virt.HypervisorOf(c.Request.Context(), s.m, n.ID())
	if err != nil {
		s.fail(c, err)
		return nil, false
	}
	return hv, true
}

func (s *server) listDisks(c *gin.Context) {
	_, n, ok := s.node(c)
	if !ok {
		return
	}
	if n.Type() != virt.TypeVM {
		s.fail(c, &registry.InvalidError{ID: n.ID(), Field: "type", Reason: "it is a " + n.Type() + ", and only virtual machines have disks"})
		return
	}
	g, err := virt.GuestOf(n)
	out := Disks{Disks: g.Definition.Disks, Detached: virt.DetachedOf(n), On: virt.DisksOn(n)}
	if out.Disks == nil {
		out.Disks = []virt.Disk{}
	}
	s.answer(c, out, err)
}

func (s *server) guestMetrics(c *gin.Context) {
	if vm, ok := s.vm(c); ok {
		m, err := vm.Metrics(c.Request.Context())
		s.answer(c, m, err)
	}
}

func (s *server) listSnapshots(c *gin.Context) {
	if vm, ok := s.vm(c); ok {
		list, err := vm.Snapshots(c.Request.Context())
		if list == nil {
			list = []virt.Snapshot{}
		}
		s.answer(c, list, err)
	}
}

func (s *server) getSnapshot(c *gin.Context) {
	vm, ok := s.vm(c)
	if !ok {
		return
	}
	name := param(c, "name")
	if err := virt.CheckSnapshotName(name); err != nil {
		s.fail(c, err)
		return
	}
	list, err := vm.Snapshots(c.Request.Context())
	if err != nil {
		s.fail(c, err)
		return
	}
	for _, one := range list {
		if one.Name == name {
			s.answer(c, one, nil)
			return
		}
	}
	s.fail(c, &registry.NotFoundError{What: "snapshot of " + vm.Name(), Ref: name})
}

func (s *server) listImages(c *gin.Context) {
	if hv, ok := s.hypervisor(c); ok {
		list, err := hv.Images(c.Request.Context())
		if list == nil {
			list = []virt.Image{}
		}
		s.answer(c, list, err)
	}
}

func (s *server) getImage(c *gin.Context) {
	if hv, ok := s.hypervisor(c); ok {
		one, err := hv.Image(c.Request.Context(), param(c, "name"))
		s.answer(c, one, err)
	}
}

func (s *server) probe(c *gin.Context) {
	var req ProbeRequest
	if !s.body(c, &req, MaxBody) {
		return
	}
	if err := registry.CheckName(req.ID); err != nil {
		s.fail(c, &registry.InvalidError{Field: "id", Reason: err.Error()})
		return
	}
	has, err := virt.Probe(c.Request.Context(), s.m.Parts(), req.ID, virt.HostDefinition{Driver: req.Driver, Address: req.Address})
	s.answer(c, has, err)
}

// HeaderFormat says what the bytes of a download are, where that is known.
const HeaderFormat = "Vagoth-Format"

// downloadSnapshot passes a stream on as it comes.
func (s *server) downloadSnapshot(c *gin.Context) {
	vm, ok := s.vm(c)
	if !ok {
		return
	}
	if c.Request.Method == http.MethodHead {
		s.getSnapshot(c)
		return
	}
	ctx, device := c.Request.Context(), ""
	if ref := c.Query("disk"); ref != "" {
		n, err := vm.Node(ctx)
		if err == nil {
			var g virt.Guest
			if g, err = virt.GuestOf(n); err == nil {
				if i := virt.DiskRef(g.Definition.Disks, ref); i >= 0 {
					device = g.Definition.Disks[i].Device
				} else {
					err = &registry.NotFoundError{What: "disk of " + vm.Name(), Ref: ref}
				}
			}
		}
		if err != nil {
			s.fail(c, err)
			return
		}
	}
	stream, err := vm.DownloadSnapshot(ctx, param(c, "name"), device)
	if err != nil {
		s.fail(c, err)
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = stream.Close() }) // a host that sends nothing keeps nobody
	defer func() {
		stop()
		_ = stream.Close()
	}()
	c.Header("Content-Disposition", "attachment")
	if stream.Format != "" {
		c.Header(HeaderFormat, stream.Format)
	}
	if stream.Length >= 0 {
		c.Header("Content-Length", strconv.FormatInt(stream.Length, 10))
	}
	s.flow(c, stream, stream.Length, "a download")
}

// pieces is how much of a stream is read before it is passed on.
const pieces = 256 << 10

// stalled is how long a stream may stand still before it is cut off.
const stalled = 2 * time.Minute

// flow answers with what comes from r, each piece at once. One that breaks off
// breaks the answer off too, so that nobody takes it for a whole one.
func (s *server) flow(c *gin.Context, r io.Reader, length int64, what string) {
	c.Header("Content-Type", octets)
	c.Header("X-Content-Type-Options", "nosniff")
	c.Header("Cache-Control", "no-store")
	c.Writer.WriteHeader(http.StatusOK)
	c.Writer.Flush()
	rc := http.NewResponseController(c.Writer)
	buf := make([]byte, pieces)
	sent := int64(0)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			_ = rc.SetWriteDeadline(time.Now().Add(stalled)) // what has no deadlines needs none moved
			if _, err := c.Writer.Write(buf[:n]); err != nil {
				panic(http.ErrAbortHandler) // its reader has gone
			}
			c.Writer.Flush()
			sent += int64(n)
		}
		switch {
		case errors.Is(err, io.EOF) && (length < 0 || sent == length):
			return
		case err != nil:
			s.o.Log.Warn(what+" broke off", "path", c.Request.URL.Path, "bytes", sent, "error", err)
			panic(http.ErrAbortHandler)
		}
	}
}

// maxConsole bounds a console that nobody ends.
const maxConsole = 24 * time.Hour

// console joins a request's body and its answer to a guest's console.
func (s *server) console(c *gin.Context) {
	vm, ok := s.vm(c)
	if !ok {
		return
	}
	ctx, end := duplex.Until(c.Request.Context(), maxConsole, s.o.Draining)
	defer end()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rw, err := vm.Console(ctx)
	if err != nil {
		s.fail(c, err)
		return
	}
	defer duplex.Join(c.Writer, c.Request.Body, rw, cancel)()
	s.flow(c, rw, -1, "a console")
}
