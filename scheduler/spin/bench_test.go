package spin_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vagoth/vagoth/internal/benchdisk"
	"github.com/vagoth/vagoth/internal/gcroom"
	"github.com/vagoth/vagoth/internal/leanserver"
	"github.com/vagoth/vagoth/internal/spareprocs"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/scheduler/broker"
	"github.com/vagoth/vagoth/scheduler/spin"
)

// openBroker opens a broker on a real disk whose queues are all left to agents.
func openBroker(tb testing.TB, dir string) *broker.Broker {
	tb.Helper()
	cfg := broker.Defaults()
	cfg.Queues = map[string]broker.QueueConfig{"*": {Remote: true}}
	b, err := broker.Open(context.Background(), cfg, scheduler.Deps{Data: dir, Now: time.Now})
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// serve serves the six verbs over HTTP on the loopback.
func serve(tb testing.TB, b *broker.Broker) (address string) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	srv := leanserver.New(spin.New(b, spin.Options{}), leanserver.Limits{
		HeaderTimeout: 5 * time.Second, BodyTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxBody: 1 << 20,
	}, slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	tb.Cleanup(func() {
		srv.Close(nil)
		if err := <-done; err != nil {
			tb.Error(err)
		}
	})
	return l.Addr().String()
}

// wire is a client that costs next to nothing, since it shares the processors
// with what is measured: one connection, and only what these answers need.
type wire struct {
	conn net.Conn
	r    *bufio.Reader
	out  []byte
	body []byte
}

func dial(tb testing.TB, address string) *wire {
	tb.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return &wire{conn: conn, r: bufio.NewReader(conn)}
}

// call asks once. The body is valid until the next call.
func (w *wire) call(method, path, body string) (status int, answer string, err error) {
	w.out = append(w.out[:0], method...)
	w.out = append(w.out, ' ')
	w.out = append(w.out, path...)
	w.out = append(w.out, " HTTP/1.1\r\nHost: 127.0.0.1\r\n"...)
	if method == "POST" {
		w.out = append(w.out, "Content-Length: "...)
		w.out = strconv.AppendInt(w.out, int64(len(body)), 10)
		w.out = append(w.out, "\r\n"...)
	}
	w.out = append(w.out, "\r\n"...)
	w.out = append(w.out, body...)
	if _, err := w.conn.Write(w.out); err != nil {
		return 0, "", err
	}
	line, err := w.r.ReadSlice('\n')
	if err != nil || len(line) < 12 {
		return 0, "", fmt.Errorf("the answer begins with %q: %w", line, err)
	}
	status, err = strconv.Atoi(string(line[9:12]))
	if err != nil {
		return 0, "", err
	}
	length := 0
	for {
		line, err := w.r.ReadSlice('\n')
		if err != nil {
			return 0, "", err
		}
		if len(line) <= 2 {
			break
		}
		const header = "Content-Length: "
		if len(line) > len(header) && string(line[:len(header)]) == header {
			if length, err = strconv.Atoi(strings.TrimSpace(string(line[len(header):]))); err != nil {
				return 0, "", err
			}
		}
	}
	w.body = append(w.body[:0], make([]byte, length)...)
	for at := 0; at < length; {
		n, err := w.r.Read(w.body[at:])
		if err != nil {
			return 0, "", err
		}
		at += n
	}
	return status, string(w.body), nil
}

// ok is a call that has to succeed.
func (w *wire) ok(method, path, body string) (string, error) {
	status, answer, err := w.call(method, path, body)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s %s: %d %s", method, path, status, answer)
	}
	return answer, err
}

const commands = 10 // of a package
const queues = 4    // that they are spread over

// pack does one package from new to status, one call at a time.
func (w *wire) pack(client int) error {
	answer, err := w.ok("POST", "/new", "")
	if err != nil {
		return err
	}
	id := strings.Trim(answer, "\"\n")
	for i := range commands {
		body := fmt.Sprintf(`{"resource":"c%d-q%d","action":"create_image","parameters":{"volume_path":"test","image_name":"test.raw","image_size":%d}}`, client, i%queues, i)
		if _, err := w.ok("POST", "/add/"+id, body); err != nil {
			return err
		}
	}
	if _, err := w.ok("POST", "/enqueue/"+id, ""); err != nil {
		return err
	}
	for i := range commands {
		answer, err := w.ok("GET", fmt.Sprintf("/next/c%d-q%d", client, i%queues), "")
		if err != nil {
			return err
		}
		const key = `{"uuid":"`
		if len(answer) < len(key)+36 || answer[:len(key)] != key {
			return fmt.Errorf("next answered %s", answer)
		}
		if _, err := w.ok("POST", "/complete", `{"id":"`+answer[len(key):len(key)+36]+`","status":true}`); err != nil {
			return err
		}
	}
	answer, err = w.ok("GET", "/status/"+id, "")
	if err == nil && answer != "{\"status\":true}\n" {
		err = fmt.Errorf("the status of a package that is done is %s", answer)
	}
	return err
}

// BenchmarkVerbs measures commands a second over the six verbs, one call at a
// time and every write synced: packages of 10 commands over 4 queues.
func BenchmarkVerbs(b *testing.B) {
	defer gcroom.Take().Release() // as the daemon does
	spareprocs.Take()             // too
	defer spareprocs.Release()
	for _, clients := range []int{1, 16} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			br := openBroker(b, b.TempDir())
			defer func() {
				if err := br.Close(); err != nil {
					b.Error(err)
				}
			}()
			address := serve(b, br)
			left := make(chan struct{}, b.N)
			for range b.N {
				left <- struct{}{}
			}
			close(left)
			var group sync.WaitGroup
			raw := benchdisk.Sync(b, 500) // before anybody is connected, as it may take longer than a connection may be silent
			workers := make([]*wire, clients)
			for i := range workers {
				workers[i] = dial(b, address)
			}
			before, begun := processorTime(b), syncs(b, br)
			b.ResetTimer()
			for c, w := range workers {
				group.Go(func() {
					for range left {
						if err := w.pack(c); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			group.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N*commands)/b.Elapsed().Seconds(), "commands/s")
			b.ReportMetric(float64((processorTime(b)-before).Microseconds())/float64(b.N*commands), "cpu-µs/command")
			b.ReportMetric(float64(syncs(b, br)-begun)/b.Elapsed().Seconds(), "syncs/s")
			raw = (raw + benchdisk.Sync(b, 500)) / 2
			b.ReportMetric(float64(time.Second)/float64(raw), "raw-syncs/s")
		})
	}
}

// syncs is how often the broker has waited for the disk.
func syncs(b *testing.B, br *broker.Broker) int64 {
	b.Helper()
	st, err := br.Stats(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return int64(st.Syncs)
}

// processorTime is what this process has used, clients and all. It tells more
// than the speed on a machine that others use too.
func processorTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
