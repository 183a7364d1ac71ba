// Package mistify is the wire that a host's agent speaks: to its clients over
// REST, and to its sub-agents over JSON-RPC.
//
// It holds the types of both (Guest, Job, Image, Snapshot, the requests and
// responses of the calls), the table of the actions that an agent knows, the
// checks of ids and names that come from people, a client for sub-agents
// (RPC), a server for those who write sub-agents (Server), and a client for
// the agent itself (Client).
//
// # Where the formats are from
//
// All of them are those of the Mistify agent, github.com/mistifyio/mistify-agent,
// so that its clients and sub-agents work unchanged:
//
//   - Guest, NIC, Disk and the metrics: its package client (client/guest.go).
//   - GuestRequest and all other requests and responses of calls, Image, Volume
//     and Snapshot: its package rpc (rpc/guest.go, rpc/image.go). A snapshot's id,
//     guests/ID[/disk-N][@NAME]: its snapshot.go.
//   - Job and the error body: its jobLog.go and http.go. The members of a job
//     start with a capital letter, as they do there.
//   - The actions and their types: its config/config.go; the prefix of the
//     actions of containers: its guest.go.
//   - The envelope of a call: JSON-RPC 1.0 as github.com/gorilla/rpc and its
//     codec json speak it; the path: rpc/rpc.go; streams: rpc/client.go.
//
// What is added is marked as an addition. Additions are members, actions,
// headers and paths more; none changes what was there.
//
// # Why
//
// The types are plain structs with exported members and no methods that hide
// something: they are a format, and the agent, the driver of remote hosts and
// sub-agents in Go all read and write the same one. Reading is lenient where the
// wire belongs to others (members nobody knows are dropped, as the agent before
// us does) and strict where something comes from people: names, sizes and
// counts are checked against allowlists and bounds. Lists hold values and not
// pointers, so that a null in the middle of one is an empty element and never a
// crash.
package mistify
