package store

import (
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent"
)

// Stages are what a store does for which action.
func Stages() []subagent.Stage {
	return []subagent.Stage{
		{Action: "create", Method: Service + ".CreateGuestDisks", Idempotent: true, Undo: Service + ".UndoGuestDisks", Turn: subagent.Early},
		// It says where the disks are, or are to be.
		{Action: "define", Method: Service + ".VerifyDisks", Idempotent: true, Turn: subagent.Early},
		{Action: "provision", Method: Service + ".CreateGuestDisks", Idempotent: true, Undo: Service + ".UndoGuestDisks", Turn: subagent.Early},
		{Action: "deprovision", Method: Service + ".DeleteGuestDisks", Idempotent: true, Turn: subagent.Late},
		{Action: "delete", Method: Service + ".DeleteGuestDisks", Idempotent: true, Turn: subagent.Late},
		{Action: "listImages", Method: Service + ".ListImages", Idempotent: true},
		{Action: "getImage", Method: Service + ".GetImage", Idempotent: true},
		{Action: "fetchImage", Method: Service + ".FetchImage", Idempotent: true},
		{Action: mistify.ActionPutImage, Method: Service + ".PutImage"},
		{Action: "deleteImage", Method: Service + ".DeleteImage"},
		{Action: "listSnapshots", Method: Service + ".ListSnapshots", Idempotent: true},
		{Action: "getSnapshot", Method: Service + ".GetSnapshot", Idempotent: true},
		{Action: "createSnapshot", Method: Service + ".CreateSnapshot"},
		{Action: "deleteSnapshot", Method: Service + ".DeleteSnapshot"},
		{Action: "rollbackSnapshot", Method: Service + ".RollbackSnapshot", Idempotent: true},
		{Action: "downloadSnapshot", Method: Service + ".DownloadSnapshot", Idempotent: true},
	}
}
