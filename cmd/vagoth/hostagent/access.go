package hostagent

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/vagoth/vagoth/auth"
	"github.com/vagoth/vagoth/cmd/vagoth/serve"
	"github.com/vagoth/vagoth/virt/agent"
)

// unixPrefix begins an address that is a unix socket.
const unixPrefix = "unix:"

// asks reports whether clients show who they are. On loopback they do if the
// config gives them something to show.
func (s *Settings) asks() bool {
	return s.Net.Tokens != "" || s.Net.ClientCA != "" || !local(s.Agent.Listen)
}

// local reports whether only this machine reaches the address.
func local(address string) bool {
	if strings.HasPrefix(address, unixPrefix) {
		return true
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// tokensFile is where vagoth token keeps who is let in.
func (s *Settings) tokensFile() string {
	if s.Net.Tokens != "" {
		return string(s.Net.Tokens)
	}
	return filepath.Join(s.Data, "tokens")
}

func (s *Settings) certificateFiles() serve.TLSFiles {
	return serve.TLSFiles{Section: "agent", Cert: string(s.Net.TLSCert), Key: string(s.Net.TLSKey), Client: string(s.Net.ClientCA)}
}

// checkAccess refuses an address at which everybody could do everything, or
// could read along, and one at which nobody could do anything.
func (s *Settings) checkAccess(hasTokens bool) error {
	known := s.Net.ClientCA != "" || hasTokens
	if err := agent.CheckListen(s.Agent.Listen, s.Net.TLSCert != "", known); err != nil {
		return fmt.Errorf("[agent] listen: %w", err)
	}
	if s.asks() && !known {
		return fmt.Errorf("[agent] tokens: %s: %w", s.tokensFile(), errNobody)
	}
	return nil
}

// callers says who asks; nil where nobody is asked.
func (s *Settings) callers(store *auth.Store) auth.Authenticator {
	if !s.asks() {
		return nil
	}
	return auth.Local(store)
}

// listen opens the address.
func listen(ctx context.Context, address string) (net.Listener, *serve.Socket, error) {
	if path, ok := strings.CutPrefix(address, unixPrefix); ok {
		socket, err := serve.ListenUnix(ctx, strings.TrimPrefix(path, "//"), "")
		if err != nil {
			return nil, nil, fmt.Errorf("[agent] listen: %w", err)
		}
		return socket, socket, nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, nil, fmt.Errorf("[agent] listen: %w", err)
	}
	return l, nil, nil
}
