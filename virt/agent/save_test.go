package agent

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// A container's console is that of its own action, and no virtual machine's.
func TestContainerConsole(t *testing.T) {
	h := newHost(t, hostOptions{})
	h.create(vm1)
	if j := h.ended(h.want(202, "POST", "/guests", `{"id":"`+ct1+`","type":"container","image":"busybox"}`).job()); j.Status != mistify.JobComplete {
		t.Fatalf("%+v", j)
	}
	for id, method := range map[string]string{vm1: "Test.Console", ct1: "Test.ContainerConsole"} {
		rw, err := h.client.Console(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(rw, "hello\nexit\n"); err != nil {
			t.Error(err)
		}
		if all, err := io.ReadAll(rw); err != nil || string(all) != "console of "+id+"\nhello\n" {
			t.Errorf("%s shows %q (%v)", id, all, err)
		}
		_ = rw.Close()
		if calls := h.sub.seen(); !slices.Contains(calls, method+" "+id) {
			t.Errorf("the sub-agent was asked %q, want %s", calls, method)
		}
	}
	delete(h.agent.actions, "containerConsole")
	if _, err := h.client.Console(t.Context(), ct1); !errors.Is(err, virt.ErrUnsupported) {
		t.Errorf("an agent that has none of containers: %v", err)
	}
}

// A container is saved by a job of its own, for the manager's job if there is one:
// so that the next attempt knows what this one has made.
func TestSave(t *testing.T) {
	h := newHost(t, hostOptions{})
	h.create(vm1)
	h.want(202, "POST", "/guests", `{"id":"`+ct1+`","type":"container","image":"busybox"}`)
	for _, by := range []string{"", "manager-job-7"} {
		var headers []string
		if by != "" {
			headers = []string{mistify.HeaderByJob, by}
		}
		a := h.want(202, "POST", "/guests/"+ct1+"/save", `{"dest":"team/web:1","job":"somebody-elses"}`, headers...)
		j := h.ended(a.job())
		if j.Status != mistify.JobComplete || j.GuestID != ct1 || j.Action != "containerSave" {
			t.Errorf("the job is %+v", j)
		}
		if by == "" {
			by = j.ID
		}
		if calls := h.sub.seen(); !slices.Contains(calls, "Test.ContainerSave "+ct1+" team/web:1 "+by) {
			t.Errorf("for %q the sub-agent was asked %q", by, calls)
		}
	}
	if _, err := h.client.SaveGuest(t.Context(), vm1, "a"); !errors.Is(err, virt.ErrUnsupported) {
		t.Errorf("a virtual machine: %v", err)
	}
	if _, err := h.client.SaveGuest(t.Context(), none, "a"); !errors.Is(err, virt.ErrNotFound) {
		t.Errorf("a guest that is not there: %v", err)
	}
	for _, call := range h.sub.seen() {
		if strings.HasPrefix(call, "Test.ContainerSave "+vm1) {
			t.Error("the sub-agent was asked to save a virtual machine")
		}
	}
}
