package dir

import (
	"context"

	"github.com/vagoth/vagoth/virt/mistify"
)

// Service is the first word of the methods' names, as Mistify's config calls
// them.
const Service = "ImageStore"

// DownloadPath is where downloads are asked for as Mistify does it.
const DownloadPath = "/snapshots/download"

// Register makes a server answer every method of the store.
func (s *Store) Register(server *mistify.Server) {
	on(server, s.ListImages, "ListImages")
	on(server, s.GetImage, "GetImage")
	on(server, s.FetchImage, "RequestImage", "FetchImage")
	on(server, s.DeleteImage, "DeleteImage")
	on(server, s.CloneImage, "CloneImage")
	on(server, s.VerifyDisks, "VerifyDisks")
	on(server, s.CreateGuestDisks, "CreateGuestDisks")
	on(server, s.DeleteGuestDisks, "DeleteGuestsDisks", "DeleteGuestDisks")
	on(server, s.ListVolumes, "ListVolumes")
	on(server, s.GetVolume, "GetVolume")
	on(server, s.CreateVolume, "CreateVolume")
	on(server, s.ListSnapshots, "ListSnapshots")
	on(server, s.GetSnapshot, "GetSnapshot")
	on(server, s.CreateSnapshot, "CreateSnapshot")
	on(server, s.DeleteSnapshot, "DeleteSnapshot")
	on(server, s.RollbackSnapshot, "RollbackSnapshot")
	mistify.RegisterStream(server, Service+".DownloadSnapshot", DownloadPath, s.DownloadSnapshot)
	// The config that Mistify ships has it so.
	mistify.RegisterStream(server, Service+".DownlaodSnapshot", "", s.DownloadSnapshot)
}

// on registers a method under all of its names.
func on[Request, Response any](server *mistify.Server, do func(context.Context, *Request) (*Response, error), names ...string) {
	for _, name := range names {
		mistify.Register(server, Service+"."+name, do)
	}
}
