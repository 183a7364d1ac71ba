package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strconv"

	"github.com/vagoth/vagoth/scheduler"
)

// host is the machine that is worked on: a folder. Nothing outside of it can be
// named, as os.Root sees to that.
//
//	volumes/VOLUME/IMAGE   an image, as large as asked for, without content
//	vms/ID.json            the configuration of a VM
//	running/ID             there while the VM "runs"
type host struct{ root *os.Root }

// image is the disk of a VM.
type image struct {
	Volume string `json:"volume"`
	Image  string `json:"image"`
}

// vm is what write_config writes and start reads.
type vm struct {
	Name    string  `json:"name"`
	CPUs    int     `json:"cpus"`
	Memory  int     `json:"memory"` // MB
	Storage []image `json:"storage"`
}

// actions is the dispatch table: a job with other parameters never reaches its
// function. All of them succeed when what they are to do is done already, since
// a job can be handed out again.
func (h *host) actions() []scheduler.Action {
	id := scheduler.Param{Name: "id", Type: scheduler.Integer, Required: true, Help: "of the VM"}
	return []scheduler.Action{
		{Name: "add_volume", Help: "make a folder for images", Run: h.addVolume, Params: []scheduler.Param{
			{Name: "path", Type: scheduler.String, Required: true},
		}},
		{Name: "create_image", Help: "make a disk image", Run: h.createImage, Params: []scheduler.Param{
			{Name: "volume_path", Type: scheduler.String, Required: true},
			{Name: "image_name", Type: scheduler.String, Required: true},
			{Name: "image_size", Type: scheduler.Integer, Required: true, Help: "in GB"},
		}},
		{Name: "write_config", Help: "write the configuration of a VM", Run: h.writeConfig, Params: []scheduler.Param{
			id, {Name: "vm", Type: scheduler.Object, Required: true},
		}},
		{Name: "start", Help: "start a VM", Run: h.start, Params: []scheduler.Param{id}},
		{Name: "stop", Help: "stop a VM", Run: h.stop, Params: []scheduler.Param{id}},
	}
}

// maxSize is the largest image, in GB. It is a hole in a file, and costs nothing.
const maxSize = 100

func (h *host) addVolume(_ context.Context, t scheduler.Task) (any, error) {
	var p struct {
		Path string `json:"path"`
	}
	if err := scheduler.DecodeParams(t, &p); err != nil {
		return nil, err
	}
	dir, err := inside("volumes", p.Path)
	if err != nil {
		return nil, err
	}
	if err := h.root.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	t.Log("the volume " + p.Path + " is there")
	return map[string]string{"path": dir}, nil
}

func (h *host) createImage(_ context.Context, t scheduler.Task) (any, error) {
	var p struct {
		Volume string `json:"volume_path"`
		Name   string `json:"image_name"`
		Size   int64  `json:"image_size"`
	}
	if err := scheduler.DecodeParams(t, &p); err != nil {
		return nil, err
	}
	if p.Size < 1 || p.Size > maxSize {
		return nil, final("image_size is %d GB: use 1 to %d", p.Size, maxSize)
	}
	file, err := inside("volumes", p.Volume, p.Name)
	if err != nil {
		return nil, err
	}
	if _, err := h.root.Stat(path.Dir(file)); errors.Is(err, fs.ErrNotExist) {
		return nil, final("there is no volume %q: add it first", p.Volume)
	}
	t.Progress(50, "making the image")
	if err := h.truncate(file, p.Size<<30); err != nil {
		return nil, err
	}
	return map[string]any{"image": file, "bytes": p.Size << 30}, nil
}

func (h *host) truncate(file string, size int64) (err error) {
	f, err := h.root.OpenFile(file, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return f.Truncate(size)
}

func (h *host) writeConfig(_ context.Context, t scheduler.Task) (any, error) {
	var p struct {
		ID int64 `json:"id"`
		VM vm    `json:"vm"`
	}
	if err := scheduler.DecodeParams(t, &p); err != nil {
		return nil, &scheduler.FinalError{Err: err}
	}
	if p.VM.CPUs < 1 || p.VM.Memory < 1 {
		return nil, final("the vm has %d cpus and %d MB of memory: it needs at least one of each", p.VM.CPUs, p.VM.Memory)
	}
	text, err := json.MarshalIndent(p.VM, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := h.root.MkdirAll("vms", 0o700); err != nil {
		return nil, err
	}
	file := configOf(p.ID)
	if err := h.root.WriteFile(file+".new", append(text, '\n'), 0o600); err != nil {
		return nil, err
	}
	return map[string]string{"config": file}, h.root.Rename(file+".new", file)
}

func (h *host) start(_ context.Context, t scheduler.Task) (any, error) {
	id, config, err := h.vm(t)
	if err != nil {
		return nil, err
	}
	for _, disk := range config.Storage {
		file, err := inside("volumes", disk.Volume, disk.Image)
		if err != nil {
			return nil, err
		}
		if _, err := h.root.Stat(file); err != nil {
			return nil, fmt.Errorf("the VM %d lacks a disk: %w", id, err)
		}
	}
	if err := h.root.MkdirAll("running", 0o700); err != nil {
		return nil, err
	}
	t.Log(fmt.Sprintf("starting %s with %d cpus and %d MB", config.Name, config.CPUs, config.Memory))
	return map[string]string{"state": "running"}, h.root.WriteFile(runningOf(id), []byte(config.Name+"\n"), 0o600)
}

func (h *host) stop(_ context.Context, t scheduler.Task) (any, error) {
	id, _, err := h.vm(t)
	if err != nil {
		return nil, err
	}
	if err := h.root.Remove(runningOf(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return map[string]string{"state": "stopped"}, nil
}

// vm reads the configuration that the task's parameter id names.
func (h *host) vm(t scheduler.Task) (id int64, config vm, err error) {
	var p struct {
		ID int64 `json:"id"`
	}
	if err := scheduler.DecodeParams(t, &p); err != nil {
		return 0, vm{}, err
	}
	text, err := h.root.ReadFile(configOf(p.ID))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, vm{}, final("there is no VM %d: write its configuration first", p.ID)
	}
	if err == nil {
		err = json.Unmarshal(text, &config)
	}
	return p.ID, config, err
}

func configOf(id int64) string  { return "vms/" + strconv.FormatInt(id, 10) + ".json" }
func runningOf(id int64) string { return "running/" + strconv.FormatInt(id, 10) }

// inside joins names below a folder. Each is one word of plain letters.
func inside(dir string, names ...string) (string, error) {
	word := regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)
	for _, name := range names {
		if !word.MatchString(name) {
			return "", final("%.64q is no name: use letters, digits, points, - and _", name)
		}
		dir = path.Join(dir, name)
	}
	return dir, nil
}

// final is an error after which another attempt makes no sense.
func final(format string, args ...any) error {
	return &scheduler.FinalError{Err: fmt.Errorf(format, args...)}
}
