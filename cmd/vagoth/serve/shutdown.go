package serve

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vagoth/vagoth/scheduler"
)

// shutdown ends everything in the order in which people and workers notice
// least: nobody new is let in, jobs are handed back, waiting requests and
// streams are told, the stores are closed.
func (d *daemon) shutdown(endWork context.CancelFunc, worked <-chan struct{}) error {
	began := time.Now()
	d.mu.Lock()
	span := d.current.ShutdownTimeout
	d.mu.Unlock()
	d.systemd().Stopping("handing back what runs")
	d.log.Info("stopping", "within", span)
	close(d.stopping)
	ctx, cancel := context.WithTimeout(context.Background(), span)
	defer cancel()

	left := make(chan error, len(d.servers))
	for _, s := range d.servers {
		go func() { left <- s.Shutdown(ctx) }() // stops accepting now
	}
	endWork()
	var errs []error
	select {
	case <-worked:
	case <-ctx.Done():
		// A function that does not return holds its store: both end with the
		// process, and the job begins again.
		d.log.Error("jobs did not end in time: they begin again when the data is next opened", "after", span)
		errs = append(errs, fmt.Errorf("jobs did not end within shutdown_timeout (%s): they begin again when the data is next opened", span))
	}
	for range d.servers {
		if err := <-left; err != nil {
			errs = append(errs, fmt.Errorf("requests did not end within shutdown_timeout (%s): they were cut off", span))
		}
	}
	for _, s := range d.servers {
		s.Close(scheduler.ErrClosed)
	}
	errs = append(errs, d.socket.Remove())
	select {
	case <-worked:
	default:
		// Usually the process ends now; where it does not, the stores are closed
		// when they can be.
		go func() {
			<-worked
			if err := d.m.Close(); err != nil {
				d.log.Error("cannot close the stores", "error", err)
			}
		}()
		return errors.Join(errs...)
	}
	d.running.Wait()
	errs = append(errs, d.m.Close())
	err := errors.Join(errs...)
	if err == nil {
		d.log.Info("stopped", "took", time.Since(began).Round(time.Millisecond))
	}
	return err
}
