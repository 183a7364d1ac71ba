package layers

// What a package is decides what it may import; see check.
type class int

const (
	plain          class = iota // a contract, or shared code: may be imported by all that stand below it
	implementation              // one of several ways to keep a contract: only assemblies import it
	suite                       // a conformance suite or another help for tests: only tests and suites import it
	assembly                    // puts implementations together
)

// row is one package, or with a name that ends in /* all packages of a folder.
type row struct {
	name   string
	class  class
	onlyBy []string // if there are any, only these import it (and tests)
	bare   bool     // imports the standard library only
}

// order is the house from the ground up: a package imports only what stands above it in this list. A new package gets its row here, below
// everything it needs; packages that are not written yet may stand here already. The list is that of the design, finer in places.
var order = []row{
	{name: "trail"},
	{name: "manager/component", bare: true},
	{name: "internal/layers"},
	{name: "internal/lockfile"},
	{name: "internal/gcroom"},
	{name: "internal/spareprocs", bare: true},
	{name: "internal/testlong", class: suite},
	{name: "internal/benchdisk", class: suite},
	{name: "internal/powercut", class: suite},
	{name: "internal/smalldisk", class: suite},
	{name: "internal/syncbuf", class: suite},
	{name: "internal/journal"},
	{name: "internal/scratch"},
	{name: "internal/plainhttp"},
	{name: "internal/duplex", bare: true},
	{name: "internal/leanserver"},

	{name: "registry"},
	{name: "registry/registrytest", class: suite},
	{name: "registry/index", onlyBy: []string{"registry/memdb", "registry/etcd"}},
	{name: "internal/etcdclient", onlyBy: []string{"registry/etcd", "scheduler/etcd"}},
	{name: "auth"},
	{name: "scheduler"},
	{name: "scheduler/worker"},
	{name: "scheduler/spin"},
	{name: "scheduler/schedulertest", class: suite},
	{name: "provisioner"},
	{name: "provisioner/provisionertest", class: suite},
	{name: "allocator"},
	{name: "allocator/allocatortest", class: suite},
	{name: "virt"},
	{name: "virt/drivertest", class: suite},
	{name: "virt/cloudinit"},
	{name: "monitor"},
	{name: "virt/action"},

	{name: "registry/memdb", class: implementation},
	{name: "registry/etcd", class: implementation},
	{name: "scheduler/engine", onlyBy: []string{"scheduler/broker", "scheduler/etcd"}},
	{name: "scheduler/sync", class: implementation},
	{name: "scheduler/broker", class: implementation},
	{name: "scheduler/etcd", class: implementation},
	{name: "provisioner/basic", class: implementation},
	{name: "provisioner/template", class: implementation},
	{name: "allocator/fixed", class: implementation},
	{name: "allocator/score", class: implementation},
	{name: "monitor/poll", class: implementation},
	{name: "virt/sim", class: implementation},
	{name: "virt/libvirt", class: implementation},
	{name: "monitor/monitortest", class: suite},
	{name: "virt/mistify"},
	{name: "virt/subagent"},
	{name: "virt/remote", class: implementation},
	{name: "virt/subagent/fetch"},
	{name: "virt/subagent/qemuimg"},
	{name: "virt/subagent/store"},
	{name: "virt/subagent/storetest", class: suite},
	{name: "virt/subagent/qcow2"},
	{name: "virt/subagent/*", class: implementation},
	{name: "virt/libvirtdir", class: assembly},
	{name: "virt/agent"},

	{name: "manager/config", onlyBy: []string{"manager", "manager/standard", "cmd/vagoth", "cmd/vagoth/cli", "cmd/vagoth/hostagent"}},
	{name: "manager"},
	{name: "manager/standard", class: assembly},
	{name: "api"},
	{name: "cmd/vagoth/serve"},
	{name: "cmd/vagoth/hostagent"},
	{name: "cmd/vagoth/cli"},
	{name: "cmd/vagoth", class: assembly},
	{name: "examples/*"},
	{name: "test/testbed", class: suite},
	{name: "test/etcdtest", class: suite},
	{name: "test/*", class: suite},
}

// thirdParty says who may import which module, by the module's path or a longer import path below it; the longest that fits counts.
// everyone and tests are for those words; a name that ends in /* is a folder.
const (
	everyone = "everyone"
	tests    = "tests"
)

var thirdParty = map[string][]string{
	"github.com/google/uuid": {everyone},
	"golang.org/x/sync":      {everyone},
	"golang.org/x/sys":       {everyone},

	"go.etcd.io/etcd/server/v3/storage/wal": {"internal/journal"},
	"go.etcd.io/etcd/client/pkg/v3":         {"internal/journal"},
	"go.etcd.io/raft/v3":                    {"internal/journal"},
	"go.uber.org/zap":                       {"internal/journal", "internal/etcdclient", tests},
	"google.golang.org/protobuf":            {"internal/journal"},
	"google.golang.org/grpc":                {"internal/etcdclient"},

	"github.com/hashicorp/go-memdb":            {"registry/index"},
	"go.etcd.io/etcd/client/v3":                {"internal/etcdclient", "registry/etcd", "scheduler/etcd"},
	"go.etcd.io/etcd/api/v3":                   {"internal/etcdclient", "registry/etcd", "scheduler/etcd"},
	"go.etcd.io/etcd/server/v3":                {tests},
	"github.com/robfig/cron/v3":                {"monitor/poll"},
	"github.com/santhosh-tekuri/jsonschema/v6": {"virt"},
	"github.com/digitalocean/go-libvirt":       {"virt/libvirt", tests}, // a sampler asks libvirtd itself
	"libvirt.org/go/libvirtxml":                {"virt/libvirt"},
	"gopkg.in/ini.v1":                          {"manager/config"},
	"github.com/ulikunitz/xz":                  {"virt/subagent/fetch"},
	"github.com/klauspost/compress/zstd":       {"virt/subagent/fetch"},
	"github.com/mistifyio/go-zfs/v4":           {"virt/subagent/zfs"},
	"github.com/moby/moby/client":              {"virt/subagent/docker"},
	"github.com/moby/moby/api":                 {"virt/subagent/docker"},
	"github.com/containerd/errdefs":            {"virt/subagent/docker"},
	"github.com/valyala/fasthttp":              {"internal/leanserver"},
	"github.com/gin-gonic/gin":                 {"api", "virt/agent"},
	"github.com/prometheus/client_golang":      {"api"},
	"github.com/coreos/go-systemd/v22":         {"cmd/vagoth/serve"},
	"golang.org/x/time":                        {everyone},
	"github.com/spf13/cobra":                   {"cmd/vagoth/*"},
	"github.com/spf13/pflag":                   {"cmd/vagoth/*"},
	"golang.org/x/term":                        {"cmd/vagoth/*"},
	"sigs.k8s.io/yaml":                         {"cmd/vagoth/*"},

	"pgregory.net/rapid":                         {tests},
	"github.com/anishathalye/porcupine":          {tests},
	"go.uber.org/goleak":                         {tests},
	"github.com/google/go-cmp":                   {tests},
	"github.com/rogpeppe/go-internal/testscript": {tests},
}
