package mistify

// The requests that are additions, and what is promised of them:
//
//	POST /guests/{id}/define       the guest, its id as in the path. It is known from then on. One that is known already
//	                               is given the new definition; its state stays. 202 with the job.
//	POST /guests/{id}/provision    the guest, or no body for one that is known. One that is not known stays unknown: the
//	                               agent forgets it when the job has ended. 202 with the job.
//	POST /guests/{id}/deprovision  as provision
//	POST /guests/{id}/undefine     the agent forgets the guest when the job has ended well; its disks stay. 202 with the job.
//	POST /guests/{id}/resume       202 with the job
//	POST /guests/{id}/save         {"dest": NAME}: what a container has written becomes an image of that name. 202 with the
//	                               job; a guest of another type is KindUnsupported.
//	POST /guests/{id}/migrate      MigrateRequest. The guest, which runs, moves to another host's hypervisor, and the agent
//	                               forgets it when the job has ended well: it is not here any more. 202 with the job.
//	PUT  /v1/guests/{id}/fence     the token in the header is the highest that was seen from then on, and with it, or a lower
//	                               one, no migrate is taken any more. With ?wait=30s it waits so long for the end of what was
//	                               queued for the guest before. 200 with Settled. The guest need not be known.
//	POST /guests/{id}/console      the body is typed while the answer is what the guest prints on its serial console, until
//	                               either side ends it
//	PUT  /images/{id}/content      the body is an image, in any form in which one is fetched; ?size= and ?sha256= are what it
//	                               must have. 200 with the image when it is there; one that is there already is KindConflict.
//	GET  /v1/status                Status; with ?id=GUEST of one guest only, which is not listed if it is not there
//
// An action that is not configured is KindUnsupported. A create makes disks,
// defines and starts, and a delete kills and wipes, as they always did: neither
// can stand for a part of it.
const (
	PathStatus = "/v1/status"

	ActionDefine      = "define"
	ActionUndefine    = "undefine"
	ActionProvision   = "provision"
	ActionDeprovision = "deprovision"
	ActionResume      = "resume"
	ActionSave        = "save"
	ActionMigrate     = "migrate"
	ActionConsole     = "console"
	ActionTypeConsole = "typeConsole"
	ActionPutImage    = "putImage"
)

// MigrateRequest says where a guest is to go.
type MigrateRequest struct {
	To string `json:"to"` // a libvirt URI, by which this host's libvirtd reaches the other's
}

// Settled says how many jobs that were queued for a guest have not ended.
type Settled struct {
	Jobs int `json:"jobs"`
}
