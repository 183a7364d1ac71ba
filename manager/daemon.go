package manager

import (
	"path/filepath"
	"time"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/manager/config"
)

// Daemon is the section [serve]: how `vagoth serve` is reached and how it
// behaves. The manager itself uses none of it.
type Daemon struct {
	Socket      component.Path `ini:"socket" help:"the unix socket; vagoth.sock in the data directory if empty"`
	SocketGroup string         `ini:"socket_group" help:"a group whose members may use the socket too; empty is the user of the daemon alone"`

	Listen   []string       `ini:"listen" help:"addresses on the network, such as 10.0.0.5:8443; with TLS, and clients that show a certificate or a token; tokens alone do on the loopback"`
	TLSCert  component.Path `ini:"tls_cert" help:"certificate of the daemon, with those that signed it, in PEM"`
	TLSKey   component.Path `ini:"tls_key" help:"its key, in PEM"`
	ClientCA component.Path `ini:"client_ca" help:"certificates, in PEM, that sign those of clients; vagoth token says which are let in"`
	Tokens   component.Path `ini:"tokens" help:"file of what vagoth token lets in; tokens in the data directory if empty"`

	MaxConnections int           `ini:"max_connections" help:"connections of each listener at once" min:"1" max:"100000"`
	MaxRequests    int           `ini:"max_requests" help:"requests at once, beside those that wait or stream; more are answered with 429, but status and stop pass" min:"1" max:"100000"`
	HeaderTimeout  time.Duration `ini:"header_timeout" help:"longest time for the headers of a request" min:"10ms" max:"1m"`
	BodyTimeout    time.Duration `ini:"body_timeout" help:"longest pause while a request's body is sent, or an answer is read" min:"10ms" max:"10m"`
	IdleTimeout    time.Duration `ini:"idle_timeout" help:"longest time that a connection stays open between two requests" min:"10ms" max:"1h"`

	ShutdownTimeout time.Duration `ini:"shutdown_timeout" help:"longest time for jobs and requests to end when the daemon does" min:"100ms" max:"1h"`
	LogLevel        string        `ini:"log_level" help:"what is logged; --log-level says otherwise" oneof:"debug,info,warn,error"`
	LogFormat       string        `ini:"log_format" help:"how it is logged; --log-format says otherwise" oneof:"text,json"`
}

// DaemonDefaults are the keys of [serve] where the file is silent.
func DaemonDefaults() Daemon {
	return Daemon{
		MaxConnections: 8192, MaxRequests: 256,
		HeaderTimeout: 5 * time.Second, BodyTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		ShutdownTimeout: 30 * time.Second, LogLevel: "info", LogFormat: "text",
	}
}

// readDaemon takes [serve]. Its files need not be there yet.
func (s *Settings) readDaemon(f *config.File) {
	s.Daemon = config.Section(f, "serve", DaemonDefaults())
	if s.Daemon.Socket == "" {
		s.Daemon.Socket = component.Path(filepath.Join(s.Data, "vagoth.sock"))
	}
	if s.Daemon.Tokens == "" {
		s.Daemon.Tokens = component.Path(filepath.Join(s.Data, "tokens"))
	}
	if (s.Daemon.TLSCert == "") != (s.Daemon.TLSKey == "") {
		f.Report(component.Problem{File: f.Name(), Section: "serve", Reason: "tls_cert and tls_key go together: one of them is missing"})
	}
	if s.Daemon.ClientCA != "" && s.Daemon.TLSCert == "" {
		f.Report(component.Problem{File: f.Name(), Section: "serve", Key: "client_ca", Reason: "certificates of clients need TLS", Suggestion: "name tls_cert and tls_key"})
	}
	s.text = map[[2]string]string{}
	for _, section := range f.Sections() {
		for _, e := range section.Entries {
			s.text[[2]string{section.Name, e.Key}] = e.Raw
		}
	}
}
