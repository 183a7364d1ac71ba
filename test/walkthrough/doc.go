// Package walkthrough types what docs/workers.md says, and looks whether it
// works: the daemon, the example workers in Go and in Python, the package over
// two queues, and the HTTP API of spin-broker beside them.
package walkthrough
