// Package spin serves the HTTP API of spin-broker, so that its agents and
// scripts work unchanged on a broker of vagoth.
//
// Six verbs, JSON in and out:
//
//	POST /new              "PACKAGE"
//	POST /add/PACKAGE      {"resource","action","parameters"}      "COMMAND"
//	POST /enqueue/PACKAGE  ["COMMAND", …]
//	GET  /status/PACKAGE   {"status","reason","causer"}
//	GET  /next/RESOURCE    {"uuid","resource","action","parameters"}
//	POST /complete         {"id","status","status_reason"}         no body
//
// A resource is a queue, a command a job. "next" does not wait: an empty queue
// is a 400 with the error record_not_found, as is the status of a package that
// is not done, and the agents ask again a second later. An error has the header
// goa-error and a body with name, id, message, temporary, timeout and fault.
//
// The queues must be left to workers outside: remote = yes in [queue.RESOURCE].
//
// # Why
//
// The format is that of github.com/erikh/spin: design/broker.go and the
// encoders that goa v3 generated from it, its server in spin_broker.go, its
// manual in cmd/spin-broker/README.md. Fields, status codes and the error bodies
// are as there. What is different, is so on purpose:
//
//   - The uuid of "next" names the attempt, not the command. An agent that comes
//     back after its lease ended, when another one has the command, knows a uuid
//     that means nothing any more, and gets record_not_found. There, whoever
//     knew the command could complete it.
//   - "enqueue" takes the package as a whole, and once: a second time answers
//     with the same commands and queues nothing.
//   - "status" tells of a failure as soon as there is one, whatever else of the
//     package is unfinished.
//   - What is not found is a 400 everywhere. There, only status and next say so
//     and the other verbs answer with a 500.
//   - "add" also takes "dependencies", a list of commands: its manual speaks of
//     them, and its HTTP API has no field for them.
//   - Only HTTP from this machine and from no page of a browser is served: a
//     foreign Host, an Origin, or a fetch across sites is refused, and HEAD is no
//     GET, as "next" hands out work.
//
// These agents send no heartbeat, so a lease is long: it must exceed the longest
// action. The uuid is computed from job and token, so that it need not be kept:
// after a restart the attempts that run are found again among the jobs.
//
// The handler speaks to the contracts Builder, Broker and Inspector alone, so
// that every scheduler that has them can be given this face.
package spin
