package storetest

import (
	"context"
	"net"
	"path/filepath"
	"time"

	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/store"
)

// wire calls what the configuration that Mistify's agent ships
// calls, over the wire, and what this service has besides.
func wire(b *bench) {
	t := b.T
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // real stores in software emulation take their time
	defer cancel()
	server := mistify.NewServer(mistify.ServerOptions{})
	b.s.Register(server)
	socket := filepath.Join(b.web, "s") // a path of at most 107 bytes
	ln, err := mistify.Listen(mistify.Endpoint{Socket: socket})
	if err != nil {
		t.Fatal(err)
	}
	serving, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func(ln net.Listener) { ended <- server.Serve(serving, ln) }(ln)
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	dial := func(path string) *mistify.RPC {
		c, err := mistify.NewRPC(mistify.Endpoint{Socket: socket, Path: path}, mistify.RPCOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	storage, storageDownload := dial(""), dial(store.DownloadPath)
	b.qcow2("debian.qcow2", 2, 'd')
	g := guest(mistify.Disk{Image: "debian"}, mistify.Disk{Size: 1})
	image := &mistify.ImageRequest{ID: "debian", Source: b.url + "/debian.qcow2"}
	dest := func(r *mistify.SnapshotRequest) *mistify.SnapshotRequest { r.Dest = "s"; return r }
	guest := &mistify.GuestResponse{}
	for _, c := range []struct {
		method            string
		request, response any
	}{
		{"RequestImage", image, &mistify.ImageResponse{}},
		{"FetchImage", image, &mistify.ImageResponse{}},
		{"ListImages", &mistify.ImageRequest{}, &mistify.ImageResponse{}},
		{"GetImage", image, &mistify.ImageResponse{}},
		{"CloneImage", &mistify.ImageRequest{ID: "debian", Dest: "c"}, &mistify.VolumeResponse{}},
		{"VerifyDisks", &mistify.GuestRequest{Guest: g}, &mistify.GuestResponse{}},
		{"CreateGuestDisks", &mistify.GuestRequest{Guest: g}, guest},
		{"CreateVolume", &mistify.VolumeRequest{ID: "v", Size: 1}, &mistify.VolumeResponse{}},
		{"GetVolume", &mistify.VolumeRequest{ID: "v"}, &mistify.VolumeResponse{}},
		{"ListVolumes", &mistify.VolumeRequest{}, &mistify.VolumeResponse{}},
		{"CreateSnapshot", dest(At(g, "", "")), &mistify.SnapshotResponse{}},
		{"ListSnapshots", At(g, "", ""), &mistify.SnapshotResponse{}},
		{"GetSnapshot", At(g, "", "s"), &mistify.SnapshotResponse{}},
		{"RollbackSnapshot", At(g, "", "s"), &mistify.SnapshotResponse{}},
	} {
		if err := storage.Call(ctx, "ImageStore."+c.method, c.request, c.response); err != nil {
			t.Errorf("%s: %v", c.method, err)
		}
	}
	if guest.Guest == nil || guest.Guest.Disks[0].Source == "" || guest.Guest.Disks[0].Size != 2 {
		t.Errorf("the disks are %+v", guest.Guest)
	}
	for method, rpc := range map[string]*mistify.RPC{"DownlaodSnapshot": storageDownload, "DownloadSnapshot": storage} {
		d, err := rpc.Stream(ctx, "ImageStore."+method, At(g, "0", "s"))
		if err != nil {
			t.Fatal(method, err)
		}
		if data, err := ReadAll(d); err != nil || len(data) == 0 || d.Length >= 0 && int64(len(data)) != d.Length {
			t.Errorf("%s: %d bytes of %d (%v)", method, len(data), d.Length, err)
		}
	}
	for _, c := range []struct {
		method            string
		request, response any
	}{
		{"DeleteSnapshot", At(g, "", "s"), &mistify.SnapshotResponse{}},
		{"DeleteGuestsDisks", &mistify.GuestRequest{Guest: g}, &mistify.GuestResponse{}},
		{"DeleteGuestDisks", &mistify.GuestRequest{Guest: g}, &mistify.GuestResponse{}},
		{"DeleteVolume", &mistify.VolumeRequest{ID: "v"}, &mistify.VolumeResponse{}},
	} {
		if err := storage.Call(ctx, "ImageStore."+c.method, c.request, c.response); err != nil {
			t.Errorf("%s: %v", c.method, err)
		}
	}
	err = storage.Call(ctx, "ImageStore.DeleteImage", image, &mistify.ImageResponse{})
	if mistify.KindOf(err) != mistify.KindConflict {
		t.Errorf("removing an image with a clone: %v", err)
	}
	for _, c := range []struct {
		method            string
		request, response any
	}{
		{"DeleteVolume", &mistify.VolumeRequest{ID: "c"}, &mistify.VolumeResponse{}},
		{"DeleteImage", image, &mistify.ImageResponse{}},
	} {
		if err := storage.Call(ctx, "ImageStore."+c.method, c.request, c.response); err != nil {
			t.Errorf("%s: %v", c.method, err)
		}
	}
	b.left("all of it was removed")
}
