// Package api is the management interface of a cluster: an HTTP handler over a
// Manager, and its Go client. The command line uses nothing else.
//
//	client := api.NewClient("http://vagoth", api.InProcess(api.Handler(m)))
//	for item, err := range client.Nodes(ctx, registry.Query{Type: "vm"}) { … }
//
// Whoever changes something says who and why in a trail (package trail), which
// the client sends in headers and the handler puts into the context.
//
// One table of routes is the whole interface: the handler, the manual
// (docs/api.md) and the OpenAPI document are made from it, and each route says
// which role it needs (package token). A Client is a scheduler.Broker, so that
// package scheduler/worker runs over it as it does inside the daemon.
//
// # Why
//
// The command line opens the cluster inside its own process and still speaks
// HTTP to it, without a socket, so that it cannot use anything that a daemon
// elsewhere would not offer. Errors cross as a code of one table (see Codes),
// from which come the status, the exit code and, in the client, the error that
// errors.Is finds.
package api
