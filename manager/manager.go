package manager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"sync"
	"time"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/manager/config"
	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
)

// Manager is an open cluster. Its fields are safe for concurrent use and are
// not to be replaced.
type Manager struct {
	Registry    registry.Registry
	Scheduler   scheduler.Scheduler
	Provisioner provisioner.Provisioner
	Allocator   allocator.Allocator
	Monitor     monitor.Monitor
	Drivers     map[string]virt.Driver       // by the NAME of [drivers.NAME]
	Types       map[string]provisioner.Class // by node type
	Actions     map[string]scheduler.Action  // by name
	Settings    *Settings

	log *slog.Logger
	now func() time.Time

	mu      sync.Mutex
	closers []closer // in the order of opening

	reloaded *Settings // what the scheduler works by, if that is not Settings
}

type closer struct {
	what  string
	close func() error
}

// Options are what does not stand in the file. The zero Options are sensible.
type Options struct {
	Log      *slog.Logger     // nil discards
	Now      func() time.Time // nil is the machine's clock
	LockWait time.Duration    // how long to wait for another process to release the data directory

	Wrote  func(time.Duration)  // is told how long each write to the registry took; nil is nobody
	Polled func(monitor.Report) // is told of each poll of hosts, asked for or scheduled; nil is nobody

	// Work runs the jobs that are submitted through the Manager, and no others,
	// until Close, which waits for those that run: for a script or a command
	// where no daemon is. It means nothing to a scheduler that runs jobs in
	// their caller.
	Work bool
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Load reads the file, checks all of it against the menu and opens what it
// chooses. The caller closes the Manager.
func Load(ctx context.Context, path string, menu Menu, o Options) (*Manager, error) {
	f, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	s, err := Read(f, menu)
	if err != nil {
		return nil, err
	}
	return Open(ctx, s, o)
}

// Open opens what s has chosen. If one component cannot be opened, those that
// were are closed again.
func Open(ctx context.Context, s *Settings, o Options) (*Manager, error) {
	o = o.withDefaults()
	m, err := openParts(ctx, s, o)
	if err != nil {
		return nil, err
	}
	divide, _ := m.Registry.(registry.Divider) // or all hosts are this manager's
	m.Monitor, err = s.monitor.Open(ctx, monitor.Deps{Cluster: m, Jobs: m.Scheduler, Log: o.Log, Now: o.Now, Divide: divide, Polled: o.Polled})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open monitor %s: %w", s.monitor.Kind, err), m.Close())
	}
	m.opened("monitor", m.Monitor.Close)
	if o.Work {
		m.work(ctx)
	}
	return m, nil
}

// OpenRegistry opens the registry alone, for those who only look at nodes. The
// Manager has its Settings and Types and none of the other components, so that
// nothing of theirs is made or waited for.
func OpenRegistry(ctx context.Context, s *Settings, o Options) (*Manager, error) {
	o = o.withDefaults()
	m := &Manager{Settings: s, Types: maps.Clone(s.types), Drivers: map[string]virt.Driver{}, log: o.Log, now: o.Now}
	if err := m.openRegistry(ctx, o); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// OpenStore opens what the scheduler has stored, alone and for a copy: no job of it
// begins, ends or expires. ErrUnsupported says that this kind of scheduler keeps nothing that
// could be copied. The caller closes the Store.
func OpenStore(ctx context.Context, s *Settings, o Options) (scheduler.Store, error) {
	o = o.withDefaults()
	if err := makeData(s.Data); err != nil {
		return nil, err
	}
	opened, err := s.scheduler.Open(ctx, scheduler.Deps{Data: s.Data, Log: o.Log, Now: o.Now, LockWait: o.LockWait, Still: true})
	if err != nil {
		return nil, fmt.Errorf("cannot open scheduler %s: %w", s.scheduler.Kind, err)
	}
	if store, ok := opened.(scheduler.Store); ok {
		return store, nil
	}
	return nil, errors.Join(fmt.Errorf("%w: scheduler %s keeps no jobs that could be copied", scheduler.ErrUnsupported, s.scheduler.Kind), opened.Close())
}

// openParts is Open without the monitor.
func openParts(ctx context.Context, s *Settings, o Options) (*Manager, error) {
	m := &Manager{Settings: s, Types: maps.Clone(s.types), Drivers: map[string]virt.Driver{}, log: o.Log, now: o.Now}
	if err := m.open(ctx, o); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// open goes down the layers: each component finds open what it needs.
func (m *Manager) open(ctx context.Context, o Options) (err error) {
	s := m.Settings
	if err := m.openRegistry(ctx, o); err != nil {
		return err
	}
	if m.Provisioner, err = s.provisioner.Open(ctx, provisioner.Deps{Registry: m.Registry, Types: m.Types, Log: o.Log, Now: o.Now}); err != nil {
		return fmt.Errorf("cannot open provisioner %s: %w", s.provisioner.Kind, err)
	}
	m.openedMaybe("provisioner", m.Provisioner)

	if m.Allocator, err = s.allocator.Open(ctx, allocator.Deps{Log: o.Log, Now: o.Now, Host: virt.AllocatorHost, Need: virt.Need}); err != nil {
		return fmt.Errorf("cannot open allocator %s: %w", s.allocator.Kind, err)
	}
	m.openedMaybe("allocator", m.Allocator)

	for _, d := range s.drivers {
		driver, err := d.Open(ctx, virt.DriverDeps{Name: d.Name, Data: s.Data, Log: o.Log.With("driver", d.Name), Now: o.Now})
		if err != nil {
			return fmt.Errorf("cannot open driver %s (%s): %w", d.Name, d.Kind, err)
		}
		m.Drivers[d.Name] = driver
		m.openedMaybe("driver "+d.Name, driver)
	}

	m.Actions = s.actions(m)
	if m.Scheduler, err = s.scheduler.Open(ctx, scheduler.Deps{Actions: m.Actions, Data: s.Data, Log: o.Log, Now: o.Now, LockWait: o.LockWait}); err != nil {
		return fmt.Errorf("cannot open scheduler %s: %w", s.scheduler.Kind, err)
	}
	m.opened("scheduler", m.Scheduler.Close)
	return m.fenced()
}

// fenced refuses drivers that cannot tell a manager which was taken for dead from one
// that lives, if the scheduler is shared by several.
func (m *Manager) fenced() error {
	shared, ok := m.Scheduler.(scheduler.Shared)
	if !ok || !shared.NeedsFencing() {
		return nil
	}
	var errs []error
	for _, d := range m.Settings.drivers {
		if f, ok := m.Drivers[d.Name].(virt.Fencer); !ok || !f.Fences() {
			errs = append(errs, fmt.Errorf("[drivers.%s] use = %s cannot refuse what a manager asks late that was taken for dead, and scheduler %s gives its jobs to another: let an agent run on the hosts (use = remote), or take the risk with [scheduler] unfenced = accept",
				d.Name, d.Kind, m.Settings.scheduler.Kind))
		}
	}
	return errors.Join(errs...)
}

func (m *Manager) openRegistry(ctx context.Context, o Options) (err error) {
	s := m.Settings
	if err := makeData(s.Data); err != nil {
		return err
	}
	if m.Registry, err = s.registry.Open(ctx, registry.Deps{Data: s.Data, Log: o.Log, Now: o.Now, LockWait: o.LockWait, Wrote: o.Wrote}); err != nil {
		return fmt.Errorf("cannot open registry %s: %w", s.registry.Kind, err)
	}
	m.opened("registry", m.Registry.Close)
	return nil
}

func makeData(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot make the data directory: %w", err)
	}
	return nil
}

func (m *Manager) opened(what string, close func() error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closers = append(m.closers, closer{what, close})
}

// openedMaybe notes a component whose contract has no Close.
func (m *Manager) openedMaybe(what string, part any) {
	if c, ok := part.(interface{ Close() error }); ok {
		m.opened(what, c.Close)
	}
}

// Parts makes the Manager a virt.Cluster.
func (m *Manager) Parts() virt.Parts {
	return virt.Parts{
		Registry: m.Registry, Scheduler: m.Scheduler, Provisioner: m.Provisioner, Allocator: m.Allocator,
		Drivers: m.Drivers, Log: m.log, Now: m.now,
	}
}

// Close releases the components, the last opened first, and returns all of
// their errors. A second call does nothing.
func (m *Manager) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for i := len(m.closers) - 1; i >= 0; i-- {
		if err := m.closers[i].close(); err != nil {
			errs = append(errs, fmt.Errorf("cannot close %s: %w", m.closers[i].what, err))
		}
	}
	m.closers = nil
	return errors.Join(errs...)
}
