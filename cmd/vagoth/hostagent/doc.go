// Package hostagent is the daemon on a host: it opens the agent of package
// virt/agent with the sub-agents that are inside the process, and serves it at
// one address.
//
// Run is the whole of it. It takes a function that reads the configuration, a
// context whose end is the wish to stop, and channels for the wishes to reload
// and to end at once; so it knows no signals, and tests run it in the process.
//
// # Why
//
// On loopback it asks nobody who he is, as the agents of Mistify do, unless it is
// told to: existing clients have nothing to show. Everywhere else it needs TLS,
// and tokens or client certificates; their file is the one of `vagoth token`.
//
// One file of configuration serves the manager and the agent of a machine: each
// reads its own sections, and leaves those of the other alone.
package hostagent
