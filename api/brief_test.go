package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"testing"

	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/scheduler/broker"
)

// TestBriefAnswers asks for short answers, and sees that what is refused is said
// in them all the same.
func TestBriefAnswers(t *testing.T) {
	cfg := broker.Defaults()
	cfg.Queues = map[string]broker.QueueConfig{"r-*": {Remote: true}}
	s := broker.Memory(cfg, scheduler.Deps{})
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, c := t.Context(), NewClient("http://vagoth", InProcess(Handler(&manager.Manager{Scheduler: s, Settings: &manager.Settings{}}, Options{})))
	b := c.Brief()
	list, err := b.Submit(ctx, scheduler.Package{ID: "p", Jobs: []scheduler.Job{{ID: "a", Queue: "r-q", Action: "copy"}, {ID: "b", Queue: "r-p", Action: "copy"}}})
	if err != nil || len(list) != 2 || list[1].ID != "b" || list[1].Package != "p" || list[1].State != scheduler.Waiting || list[1].Action != "" {
		t.Fatalf("%+v, %v", list, err)
	}
	leases, err := b.Next(ctx, scheduler.Want{Max: 2})
	if err != nil || len(leases) != 2 {
		t.Fatal(leases, err)
	}
	stale := scheduler.Completion{Hold: leases[1].Hold}
	stale.Token.Number += 100
	states, errs := b.Complete(ctx, scheduler.Completion{Hold: leases[0].Hold}, stale)
	if errs[0] != nil || !errors.Is(errs[1], scheduler.ErrStale) || states[0].ID != leases[0].Job || states[0].State != "" {
		t.Errorf("%+v, %v", states, errs)
	}
	if st, err := c.Job(ctx, leases[0].Job); err != nil || st.State != scheduler.Succeeded {
		t.Errorf("after a brief completion: %+v, %v", st, err)
	}
	for header, want := range map[string]bool{"": false, "return=representation": false, "respond-async, Return=Minimal; x=1": true} {
		req := must[*http.Request](t)(http.NewRequestWithContext(ctx, http.MethodPost, "http://vagoth/v1/jobs", bytes.NewReader([]byte(`{"jobs":[{"queue":"r-q","action":"copy"}]}`))))
		if header != "" {
			req.Header.Set(Preference, header)
		}
		resp := must[*http.Response](t)(c.http.Do(req))
		var got []scheduler.Status
		if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if applied := resp.Header.Get(preferenceApplied) == PreferBrief; applied != want || len(got) != 1 || (got[0].Action == "") != want {
			t.Errorf("Prefer: %s: applied %v, answered %+v", header, applied, got)
		}
	}
}
