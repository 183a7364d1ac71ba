// Package registrytest is what every registry must pass.
//
// # Promises
//
// Each is a subtest of Run:
//
//	Unique            an ID, a name or a key leads to one node; the others get *ConflictError with key and owner
//	UniqueRace        the same with many claiming one word at once, as an ID, a name or a key
//	Freed             what a node gives up is free in the same commit
//	Parents           a parent exists, is set only when unset, and is moved only by who names the old one
//	Loops             no loop of parents, nor under a race to close one
//	Deletion          a node with a parent or with children stays
//	Definition        a definition rests while its node has a parent, unless forced; a type always
//	Edges             an edge revision grows with what it stands for and with nothing else
//	Guards            what Get, ByName, ByKey, Blob and Children answered still holds at commit
//	AllOrNothing      an Update that fails or panics changes nothing
//	Snapshots         a snapshot never changes; nothing returned or passed in aliases the store
//	Stamps            revisions, times and the trail; what changes nothing writes nothing
//	Tags              tag queries AND; nil means exists
//	Blobs             blobs are copies, are described by their node, and go with it
//	Limits            what exceeds a limit is ErrTooLarge, before anything is written
//	Hostile           hostile words are refused with a reason, before anything is written
//	WatchKinds        what a watch with a query delivers; a node that stops matching has left
//	WatchOnce         every change once, in commit order, also across breaking off and resuming
//	WatchCompacted    one that is too late is told so and never skips
//	Cursors           a cursor names its store; a bad one is refused
//	Delta             the optional registry.Delta
//	Export            what was exported is imported as it was; what cannot be imported changes nothing
//	Copy              a copy holds the same, times and trails too; one that was broken off goes on, and nothing else is copied into
//	Restored          the optional registry.Restorer
//	Context           a context that has ended stops every call; a waiting Update is withdrawn
//	Close             later calls and watches end with ErrClosed; no goroutine is left
//	Linearizable      8 clients race for 5 words: some order explains all their answers (porcupine)
//	Model             all verbs, queries, snapshots and watches against a naive model (rapid)
//
// and of RunDurable:
//
//	Reopen            all of it is there after Close, revisions go on growing, cursors stay good or are refused
//	ModelReopened     Model, with closing and opening in between
//	Lock              a second opener waits, and then names the holder
//	Kill              an acknowledged write survives SIGKILL at any moment
//	PowerCut          and a power cut
//	Damage            flipped bits and truncated files are detected or harmless, never wrong data
//	FullDisk          a full disk refuses writes, reads go on, and writes go on when there is room
//
// # Why
//
// A promise is worth as much as the test that every implementation, ours or a
// third party's, must pass. Concurrency is checked with histories and not with
// expectations: no test knows who wins a race.
package registrytest

import (
	"testing"

	"github.com/vagoth/vagoth/registry"
)

// Open opens an empty registry for a test, with a history of some thousand
// changes. The suite closes it.
type Open func(t *testing.T) registry.Registry

// Run runs every test that a registry must pass.
func Run(t *testing.T, open Open) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, registry.Registry)
	}{
		{"Unique", testUnique},
		{"UniqueRace", testUniqueRace},
		{"Freed", testFreed},
		{"Parents", testParents},
		{"Loops", testLoops},
		{"Deletion", testDeletion},
		{"Definition", testDefinition},
		{"Edges", testEdges},
		{"Guards", testGuards},
		{"AllOrNothing", testAllOrNothing},
		{"Snapshots", testSnapshots},
		{"Stamps", testStamps},
		{"Tags", testTags},
		{"Blobs", testBlobs},
		{"Limits", testLimits},
		{"Hostile", testHostile},
		{"WatchKinds", testWatchKinds},
		{"WatchOnce", testWatchOnce},
		{"WatchCompacted", testWatchCompacted},
		{"Delta", testDelta},
		{"Restored", testRestored},
		{"Context", testContext},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := open(t)
			t.Cleanup(func() {
				if err := r.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			test.run(t, r)
		})
	}
	t.Run("Cursors", func(t *testing.T) {
		r, other := open(t), open(t)
		testCursors(t, r, other)
		for _, r := range []registry.Registry{r, other} {
			if err := r.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}
	})
	t.Run("Export", func(t *testing.T) { testExport(t, open) })
	t.Run("Copy", func(t *testing.T) { testCopy(t, open) })
	t.Run("Close", func(t *testing.T) { testClose(t, open) })
	t.Run("Linearizable", func(t *testing.T) { testLinearizable(t, open) })
	t.Run("Model", func(t *testing.T) { testModel(t, open) })
}
