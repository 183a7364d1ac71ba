package poll

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/monitor/monitortest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	monitortest.Run(t, func(t *testing.T, d monitor.Deps, o monitortest.Options) monitor.Monitor {
		cfg := Defaults()
		cfg.Every, cfg.Timeout, cfg.Workers, cfg.MissingAfter = o.Every, o.Timeout, o.Workers, o.MissingAfter
		cfg.EvidenceEvery, cfg.CreateMissing, cfg.Tenant = o.EvidenceEvery, o.CreateMissing, o.Tenant
		m, err := Open(t.Context(), cfg, d)
		if err != nil {
			t.Fatal(err)
		}
		return m
	})
}
