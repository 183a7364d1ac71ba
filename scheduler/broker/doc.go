// Package broker is the scheduler that survives: durable queues over a journal,
// with workers in this process and outside.
package broker
