package mistify

// Image is what disks of virtual machines are cloned from, or what a container
// is made from.
type Image struct {
	ID       string `json:"id"`
	Type     string `json:"type"`     // TypeContainer, or anything else for an image of disks
	Volume   string `json:"volume"`   // where it is kept
	Snapshot string `json:"snapshot"` // of the volume: what is cloned
	Size     uint64 `json:"size"`     // MB
	Status   string `json:"status"`   // such as "pending" or "complete"

	// Additions: of one that is being fetched, in bytes.
	Fetched int64 `json:"fetched,omitempty"`
	Total   int64 `json:"total,omitempty"`
}

// ImageRequest asks for images, to list, get, fetch or delete them.
type ImageRequest struct {
	ID     string `json:"id"`
	Type   string `json:"type"`
	Dest   string `json:"dest"`
	Source string `json:"source"` // a URL to fetch from

	// Additions.
	Size   uint64 `json:"size,omitempty"`   // bytes that Source must have
	SHA256 string `json:"sha256,omitempty"` // that Source must have, in hex
}

// ImageResponse has no image where none was found.
type ImageResponse struct {
	Images []Image `json:"images"`
}

// Volume is room for a disk.
type Volume struct {
	ID     string `json:"id"`
	Size   uint64 `json:"size"`   // MB
	Device string `json:"device"` // path below /dev
}

// VolumeRequest asks for volumes.
type VolumeRequest struct {
	ID   string `json:"id"`
	Size uint64 `json:"size"` // MB
}

// VolumeResponse has no volume where none was found.
type VolumeResponse struct {
	Volumes []Volume `json:"volumes"`
}
