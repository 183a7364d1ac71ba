package monitortest

import (
	"testing"
	"testing/synctest"
	"time"
)

// Run checks every promise of the package's list. Each subtest opens monitors of
// its own, in a bubble of testing/synctest.
func Run(t *testing.T, open Open) {
	for _, s := range []struct {
		name   string
		run    func(*world)
		change func(*Options)
	}{
		{"State/Written", stateWritten, nil},
		{"State/NothingNew", nothingNew, nil},
		{"State/EvidenceEvery", evidenceEvery, nil},
		{"State/Capacity", capacitySeen, nil},
		{"State/Reports", reports, nil},
		{"Unreachable/Unknown", unreachableUnknown, nil},
		{"Unreachable/NothingElse", unreachableNothingElse, nil},
		{"Unreachable/Back", unreachableBack, nil},
		{"Unreachable/AtLeast", unreachableAtLeast, nil},
		{"Unreachable/Reason", unreachableReason, nil},
		{"Down/Stays", downStays, nil},
		{"Down/Answers", downAnswers, nil},
		{"Missing/AfterSeveral", missingAfterSeveral, nil},
		{"Missing/Partial", missingPartial, nil},
		{"Missing/Job", missingJob, nil},
		{"Missing/Revision", missingRevision, nil},
		{"Twice/Alarm", twiceAlarm, nil},
		{"Twice/Remembered", twiceRemembered, nil},
		{"Twice/Restart", twiceRestart, nil},
		{"Twice/Migrating", twiceMigrating, nil},
		{"Twice/Moved", twiceMoved, nil},
		{"Twice/Late", twiceLate, nil},
		{"Assign/One", assignOne, nil},
		{"Assign/NotTwo", assignNotTwo, nil},
		{"Assign/Job", assignJob, nil},
		{"Assign/NotAll", assignNotAll, nil},
		{"Unknown/Stranger", unknownStranger, nil},
		{"Unknown/Adopted", unknownAdopted, func(o *Options) { o.CreateMissing, o.Tenant = true, "found" }},
		{"Race/OlderObservation", raceOlder, nil},
		{"Race/AllSkipped", raceUnreachable, nil},
		{"Deadline/Hung", deadlineHung, nil},
		{"Deadline/Deaf", deadlineDeaf, nil},
		{"Deadline/NeverTwice", deadlineNeverTwice, nil},
		{"Deadline/Panic", deadlinePanic, nil},
		{"Deadline/Cancelled", deadlineCancelled, nil},
		{"Run/Schedule", runSchedule, nil},
		{"Run/HungHost", runHungHost, func(o *Options) { o.Timeout = 25 * time.Second }},
		{"Hosts/Refused", hostsRefused, nil},
		{"Close", closed, nil},
	} {
		t.Run(s.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { s.run(newWorld(t, open, s.change)) })
		})
	}
}
