package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"

	"github.com/vagoth/vagoth/cmd/vagoth/serve"
	"github.com/vagoth/vagoth/virt/mistify"
)

// agentURL is the flag that says which agent is asked.
func (a *app) agentURL(c *cobra.Command, into *string) {
	at := a.env.Getenv("VAGOTH_AGENT_URL")
	if at == "" {
		at = "http://127.0.0.1:8080"
	}
	c.PersistentFlags().StringVar(into, "url", at, "the agent, such as https://host1:8080 or unix:/run/agent.sock; VAGOTH_AGENT_URL sets the default")
}

// askAgent runs fn with a client of the agent, and a context with the trail.
func (a *app) askAgent(cmd *cobra.Command, at string, fn func(context.Context, *mistify.Client) error) error {
	ctx, cancel, err := a.context(cmd)
	if err != nil {
		return err
	}
	defer cancel()
	secret, err := a.secret()
	if err != nil {
		return err
	}
	var t *http.Transport
	if path, ok := strings.CutPrefix(at, "unix:"); ok {
		t, at = serve.Transport(strings.TrimPrefix(path, "//")), "http://localhost"
	} else {
		u, err := url.Parse(at)
		if err != nil || u.Host == "" {
			return usagef("--url %q is no address: write http://127.0.0.1:8080, https://host1:8080 or unix:/run/agent.sock", at)
		}
		if u.Scheme == "http" && !loopback(u.Hostname()) && secret != "" {
			return usagef("--url %s: the token could be read on the way: write https://", at)
		}
		cfg, err := a.tlsConfig()
		if err != nil {
			return err
		}
		t = &http.Transport{DialContext: (&net.Dialer{Timeout: agentTime}).DialContext, TLSClientConfig: cfg, TLSHandshakeTimeout: agentTime, DisableCompression: true}
	}
	defer t.CloseIdleConnections()
	client, err := mistify.NewClient(at, mistify.ClientOptions{Transport: t, Token: func() string { return secret }})
	if err != nil {
		return usageError{err}
	}
	return fn(ctx, client)
}

// agentCall is one command below `agent call`.
type agentCall struct {
	use, short  string
	least, most int
	what        string // the arguments, in words
	flags       func(f *pflag.FlagSet, in *agentInput)
	destroys    string // what is lost; it is asked for first
	do          func(ctx context.Context, c *agentCaller, args []string) error
}

// agentInput is what flags say.
type agentInput struct {
	url, file, disk, kind, guest, sha256, to string
	limit                                    int
	size                                     uint64
	newer, noWait, yes                       bool
}

// agentCaller is an agent as one command asks it.
type agentCaller struct {
	*mistify.Client
	app *app
	in  *agentInput
}

// agentCalls is the whole of `agent call`.
func agentCalls() []agentCall {
	const aGuest, aSnapshot = "the ID of a guest", "the ID of a guest and the name of a snapshot"
	file := func(f *pflag.FlagSet, in *agentInput) {
		f.StringVarP(&in.file, "file", "f", "-", "the guest as JSON; - is standard input")
	}
	disk := func(f *pflag.FlagSet, in *agentInput) {
		f.StringVar(&in.disk, "disk", "", "of this disk alone, such as 0")
	}
	limit := func(f *pflag.FlagSet, in *agentInput) {
		f.IntVar(&in.limit, "limit", 0, "at most so many; 0 is as many as the agent gives")
		f.StringVar(&in.guest, "guest", "", "of this guest alone")
	}
	kind := func(f *pflag.FlagSet, in *agentInput) {
		f.StringVar(&in.kind, "type", "", "of this type, such as container")
	}
	calls := []agentCall{
		{"status", "what is on the host now, as its sub-agents see it", 0, 0, "no arguments", nil, "", callStatus},
		{"guests", "list the guests", 0, 0, "no arguments", nil, "", callGuests},
		{"guest GUEST", "show a guest", 1, 1, aGuest, nil, "", callGuest},
		{"create", "make a guest, and start it", 0, 0, "no arguments", file, "", callCreate},
		{"define", "make a guest known to the host, or change its definition", 0, 0, "no arguments", file, "", callDefine},
		{"metrics GUEST cpu|disk|nic", "measure a guest", 2, 2, "the ID of a guest and one of cpu, disk and nic", nil, "", callMetrics},
		{"metadata [GUEST] [KEY=VALUE...]", "show or change the metadata of the host or a guest; KEY= removes", 0, -1, "the ID of a guest and KEY=VALUE", nil, "", callMetadata},
		{"jobs", "list the newest jobs", 0, 0, "no arguments", limit, "", callJobs},
		{"job JOB", "wait for a job and show it", 1, 1, "the ID of a job", nil, "", callJob},
		{"snapshots GUEST", "list the snapshots of a guest", 1, 1, aGuest, disk, "", callSnapshots},
		{"snapshot GUEST [NAME]", "make a snapshot of a guest's disks", 1, 2, aSnapshot, disk, "", callSnapshot},
		{"rollback GUEST NAME", "put a guest's disks back to a snapshot", 2, 2, aSnapshot, func(f *pflag.FlagSet, in *agentInput) {
			disk(f, in)
			f.BoolVar(&in.newer, "destroy-more-recent", false, "remove the snapshots that are newer")
		}, "What was written to the disks of %s since is lost.", callRollback},
		{"delete-snapshot GUEST NAME", "remove a snapshot", 2, 2, aSnapshot, disk, "A snapshot of %s is removed.", callDeleteSnapshot},
		{"download GUEST NAME", "copy a snapshot out", 2, 2, aSnapshot, func(f *pflag.FlagSet, in *agentInput) {
			disk(f, in)
			f.StringVar(&in.to, "to", "-", "the file to write, which must not exist; - is standard output")
		}, "", callDownload},
		{"images", "list the images", 0, 0, "no arguments", kind, "", callImages},
		{"image IMAGE", "show an image", 1, 1, "the ID of an image", nil, "", callImage},
		{"fetch IMAGE [URL]", "get an image onto the host", 1, 2, "the ID of an image and where it is", func(f *pflag.FlagSet, in *agentInput) {
			kind(f, in)
			f.StringVar(&in.sha256, "sha256", "", "the hash that it must have")
			f.Uint64Var(&in.size, "size", 0, "the bytes that it must have")
		}, "", callFetch},
		{"upload IMAGE FILE", "send an image to the host; - is standard input", 2, 2, "the ID of an image and a file", func(f *pflag.FlagSet, in *agentInput) {
			f.StringVar(&in.sha256, "sha256", "", "the hash that it must have")
		}, "", callUpload},
		{"save GUEST IMAGE", "make an image of what a container has written", 2, 2, "the ID of a container, and one for the image", nil, "", callSave},
		{"delete-image IMAGE", "remove an image", 1, 1, "the ID of an image", nil, "The image %s is removed.", callDeleteImage},
	}
	for _, x := range []struct{ action, short, destroys string }{
		{"start", "start a guest", ""},
		{"shutdown", "ask a guest to stop", ""},
		{"poweroff", "stop a guest as if the plug were pulled", ""},
		{"reboot", "ask a guest to restart", ""},
		{"restart", "stop a guest as if the plug were pulled, and start it", ""},
		{"suspend", "hold a guest", ""},
		{"resume", "let a held guest go on", ""},
		{"undefine", "make host and agent forget a guest; its disks stay", ""},
		{"delete", "remove a guest and its disks", "The guest %s and its disks are removed."},
	} {
		calls = append(calls, agentCall{x.action + " GUEST", x.short, 1, 1, aGuest, nil, x.destroys, func(ctx context.Context, c *agentCaller, args []string) error {
			_, job, err := c.Act(ctx, args[0], x.action)
			return c.job(ctx, job, err)
		}})
	}
	return calls
}

func agentCallCmd(a *app) *cobra.Command {
	in := &agentInput{}
	c := parent("call", "ask an agent")
	c.Long = `Ask an agent, this program's or Mistify's own. What takes its time is waited for,
and shown as the job that did it.`
	c.Example = `  vagoth agent call guests
  vagoth agent call create -f guest.json
  vagoth agent call --url https://host1:8080 --token-file host1.token jobs --limit 10`
	a.agentURL(c, &in.url)
	c.PersistentFlags().BoolVar(&in.noWait, "no-wait", false, "do not wait for jobs to end")
	for _, call := range agentCalls() {
		below := &cobra.Command{Use: call.use, Short: call.short, Args: args(call.least, call.most, call.what), RunE: func(cmd *cobra.Command, args []string) error {
			if call.destroys != "" && !in.yes {
				if err := a.ask(fmt.Sprintf(call.destroys, args[0])); err != nil {
					return err
				}
			}
			return a.askAgent(cmd, in.url, func(ctx context.Context, client *mistify.Client) error {
				return call.do(ctx, &agentCaller{client, a, in}, args)
			})
		}}
		if call.flags != nil {
			call.flags(below.Flags(), in)
		}
		if call.destroys != "" {
			below.Flags().BoolVarP(&in.yes, "yes", "y", false, "do not ask")
		}
		c.AddCommand(below)
	}
	return c
}

// job waits for a job that was queued, and shows it. One that failed is the
// command's failure.
func (c *agentCaller) job(ctx context.Context, id string, err error) error {
	if err != nil {
		return err
	}
	var j mistify.Job
	if c.in.noWait {
		j, err = c.Job(ctx, id)
	} else {
		j, err = c.WaitJob(ctx, id)
	}
	if err != nil {
		return fmt.Errorf("the job %s is queued, and what became of it is not known: %w", id, err)
	}
	if err := j.Err(); err != nil {
		return err
	}
	return c.app.print(j, []string{j.ID}, func(w io.Writer) error {
		words := []string{j.Action, j.GuestID, string(j.Status), "(job " + j.ID + ")"}
		if j.Message != "" {
			words = append(words, j.Message)
		}
		_, err := fmt.Fprintln(w, printable(strings.Join(words, " ")))
		return err
	})
}

// show prints one thing, to people as YAML.
func (c *agentCaller) show(v any, name string, err error) error {
	if err != nil {
		return err
	}
	return c.app.print(v, []string{name}, func(w io.Writer) error {
		data, err := yaml.Marshal(v)
		if err == nil {
			_, err = io.WriteString(w, printable(string(data)))
		}
		return err
	})
}

// list prints rows, the first cell of each as its name.
func (c *agentCaller) list(v any, head []string, rows [][]string) error {
	t, names := &table{head: head}, []string{}
	for _, row := range rows {
		for i := range row {
			row[i] = dash(strings.ReplaceAll(printable(row[i]), "\n", " "))
		}
		t.add(row...)
		names = append(names, row[0])
	}
	return c.app.print(v, names, func(w io.Writer) error {
		if len(rows) == 0 {
			c.app.say("there are none")
			return nil
		}
		return t.write(w, c.app.paint)
	})
}

func callStatus(ctx context.Context, c *agentCaller, _ []string) error {
	s, err := c.Status(ctx)
	if err != nil {
		return err
	}
	var rows [][]string
	for _, g := range s.Guests {
		known := ""
		if g.Stranger {
			known = "stranger"
		}
		rows = append(rows, []string{g.ID, g.Name, string(g.State), strconv.Itoa(g.CPU), strconv.FormatInt(g.Memory, 10), known})
	}
	if !s.Complete {
		c.app.say("the listing is not complete: %s", strings.Join(s.Problems, "; "))
	}
	return c.list(s, []string{"GUEST", "NAME", "STATE", "CPU", "MEMORY", "NOTE"}, rows)
}

func callGuests(ctx context.Context, c *agentCaller, _ []string) error {
	list, err := c.Guests(ctx)
	if err != nil {
		return err
	}
	var rows [][]string
	for _, g := range list {
		rows = append(rows, []string{g.ID, g.Name, g.Type, g.State, strconv.FormatUint(uint64(g.CPU), 10), strconv.FormatUint(uint64(g.Memory), 10)})
	}
	return c.list(list, []string{"GUEST", "NAME", "TYPE", "STATE", "CPU", "MEMORY"}, rows)
}

func callGuest(ctx context.Context, c *agentCaller, args []string) error {
	g, err := c.Guest(ctx, args[0])
	return c.show(g, g.ID, err)
}

// guest reads the guest that a file holds.
func (c *agentCaller) guest() (g mistify.Guest, err error) {
	in, name := c.app.env.In, c.in.file
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return g, err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	data, err := mistify.ReadBody(in, mistify.MaxBody)
	if err != nil {
		return g, fmt.Errorf("cannot read the guest from %s: %w", name, err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&g); err != nil {
		return g, usagef("%s is no guest: %s", name, err)
	}
	return g, nil
}

func callCreate(ctx context.Context, c *agentCaller, _ []string) error {
	g, err := c.guest()
	if err != nil {
		return err
	}
	_, job, err := c.CreateGuest(ctx, g)
	return c.job(ctx, job, err)
}

func callDefine(ctx context.Context, c *agentCaller, _ []string) error {
	g, err := c.guest()
	if err != nil {
		return err
	}
	_, job, err := c.DefineGuest(ctx, g)
	return c.job(ctx, job, err)
}

func callMetrics(ctx context.Context, c *agentCaller, args []string) (err error) {
	var v any
	switch args[1] {
	case mistify.MetricsCPU:
		v, err = c.CPUMetrics(ctx, args[0])
	case mistify.MetricsDisk:
		v, err = c.DiskMetrics(ctx, args[0])
	case mistify.MetricsNIC:
		v, err = c.NICMetrics(ctx, args[0])
	default:
		return usagef("there are no metrics %.32q: there are cpu, disk and nic", args[1])
	}
	return c.show(v, args[0], err)
}

func callMetadata(ctx context.Context, c *agentCaller, args []string) (err error) {
	guest := ""
	if len(args) > 0 && !strings.Contains(args[0], "=") {
		guest, args = args[0], args[1:]
	}
	patch := mistify.MetadataPatch{}
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok || key == "" {
			return usagef("%q is not KEY=VALUE", arg)
		}
		patch[key] = &value
	}
	var m map[string]string
	switch {
	case guest == "" && len(patch) == 0:
		m, err = c.Metadata(ctx)
	case guest == "":
		m, err = c.PatchMetadata(ctx, patch)
	case len(patch) == 0:
		m, err = c.GuestMetadata(ctx, guest)
	default:
		m, err = c.PatchGuestMetadata(ctx, guest, patch)
	}
	return c.show(m, guest, err)
}

func callJobs(ctx context.Context, c *agentCaller, _ []string) (err error) {
	var list []mistify.Job
	if c.in.guest != "" {
		list, err = c.GuestJobs(ctx, c.in.guest, c.in.limit)
	} else {
		list, err = c.Jobs(ctx, c.in.limit)
	}
	if err != nil {
		return err
	}
	var rows [][]string
	for _, j := range list {
		rows = append(rows, []string{j.ID, j.GuestID, j.Action, string(j.Status), j.QueuedAt.Format(time.RFC3339), j.Message})
	}
	return c.list(list, []string{"JOB", "GUEST", "ACTION", "STATUS", "QUEUED", "MESSAGE"}, rows)
}

func callJob(ctx context.Context, c *agentCaller, args []string) error {
	j, err := c.Job(ctx, args[0])
	if err == nil && !c.in.noWait && !j.Status.Ended() {
		j, err = c.WaitJob(ctx, args[0])
	}
	return c.show(j, j.ID, err)
}

// snapshot is what the arguments and --disk name.
func (c *agentCaller) snapshot(args []string) mistify.SnapshotID {
	id := mistify.SnapshotID{Guest: args[0], Disk: c.in.disk}
	if len(args) > 1 {
		id.Name = args[1]
	}
	return id
}

func callSnapshots(ctx context.Context, c *agentCaller, args []string) error {
	list, err := c.Snapshots(ctx, c.snapshot(args))
	if err != nil {
		return err
	}
	var rows [][]string
	for _, s := range list {
		rows = append(rows, []string{s.ID, strconv.FormatUint(s.Size, 10)})
	}
	return c.list(list, []string{"SNAPSHOT", "SIZE"}, rows)
}

func callSnapshot(ctx context.Context, c *agentCaller, args []string) error {
	job, err := c.CreateSnapshot(ctx, c.snapshot(args))
	return c.job(ctx, job, err)
}

func callRollback(ctx context.Context, c *agentCaller, args []string) error {
	job, err := c.Rollback(ctx, c.snapshot(args), c.in.newer)
	return c.job(ctx, job, err)
}

func callDeleteSnapshot(ctx context.Context, c *agentCaller, args []string) error {
	job, err := c.DeleteSnapshot(ctx, c.snapshot(args))
	return c.job(ctx, job, err)
}

// callDownload leaves no half of a file behind.
func callDownload(ctx context.Context, c *agentCaller, args []string) (err error) {
	d, err := c.DownloadSnapshot(ctx, c.snapshot(args))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if c.in.to == "-" {
		_, err = io.Copy(c.app.env.Out, d)
		return err
	}
	f, err := os.OpenFile(c.in.to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, d)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("the download broke off after %d bytes: %w", n, err), os.Remove(c.in.to))
	}
	c.app.say("%d bytes in %s", n, c.in.to)
	return nil
}

func callUpload(ctx context.Context, c *agentCaller, args []string) error {
	r := mistify.ImageRequest{ID: args[0], SHA256: c.in.sha256}
	content := io.NopCloser(c.app.env.In)
	if args[1] != "-" {
		f, err := os.Open(args[1])
		if err != nil {
			return err
		}
		stat, err := f.Stat()
		if err != nil {
			return errors.Join(err, f.Close())
		}
		r.Size, content = uint64(stat.Size()), f
	}
	i, err := c.PutImage(ctx, r, content)
	return c.show(i, i.ID, err)
}

func callImages(ctx context.Context, c *agentCaller, _ []string) error {
	list, err := c.Images(ctx, c.in.kind)
	if err != nil {
		return err
	}
	var rows [][]string
	for _, i := range list {
		rows = append(rows, []string{i.ID, i.Type, strconv.FormatUint(i.Size, 10), i.Status})
	}
	return c.list(list, []string{"IMAGE", "TYPE", "SIZE", "STATUS"}, rows)
}

func callImage(ctx context.Context, c *agentCaller, args []string) error {
	i, err := c.Image(ctx, args[0])
	return c.show(i, i.ID, err)
}

func callFetch(ctx context.Context, c *agentCaller, args []string) error {
	r := mistify.ImageRequest{ID: args[0], Type: c.in.kind, SHA256: c.in.sha256, Size: c.in.size}
	if len(args) > 1 {
		r.Source = args[1]
	}
	job, err := c.FetchImage(ctx, r)
	return c.job(ctx, job, err)
}

func callSave(ctx context.Context, c *agentCaller, args []string) error {
	job, err := c.SaveGuest(ctx, args[0], args[1])
	return c.job(ctx, job, err)
}

func callDeleteImage(ctx context.Context, c *agentCaller, args []string) error {
	job, err := c.DeleteImage(ctx, args[0])
	return c.job(ctx, job, err)
}
