package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// file is a host's file.
type file struct {
	Format int    `json:"format"`
	Host   string `json:"host"`
	state
}

const (
	format  = 1
	maxFile = 256 << 20
)

// load reads the host's file when the host is first used. The caller holds h.mu.
func (d *Driver) load(h *host) error {
	if h.loaded || d.cfg.Path == "" {
		h.loaded = true
		return nil
	}
	root, err := os.OpenRoot(string(d.cfg.Path))
	if err != nil {
		return fmt.Errorf("cannot open the directory of the simulated hosts: %w", err)
	}
	defer func() { _ = root.Close() }()
	data, err := read(root, h.name+".json")
	if errors.Is(err, fs.ErrNotExist) {
		h.loaded = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read the simulated host %s: %w", h.name, err)
	}
	var f file
	err = json.Unmarshal(data, &f)
	ordered := true
	for i := 1; i < len(f.Guests); i++ {
		ordered = ordered && f.Guests[i-1].UUID < f.Guests[i].UUID
	}
	if err != nil || f.Format != format || f.Host != h.name || !ordered {
		return fmt.Errorf("the file %s/%s.json is not the state of the simulated host %s, or is damaged%s: remove it to begin with an empty host", d.cfg.Path, h.name, h.name, because(err))
	}
	h.state, h.loaded = f.state, true
	now := d.now()
	for _, g := range h.state.Guests {
		if g.settle(now); g.active() {
			d.found(g.UUID, placed{host: h.name, off: g.OffAt})
		}
	}
	return nil
}

// found remembers where a guest ran before this process.
func (d *Driver) found(uuid string, p placed) {
	d.ranMu.Lock()
	defer d.ranMu.Unlock()
	if _, ok := d.ran[uuid]; !ok {
		d.ran[uuid] = p
	}
}

func read(root *os.Root, name string) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("it has more than %d bytes", maxFile)
	}
	return data, err
}

// save replaces the host's file as a whole. If it cannot, the host is as its
// file says. The caller holds h.mu.
func (d *Driver) save(h *host) (err error) {
	if d.cfg.Path == "" {
		return nil
	}
	defer func() {
		if err != nil {
			h.loaded, h.state = false, state{}
			err = fmt.Errorf("cannot save the simulated host %s: %w", h.name, err)
		}
	}()
	data, err := json.Marshal(file{Format: format, Host: h.name, state: h.state})
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(string(d.cfg.Path))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	// No name of a host begins with a dot, so this one is free.
	part := "." + h.name + ".part"
	if err := root.WriteFile(part, data, 0o640); err != nil {
		return errors.Join(err, root.Remove(part))
	}
	return root.Rename(part, h.name+".json")
}

// because adds an error, if there is one, to a sentence.
func because(err error) string {
	if err == nil {
		return ""
	}
	return " (" + err.Error() + ")"
}
