package subagent_test

import (
	"strings"
	"testing"

	"github.com/vagoth/vagoth/virt/subagent"
)

func TestDisksComeBeforeAndGoAfter(t *testing.T) {
	disks := subagent.Service{Name: "disks", Stages: []subagent.Stage{
		{Action: "delete", Method: "D.Delete", Turn: subagent.Late}, {Action: "create", Method: "D.Create", Idempotent: true, Undo: "D.Undo", Turn: subagent.Early},
		{Action: "downloadSnapshot", Method: "D.Download"},
	}}
	domains := subagent.Service{Name: "domains", Stages: []subagent.Stage{
		{Action: "create", Method: "V.Create"}, {Action: "delete", Method: "V.Delete", Idempotent: true}, {Action: "downloadSnapshot", Method: "V.Download"},
	}}
	const want = `[agent.action.create]
stages = disks D.Create idempotent undo D.Undo, domains V.Create
[agent.action.delete]
stages = domains V.Delete idempotent, disks D.Delete
`
	for _, order := range [][]subagent.Service{{disks, domains}, {domains, disks}} {
		var b strings.Builder
		if err := subagent.WriteConfig(&b, subagent.Combine(order...)); err != nil {
			t.Fatal(err)
		}
		download := "[agent.action.downloadSnapshot]\nstages = " + order[0].Name + " " + order[0].Stages[2].Method + "\n"
		if b.String() != want+download {
			t.Errorf("%s first:\n%s\nwant\n%s", order[0].Name, b.String(), want+download)
		}
	}
}
