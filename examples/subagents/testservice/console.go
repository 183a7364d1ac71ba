package main

import (
	"context"
	"io"

	"github.com/vagoth/vagoth/virt/mistify"
)

// console repeats what is typed.
func (h *host) console(context.Context, *mistify.ConsoleRequest) (io.ReadWriteCloser, error) {
	r, w := io.Pipe()
	return &echo{r, w}, nil
}

type echo struct {
	*io.PipeReader
	w *io.PipeWriter
}

func (e *echo) Write(p []byte) (int, error) { return e.w.Write(p) }
func (e *echo) Close() error                { return e.w.Close() }
