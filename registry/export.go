package registry

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// exportFormat and exportVersion are the first line of an export.
const (
	exportFormat  = "vagoth-registry"
	exportVersion = 1
)

// exportLine is a line of an export; one member is set.
type exportLine struct {
	Format  string      `json:"format,omitempty"` // with Version, the first line
	Version int         `json:"version,omitempty"`
	Node    *wireNode   `json:"node,omitempty"`
	Blob    *exportBlob `json:"blob,omitempty"` // behind its node
	End     *Counts     `json:"end,omitempty"`  // the last line
}

type exportBlob struct {
	Node string `json:"node"`
	BlobInfo
	Data []byte `json:"data"`
}

// Counts is what an export or an import went through.
type Counts struct {
	Nodes int `json:"nodes"`
	Blobs int `json:"blobs"`
}

// Export writes all of r as JSON lines: a header, every node (a parent before
// its children) with its blobs behind it, and a last line that says how many
// there are, so that a file that was cut off is noticed.
func Export(ctx context.Context, r Reader, w io.Writer) (Counts, error) {
	e := exporter{ctx: ctx, r: r, w: bufio.NewWriterSize(w, 64<<10)}
	e.enc = json.NewEncoder(e.w)
	e.enc.SetEscapeHTML(false)
	err := e.enc.Encode(exportLine{Format: exportFormat, Version: exportVersion})
	for n, listErr := range r.List(Query{Parent: Is("")}) {
		if err = errors.Join(err, listErr); err != nil {
			break
		}
		if err = walk(r, n, e.node); err != nil {
			break
		}
	}
	if err == nil {
		err = e.enc.Encode(exportLine{End: &e.n})
	}
	if err = errors.Join(err, e.w.Flush()); err != nil {
		return e.n, fmt.Errorf("cannot export the registry: %w", err)
	}
	return e.n, nil
}

type exporter struct {
	ctx context.Context //nolint:containedctx // it lives as long as Export's call
	r   Reader
	w   *bufio.Writer
	enc *json.Encoder
	n   Counts
}

// walk calls fn with n and all that stands on it, a parent before its children. It
// keeps a list of its own, as nothing bounds how deep nodes stand on each other.
func walk(r Reader, n *Node, fn func(*Node) error) error {
	for todo := []*Node{n}; len(todo) > 0; {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if err := fn(n); err != nil {
			return err
		}
		kids, err := r.Children(n.ID())
		if err != nil {
			return err
		}
		for i := len(kids.Nodes) - 1; i >= 0; i-- {
			todo = append(todo, kids.Nodes[i])
		}
	}
	return nil
}

func (e *exporter) node(n *Node) error {
	if err := e.ctx.Err(); err != nil {
		return err
	}
	if err := e.enc.Encode(exportLine{Node: &wireNode{n.Draft(), n.stamp}}); err != nil {
		return err
	}
	e.n.Nodes++
	for _, info := range n.stamp.Blobs {
		data, err := e.r.Blob(n.id, info.Key)
		if err != nil {
			return err
		}
		if err := e.enc.Encode(exportLine{Blob: &exportBlob{Node: n.id, BlobInfo: info, Data: data}}); err != nil {
			return err
		}
		e.n.Blobs++
	}
	return nil
}

// ImportOptions modify Import. The zero value imports.
type ImportOptions struct {
	DryRun   bool              // check only
	Progress func(done Counts) // called after each Update, if set
}

// ImportError says which line of an export was refused.
type ImportError struct {
	Line int
	Done Counts // what had been imported by then
	Err  error
}

func (e *ImportError) Error() string {
	if e.Done == (Counts{}) {
		return fmt.Sprintf("line %d: %v; nothing was imported", e.Line, e.Err)
	}
	return fmt.Sprintf("line %d: %v; the %d nodes and %d blobs before it were imported", e.Line, e.Err, e.Done.Nodes, e.Done.Blobs)
}

func (e *ImportError) Unwrap() error { return e.Err }

// Import adds what Export wrote to r, beside what is there. The whole file is read and checked first, also against what r
// holds, so that a file that cannot be imported changes nothing; one that is not
// an io.ReadSeeker is kept in a temporary file for that. Then the nodes are
// created, many to an Update: if one of these fails (somebody else took a name
// meanwhile, a full disk), the *ImportError says how far it got.
//
// An imported node is a new one: its revision, times and trail are those of the
// import. The file keeps the old ones for whoever reads it.
func Import(ctx context.Context, r Registry, file io.Reader, o ImportOptions) (Counts, error) {
	seeker, ok := file.(io.ReadSeeker)
	if !ok {
		spool, err := spooled(file)
		if err != nil {
			return Counts{}, fmt.Errorf("cannot keep the import for a second look: %w", err)
		}
		defer spool.Close()
		seeker = spool
	}
	start, err := seeker.Seek(0, io.SeekCurrent)
	if err != nil {
		return Counts{}, fmt.Errorf("cannot read the import: %w", err)
	}
	found, err := checkImport(ctx, r, seeker)
	if err != nil {
		return Counts{}, err
	}
	if o.DryRun {
		return found, nil
	}
	if _, err := seeker.Seek(start, io.SeekStart); err != nil {
		return Counts{}, fmt.Errorf("cannot read the import again: %w", err)
	}
	i := importer{ctx: ctx, r: r, progress: o.Progress}
	err = readExport(seeker, func(line int, l exportLine) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return i.add(line, l)
	})
	if err == nil {
		err = i.flush()
	}
	var located *ImportError
	if errors.As(err, &located) {
		located.Done = i.done
	}
	return i.done, err
}

// spooled copies r into a temporary file that has no name any more.
func spooled(r io.Reader) (*os.File, error) {
	f, err := os.CreateTemp("", "vagoth-import-")
	if err != nil {
		return nil, err
	}
	if err = os.Remove(f.Name()); err == nil {
		if _, err = io.Copy(f, r); err == nil {
			_, err = f.Seek(0, io.SeekStart)
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// maxLine is more than the longest line: a blob in base64, or a node with both
// documents.
const maxLine = 4 << 20

// readExport calls fn with each line between the first and the last.
func readExport(file io.Reader, fn func(line int, l exportLine) error) error {
	s := bufio.NewScanner(file)
	s.Buffer(make([]byte, 64<<10), maxLine)
	var n Counts
	line, ended := 0, false
	fail := func(format string, args ...any) error {
		return &ImportError{Line: line, Err: fmt.Errorf(format, args...)}
	}
	for s.Scan() {
		line++
		if ended {
			return fail("something follows the last line of the export: %w", ErrInvalid)
		}
		var l exportLine
		dec := json.NewDecoder(bytes.NewReader(s.Bytes()))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&l); err != nil {
			return fail("it is no line of an export: %w: %w", ErrInvalid, err)
		}
		switch {
		case line == 1:
			if l.Format != exportFormat || l.Version != exportVersion {
				return fail("it is not the first line of an export of version %d, but of %q, version %d: %w", exportVersion, l.Format, l.Version, ErrInvalid)
			}
			continue
		case l.Format != "" || l.Version != 0:
			return fail("it is a second first line: %w", ErrInvalid)
		case l.Node != nil && l.Blob == nil && l.End == nil:
			n.Nodes++
		case l.Blob != nil && l.Node == nil && l.End == nil:
			n.Blobs++
		case l.End != nil && l.Node == nil && l.Blob == nil:
			if ended = true; *l.End != n {
				return fail("the export says it has %d nodes and %d blobs, and has %d and %d: %w", l.End.Nodes, l.End.Blobs, n.Nodes, n.Blobs, ErrInvalid)
			}
			continue
		default:
			return fail("it holds neither a node nor a blob: %w", ErrInvalid)
		}
		if err := fn(line, l); err != nil {
			var located *ImportError
			if errors.As(err, &located) {
				return err
			}
			return &ImportError{Line: line, Err: err}
		}
	}
	line++
	if err := s.Err(); err != nil {
		return fail("it cannot be read: %w", err)
	}
	if !ended {
		return fail("the export ends without its last line: the file was cut off: %w", ErrInvalid)
	}
	return nil
}

// checkImport reads the whole file and looks whether it could be imported now.
func checkImport(ctx context.Context, r Registry, file io.Reader) (Counts, error) {
	v, err := r.View(ctx)
	if err != nil {
		return Counts{}, err
	}
	var n Counts
	owners := map[string]string{} // of IDs, names and keys in the file
	var last *Node
	blobs := map[string]BlobInfo{} // of the last node, those still to come
	missing := func() error {
		for key := range blobs {
			return fmt.Errorf("the blob %s of node %s is missing before it: %w", key, last.id, ErrInvalid)
		}
		return nil
	}
	err = readExport(file, func(_ int, l exportLine) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if l.Blob != nil {
			n.Blobs++
			info, ok := blobs[l.Blob.Key]
			if !ok || l.Blob.Node != last.id {
				return fmt.Errorf("the blob %.64q of node %.64q does not follow a node that has it: %w", l.Blob.Key, l.Blob.Node, ErrInvalid)
			}
			delete(blobs, l.Blob.Key)
			sum := sha256.Sum256(l.Blob.Data)
			if info.SHA256 != hex.EncodeToString(sum[:]) || info.Size != len(l.Blob.Data) {
				return fmt.Errorf("the blob %s of node %s is not the one that the node describes: %w", info.Key, last.id, ErrInvalid)
			}
			return CheckBlob(last, info.Key, l.Blob.Data)
		}
		if err := missing(); err != nil {
			return err
		}
		n.Nodes++
		last = NewNode(l.Node.Draft, l.Node.Stamp)
		d := l.Node.Draft
		if err := d.Validate(); err != nil {
			return err
		}
		for _, ref := range append([]string{d.ID, d.Name}, d.Keys...) {
			if owner, ok := owners[ref]; ok && owner != d.ID {
				return &ConflictError{Key: ref, Owner: owner}
			}
			if there, err := Find(v, ref); err == nil {
				return &ConflictError{Key: ref, Owner: there.ID()}
			} else if !errors.Is(err, ErrNotFound) {
				return err
			}
		}
		if owners[d.ID] == d.ID {
			return &ConflictError{Key: d.ID, Owner: d.ID}
		}
		if d.Parent != "" && owners[d.Parent] != d.Parent {
			if _, err := v.Get(d.Parent); err != nil {
				return fmt.Errorf("the parent of node %s must stand before it or exist: %w", d.ID, err)
			}
		}
		for _, ref := range append([]string{d.ID, d.Name}, d.Keys...) {
			owners[ref] = d.ID
		}
		if len(last.stamp.Blobs) > MaxBlobs {
			return &LimitError{What: "node " + d.ID, Unit: "blobs", Got: len(last.stamp.Blobs), Max: MaxBlobs}
		}
		for _, b := range last.stamp.Blobs {
			blobs[b.Key] = b
		}
		last = NewNode(d, Stamp{})
		return nil
	})
	if err == nil {
		if missed := missing(); missed != nil {
			err = &ImportError{Line: 1 + n.Nodes + n.Blobs, Err: missed}
		}
	}
	return n, err
}

// importer gathers lines into Updates of allowed sizes.
type importer struct {
	ctx      context.Context //nolint:containedctx // it lives as long as Import's call
	r        Registry
	progress func(Counts)

	stamps map[string]Stamp // that nodes keep, by ID; nil if they get new ones

	lines         []exportLine
	first         int // the line that the gathered ones begin with
	touched, size int
	now           Counts // in lines
	done          Counts
}

func (i *importer) add(line int, l exportLine) error {
	touched, size := 1, 0
	if l.Node != nil {
		touched += 1 + len(l.Node.Keys)
		if l.Node.Parent != "" {
			touched++ // its edge revision
		}
		size = l.Node.Definition.Len() + l.Node.Metadata.Len() + 16<<10
	} else {
		touched++ // with its node, whose description of its blobs changes
		size = len(l.Blob.Data) + 16<<10
		if n, err := Get(i.ctx, i.r, l.Blob.Node); err == nil {
			size += n.definition.Len() + n.metadata.Len()
		}
	}
	if i.touched+touched > MaxTouched || i.size+size > MaxUpdate {
		if err := i.flush(); err != nil {
			return err
		}
	}
	if len(i.lines) == 0 {
		i.first = line
	}
	i.lines = append(i.lines, l)
	i.touched += touched
	i.size += size
	if l.Node != nil {
		i.now.Nodes++
	} else {
		i.now.Blobs++
	}
	return nil
}

func (i *importer) flush() error {
	if len(i.lines) == 0 {
		return nil
	}
	at := 0
	err := i.r.Update(i.ctx, func(tx Tx) error {
		at = 0
		for k, l := range i.lines {
			at = k
			var err error
			if l.Node != nil {
				_, err = tx.Create(l.Node.Draft)
			} else {
				data := l.Blob.Data
				if data == nil {
					data = []byte{}
				}
				err = tx.PutBlob(l.Blob.Node, l.Blob.Key, data)
			}
			if err != nil {
				return err
			}
		}
		return i.restore(tx)
	})
	if err != nil {
		return &ImportError{Line: i.first + at, Done: i.done, Err: err}
	}
	i.done.Nodes += i.now.Nodes
	i.done.Blobs += i.now.Blobs
	i.lines, i.touched, i.size, i.now = nil, 0, 0, Counts{}
	clear(i.stamps)
	if i.progress != nil {
		i.progress(i.done)
	}
	return nil
}

// restore gives the nodes that were written the stamps that they keep.
func (i *importer) restore(tx Tx) error {
	if i.stamps == nil {
		return nil
	}
	keep, ok := tx.(Restorer)
	if !ok {
		return errors.New("this registry's kind cannot take over the times of nodes: export to a file and import that")
	}
	for _, l := range i.lines {
		id := ""
		if l.Node != nil {
			id = l.Node.ID
		} else {
			id = l.Blob.Node
		}
		if err := keep.Restore(id, i.stamps[id]); err != nil {
			return err
		}
	}
	return nil
}
