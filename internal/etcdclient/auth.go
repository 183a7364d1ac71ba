package etcdclient

import (
	"context"
	"errors"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// tokens shows etcd who we are, in place of etcd's own client, which sends its old
// token along when it asks for a new one: a server that no longer knows the old one,
// as it was started again or the user was made anew, refuses that, and the client
// asks for ever.
type tokens struct {
	name, password string

	turn  chan struct{} // held by the one who asks for a token, or looks
	token string
}

func newTokens(name, password string) *tokens {
	return &tokens{name: name, password: password, turn: make(chan struct{}, 1)}
}

// login asks for a token unless there is another than used.
func (a *tokens) login(ctx context.Context, c *clientv3.Client, used string) (string, error) {
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if a.token != used {
		return a.token, nil
	}
	resp, err := c.Authenticate(ctx, a.name, a.password)
	switch {
	case errors.Is(err, rpctypes.ErrAuthNotEnabled):
		return "", nil // everybody may do everything
	case err != nil:
		return "", err
	}
	a.token = resp.Token
	return a.token, nil
}

// shown returns ctx with a token, a new one unless there is another than used.
func (a *tokens) shown(ctx context.Context, c *clientv3.Client, used string) (context.Context, string, error) {
	token, err := a.login(ctx, c, used)
	if err != nil || token == "" {
		return ctx, token, err
	}
	return metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, token), token, nil
}

// stale reports whether a new token may help.
func stale(err error) bool {
	err = rpctypes.Error(err)
	for _, e := range []error{rpctypes.ErrInvalidAuthToken, rpctypes.ErrUserEmpty, rpctypes.ErrAuthOldRevision} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// free reports whether a call needs no token.
func free(method string) bool { return strings.HasPrefix(method, "/etcdserverpb.Auth/") }

// options make a client show the tokens; client is known only when it is made.
func (a *tokens) options(client func() *clientv3.Client) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			if free(method) {
				return call(ctx, method, req, reply, cc, opts...)
			}
			with, token, err := a.shown(ctx, client(), "")
			if err != nil {
				return err
			}
			if err = call(with, method, req, reply, cc, opts...); !stale(err) {
				return err
			}
			if with, _, err = a.shown(ctx, client(), token); err != nil {
				return err
			}
			return call(with, method, req, reply, cc, opts...)
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, method string, stream grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			with, _, err := a.shown(ctx, client(), "")
			if err != nil {
				return nil, err
			}
			return stream(with, d, cc, method, opts...)
		}),
	}
}
