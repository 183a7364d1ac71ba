// Package leanserver serves small requests with small answers over HTTP/1.1,
// without TLS:
//
//	s := leanserver.New(handler, leanserver.Limits{HeaderTimeout: 5 * time.Second, …}, log)
//	err := s.Serve(listener) // until Shutdown
//
// The handler is one of net/http, to which a request looks as usual; but its
// body is read before the handler is called, its answer is written after the
// handler has returned, and so nothing can be streamed or hijacked. The context
// of a request ends with the server, not when the client goes: a handler that is
// about to give something away asks Left.
//
// What could be read in two ways is refused, and its connection closed: a body
// with a length and a transfer encoding, another encoding than chunked, folded
// header lines, two lengths or hosts, a target that is no path.
//
// # Why
//
// net/http watches the connection with a second goroutine while a handler runs,
// which on two cores wakes the other one for each request: a third of the
// time of one that takes 60 µs. Here one goroutine reads, runs the handler and
// writes, in the loop that github.com/valyala/fasthttp has for a connection.
//
// Of its server that is all that is used: it stops accepting when the process
// runs out of file descriptors, keeps goroutines for a while after its end, has no
// way to cut off what a Shutdown did not wait for, and recovers from no panic. An
// answer has no Date, which that library keeps with a goroutine that never ends and
// takes from nowhere else.
package leanserver
