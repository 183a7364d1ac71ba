package store

import (
	"context"
	"io"

	"github.com/vagoth/vagoth/virt/mistify"
)

// Store is a sub-agent of images and disks.
type Store interface {
	Images
	Disks
	Volumes
	Snapshots
}

// Images is what disks begin as.
type Images interface {
	ListImages(context.Context, *mistify.ImageRequest) (*mistify.ImageResponse, error)
	GetImage(context.Context, *mistify.ImageRequest) (*mistify.ImageResponse, error)
	FetchImage(context.Context, *mistify.ImageRequest) (*mistify.ImageResponse, error)
	PutImage(context.Context, *mistify.ImageRequest, io.ReadCloser) (*mistify.ImageResponse, error)
	DeleteImage(context.Context, *mistify.ImageRequest) (*mistify.ImageResponse, error)
	CloneImage(context.Context, *mistify.ImageRequest) (*mistify.VolumeResponse, error)
}

// Disks are those of guests. UndoGuestDisks takes back what CreateGuestDisks made
// for one job of the agent, and nothing that was there before; package subagent
// says what an undo is.
type Disks interface {
	VerifyDisks(context.Context, *mistify.GuestRequest) (*mistify.GuestResponse, error)
	CreateGuestDisks(context.Context, *mistify.GuestRequest) (*mistify.GuestResponse, error)
	DeleteGuestDisks(context.Context, *mistify.GuestRequest) (*mistify.GuestResponse, error)
	UndoGuestDisks(context.Context, *mistify.GuestRequest) (*mistify.GuestResponse, error)
}

// Volumes are room of no guest; the disks of guests are listed with them.
type Volumes interface {
	ListVolumes(context.Context, *mistify.VolumeRequest) (*mistify.VolumeResponse, error)
	GetVolume(context.Context, *mistify.VolumeRequest) (*mistify.VolumeResponse, error)
	CreateVolume(context.Context, *mistify.VolumeRequest) (*mistify.VolumeResponse, error)
	DeleteVolume(context.Context, *mistify.VolumeRequest) (*mistify.VolumeResponse, error)
}

// Snapshots are of a guest's disks, all together or one.
type Snapshots interface {
	ListSnapshots(context.Context, *mistify.SnapshotRequest) (*mistify.SnapshotResponse, error)
	GetSnapshot(context.Context, *mistify.SnapshotRequest) (*mistify.SnapshotResponse, error)
	CreateSnapshot(context.Context, *mistify.SnapshotRequest) (*mistify.SnapshotResponse, error)
	DeleteSnapshot(context.Context, *mistify.SnapshotRequest) (*mistify.SnapshotResponse, error)
	RollbackSnapshot(context.Context, *mistify.SnapshotRequest) (*mistify.SnapshotResponse, error)
	DownloadSnapshot(context.Context, *mistify.SnapshotRequest) (*mistify.Download, error)
}

// Service is the first word of the methods' names, as Mistify's config calls
// them.
const Service = "ImageStore"

// DownloadPath is where downloads are asked for as Mistify does it.
const DownloadPath = "/snapshots/download"

// Register makes a server answer every method of a store.
func Register(server *mistify.Server, s Store) {
	on(server, s.ListImages, "ListImages")
	on(server, s.GetImage, "GetImage")
	on(server, s.FetchImage, "RequestImage", "FetchImage")
	on(server, s.DeleteImage, "DeleteImage")
	on(server, s.CloneImage, "CloneImage")
	on(server, s.VerifyDisks, "VerifyDisks")
	on(server, s.CreateGuestDisks, "CreateGuestDisks")
	on(server, s.DeleteGuestDisks, "DeleteGuestsDisks", "DeleteGuestDisks")
	on(server, s.UndoGuestDisks, "UndoGuestDisks")
	on(server, s.ListVolumes, "ListVolumes")
	on(server, s.GetVolume, "GetVolume")
	on(server, s.CreateVolume, "CreateVolume")
	on(server, s.DeleteVolume, "DeleteVolume")
	on(server, s.ListSnapshots, "ListSnapshots")
	on(server, s.GetSnapshot, "GetSnapshot")
	on(server, s.CreateSnapshot, "CreateSnapshot")
	on(server, s.DeleteSnapshot, "DeleteSnapshot")
	on(server, s.RollbackSnapshot, "RollbackSnapshot")
	mistify.RegisterUpload(server, Service+".PutImage", s.PutImage)
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
