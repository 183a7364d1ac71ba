// Package daemon holds the tests of the daemon under faults: vagoth serve as a
// process of its own that is killed while it works.
package daemon
