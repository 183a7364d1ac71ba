package testbed

import (
	"fmt"
	"os"
	"path/filepath"
)

// configure writes the private /etc/libvirt.
func (d *Daemon) configure() error {
	folder := filepath.Join(d.dir, "etc")
	if err := os.Mkdir(folder, 0o755); err != nil {
		return err
	}
	files := map[string]string{
		// Who can open the socket's folder is root anyway; polkit and sasl are not there to ask. Log level 3 is warnings.
		"libvirtd.conf": fmt.Sprintf(`host_uuid = %q
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_ro_perms = "0700"
unix_sock_rw_perms = "0700"
max_clients = 200
max_workers = 20
log_level = 3
log_outputs = "3:stderr"
keepalive_interval = -1
`, d.UUID),
		"virtlogd.conf": `log_level = 3
log_outputs = "3:stderr"
`,
		// QEMU runs as root in here, and libvirt changes nobody's files: no owner, no label, no control group, no /dev of its own. What is
		// left of a test is what is in its folder.
		"qemu.conf": `user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
security_default_confined = 0
cgroup_controllers = []
namespaces = []
stdio_handler = "logd"
vnc_listen = "127.0.0.1"
spice_listen = "127.0.0.1"
`,
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}
