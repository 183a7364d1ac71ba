package standard_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/manager/standard"
)

// A pattern that can match nothing is no rule that somebody meant.
func TestPeersArePatterns(t *testing.T) {
	for peers, want := range map[string]string{"qemu+tls://h[12].example.com/system, qemu+tcp://10.0.0.7/system": "", "qemu+tls://h[1": `"qemu+tls://h[1" is no libvirt URI`} {
		src := component.Source{File: "agent.ini", Own: []component.Section{{Name: "subagent.libvirt", Entries: []component.Entry{{Key: "peers", Value: peers, Line: 2}}}}}
		_, problems := standard.Menu().SubAgents["libvirt"].Decode(src)
		told := slices.ContainsFunc(problems, func(p component.Problem) bool { return want != "" && strings.Contains(p.Reason, want) })
		if told != (want != "") || len(problems) > 0 && want == "" {
			t.Errorf("peers = %s: %v", peers, problems)
		}
	}
}
