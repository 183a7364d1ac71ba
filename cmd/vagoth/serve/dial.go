package serve

import (
	"context"
	"net"
	"net/http"
	"time"
)

// Transport asks the daemon whose unix socket is at path.
func Transport(path string) *http.Transport {
	return &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return Dial(ctx, path) },
		DisableCompression:  true,
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     time.Minute,
	}
}
