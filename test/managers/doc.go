// Package managers tests what several managers that share a cluster on etcd promise
// together.
package managers
