package serve_test

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/manager/standard"
)

func TestReload(t *testing.T) {
	s := start(t, tempDir(t), small)
	reload := func(text, says string) {
		t.Helper()
		write(t, s.ini, text)
		s.reload <- struct{}{}
		s.waitFor(says)
		if _, err := s.client.Version(t.Context()); err != nil {
			t.Error(err)
		}
	}
	reload(small+"[serve]\nlog_level = debug\n", "msg=reloaded")
	reload(small+"[serve]\nlog_level = debug\nmax_connections = 5\n[monitor.poll]\nevery = @every 77s\n", "[monitor.poll] every, [serve] max_connections")
	reload("data = elsewhere\n"+strings.TrimPrefix(small, "data = data\n"), "start the daemon again to serve another directory")
	reload(small+"[serve]\nlisten = 127.0.0.1:0\n", "nobody could be told apart")
	reload("nonsense", "is no header")
	if strings.Count(s.log.String(), "the old configuration stays") != 3 {
		t.Errorf("not each bad file was refused:\n%s", s.log)
	}
	if err := os.Remove(s.ini); err != nil {
		t.Fatal(err)
	}
	s.reload <- struct{}{}
	s.waitFor("no such file")
}

// What the command line says of the log is not undone by a reload.
func TestLog(t *testing.T) {
	s, o := prepared(t, tempDir(t), small+"[serve]\nlog_level = error\nlog_format = text\n", standard.Menu())
	o.Level, o.Format = "info", "json"
	s.run(o)
	s.waitFor(`"msg":"serving"`)
	s.reload <- struct{}{}
	s.waitFor(`"msg":"reloaded"`)
	for _, bad := range []struct{ level, format string }{{"loud", ""}, {"", "xml"}} {
		_, o := prepared(t, tempDir(t), small, standard.Menu())
		o.Level, o.Format = bad.level, bad.format
		if err := runFails(t, o); err == nil || !strings.Contains(err.Error(), "there is no log") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// What the unit file asks systemd to expect is sent.
func TestNotify(t *testing.T) {
	path := filepath.Join(tempDir(t), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "300000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	said := func(text string) string {
		t.Helper()
		if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		for data := make([]byte, 4096); ; {
			n, err := c.Read(data)
			if err != nil {
				t.Fatalf("systemd was never told %s: %v", text, err)
			}
			if strings.HasPrefix(string(data[:n]), text) {
				return string(data[:n])
			}
		}
	}
	s := start(t, tempDir(t), small)
	said("STATUS=opening")
	said("READY=1\nSTATUS=serving")
	for range 3 {
		said("WATCHDOG=1")
	}
	s.reload <- struct{}{}
	if text := said("RELOADING=1"); !strings.Contains(text, "\nMONOTONIC_USEC=") {
		t.Errorf("reloading: %q", text)
	}
	said("READY=1")
	write(t, s.ini, "nonsense\nmore")
	s.reload <- struct{}{}
	if text := said("READY=1\nSTATUS=serving; the last reload failed"); strings.Count(text, "\n") != 1 {
		t.Errorf("after a bad reload: %q", text)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	said("STOPPING=1")
}
