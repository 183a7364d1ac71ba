package agent

import (
	"context"
	"strings"
	"testing"

	"github.com/vagoth/vagoth/virt/mistify"
)

// What cloud-init is told reaches the sub-agents, also after the agent was started
// again, and no answer, job or log has it.
func TestUserDataIsNotShown(t *testing.T) {
	data := t.TempDir()
	given := ""
	see := func(_ context.Context, _ string, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
		given = r.Guest.CloudInit.UserData
		return answerSame(r)
	}
	h := newHost(t, hostOptions{data: data})
	h.sub.onGuest(see)
	const body = `{"id":"` + vm1 + `","type":"vm","memory":64,"cpu":1,"cloud_init":{"user_data":"hush","meta_data":"m"}}`
	a := h.want(202, "POST", "/guests", body)
	h.ended(a.job())
	if given != "hush" {
		t.Errorf("the sub-agent got %q", given)
	}
	answers := []string{a.body}
	look := func() {
		for _, path := range []string{"/guests", "/guests/" + vm1, "/jobs", "/guests/" + vm1 + "/jobs"} {
			answers = append(answers, h.want(200, "GET", path, "").body)
		}
	}
	look()
	answers = append(answers, h.want(202, "POST", "/guests/"+vm1+"/define", body).body)
	answers = append(answers, h.want(202, "POST", "/guests/"+uuidOf(7)+"/provision", strings.Replace(body, vm1, uuidOf(7), 1)).body)
	h.stop()
	answers = append(answers, h.log.String())
	given = ""
	h = newHost(t, hostOptions{data: data})
	h.sub.onGuest(see)
	look()
	h.ended(h.want(202, "POST", "/guests/"+vm1+"/reboot", "").job())
	if given != "hush" {
		t.Errorf("after a restart the sub-agent got %q", given)
	}
	h.stop()
	answers = append(answers, h.log.String())
	shown := false
	for _, text := range answers {
		shown = shown || strings.Contains(text, `"cloud_init":{"meta_data":"m"}`)
		if strings.Contains(text, "hush") {
			t.Errorf("told: %s", text)
		}
	}
	if !shown {
		t.Error("nothing of it is shown at all")
	}
}
