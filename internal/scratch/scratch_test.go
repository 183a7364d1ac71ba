package scratch

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/vagoth/vagoth/internal/powercut"
	"github.com/vagoth/vagoth/internal/smalldisk"
)

func open(t interface {
	Helper()
	Fatalf(string, ...any)
}, path, boot string,
) (*Log, Held) {
	t.Helper()
	l, held, err := Open(path, boot)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return l, held
}

func texts(records [][]byte) []string {
	var list []string
	for _, r := range records {
		list = append(list, string(r))
	}
	return list
}

// copied is the file as it would be found had its writer been killed now.
func copied(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}

// begun is a log to which some records were added.
func begun(t *testing.T, path string, records ...string) *Log {
	t.Helper()
	l, _ := open(t, path, "one")
	if err := l.Rewrite(slices.Values[[][]byte](nil)); err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if err := l.Append([]byte(r)); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// Whatever is done, a log that is opened again in the same boot, or after it was closed,
// holds what was added; in another one it says that it is lost.
func TestMachine(t *testing.T) {
	base, err := os.MkdirTemp("/dev/shm", "scratch") // where a sync costs nothing
	if err != nil {
		base = t.TempDir()
	}
	defer func() {
		if err := os.RemoveAll(base); err != nil {
			t.Error(err)
		}
	}()
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(base, "")
		if err != nil {
			rt.Fatal(err)
		}
		path, boot := filepath.Join(dir, "log"), 1
		name := func() string { return fmt.Sprint("boot", boot) }
		var model []string
		lost := false // and nothing was written since
		l, _ := open(rt, path, name())
		n := 0
		check := func(held Held) {
			if got := texts(held.Records); held.Lost != lost || !lost && !slices.Equal(got, model) {
				rt.Fatalf("it holds %q (lost %t), want %q", got, held.Lost, model)
			}
		}
		begin := func() {
			if !l.Begun() {
				if err := l.Rewrite(slices.Values(bytesOf(model))); err != nil {
					rt.Fatal(err)
				}
				lost = false
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"append": func(rt *rapid.T) {
				begin()
				var more [][]byte
				for range rapid.IntRange(1, 3).Draw(rt, "records") {
					n++
					more = append(more, fmt.Appendf(nil, "%d%s", n, bytes.Repeat([]byte("x"), rapid.IntRange(0, 300).Draw(rt, "size"))))
				}
				if err := l.Append(more...); err != nil {
					rt.Fatal(err)
				}
				model = append(model, texts(more)...)
			},
			"rewrite": func(rt *rapid.T) {
				model = model[rapid.IntRange(0, len(model)).Draw(rt, "dropped"):]
				if err := l.Rewrite(slices.Values(bytesOf(model))); err != nil {
					rt.Fatal(err)
				}
				lost = false
			},
			"closed": func(rt *rapid.T) {
				if err := l.Close(len(model) == 0); err != nil {
					rt.Fatal(err)
				}
				lost = false // it is removed
				boot += rapid.IntRange(0, 1).Draw(rt, "boots")
				var held Held
				l, held = open(rt, path, name())
				check(held)
			},
			"killed": func(rt *rapid.T) {
				if err := l.Leave(); err != nil {
					rt.Fatal(err)
				}
				var held Held
				l, held = open(rt, path, name())
				check(held)
			},
			"machine down": func(rt *rapid.T) {
				boot++
				if l.f != nil {
					lost, model = true, nil
				}
				var held Held
				l, held = open(rt, path, name())
				check(held)
			},
		})
	})
}

func bytesOf(list []string) [][]byte {
	var all [][]byte
	for _, s := range list {
		all = append(all, []byte(s))
	}
	return all
}

// A file that ends anywhere, as its writer was killed in the middle, gives the records
// before; a bit that is wrong gives an error, or is behind what is read.
func TestEveryByte(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l := begun(t, path, "first", "second", "third")
	defer func() { _ = l.f.Close() }()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(t.TempDir(), "log")
	for n := len(magic) + len("one\n"); n < len(whole); n++ {
		if err := os.WriteFile(at, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		again, held := open(t, at, "one")
		if want := []string{"first", "second", "third"}[:len(held.Records)]; !slices.Equal(texts(held.Records), want) || held.Lost {
			t.Errorf("cut after %d bytes: %q", n, texts(held.Records))
		}
		if err := again.Append([]byte("more")); err != nil {
			t.Error(err)
		}
		_ = again.f.Close()
		if _, then := open(t, at, "one"); len(then.Records) != len(held.Records)+1 || string(then.Records[len(held.Records)]) != "more" {
			t.Errorf("cut after %d bytes, and one added: %q", n, texts(then.Records))
		}
		if _, other := open(t, at, "two"); !other.Lost {
			t.Errorf("cut after %d bytes, in another boot: it is not lost", n)
		}
	}
	for n := range whole {
		bad := bytes.Clone(whole)
		bad[n] ^= 0x10
		c, damage := parse(bad)
		if got := texts(c.records); damage == nil && !(n >= len(magic) && n < len(magic)+3) && len(got) == 3 || !slices.Equal(got, []string{"first", "second", "third"}[:len(got)]) {
			t.Errorf("byte %d is wrong, and it reads %q, %v", n, got, damage)
		}
	}
}

// A file that was closed in order and is still said to be so holds what it held: no wrong
// bit makes less of it.
func TestSealed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := begun(t, path, "first", "second", "third").Close(false); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, held := open(t, path, "two"); !held.Sealed || held.Lost || len(held.Records) != 3 {
		t.Fatalf("as it was closed: %+v", held)
	}
	at := filepath.Join(t.TempDir(), "log")
	for n := range whole {
		for bit := range 8 {
			bad := bytes.Clone(whole)
			bad[n] ^= 1 << bit
			if err := os.WriteFile(at, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			l, held, err := Open(at, "one")
			if err != nil {
				continue
			}
			if held.Sealed && !slices.Equal(texts(held.Records), []string{"first", "second", "third"}) {
				t.Errorf("bit %d of byte %d: %q", bit, n, texts(held.Records))
			}
			_ = l.Leave()
		}
	}
}

func TestRefused(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	if _, _, err := Open(path, "a b"); err == nil {
		t.Error("a boot with a blank")
	}
	if l, _ := open(t, path, "one"); l.Append([]byte("x")) == nil {
		t.Error("it was not begun")
	}
	l := begun(t, path, "first")
	if l.Append(nil) == nil || l.Append([]byte("second"), []byte{}) == nil || l.Append(make([]byte, MaxRecord+1)) == nil {
		t.Error("an empty or too large record was taken")
	}
	if err := l.Close(false); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(data, "more"...), 0o600); err != nil {
		t.Fatal(err)
	}
	var damage *CorruptError
	if _, _, err := Open(path, "one"); !errors.As(err, &damage) || damage.Path != path || damage.Offset != int64(len(data)) {
		t.Errorf("there is more behind its end: %v", err)
	}
}

// A record that finds no room is refused and leaves what was there as it was.
func TestFullDisk(t *testing.T) {
	disk := smalldisk.New(t)
	path, filler := filepath.Join(disk, "log"), filepath.Join(disk, "filler")
	l := begun(t, path, "first")
	smalldisk.Fill(t, filler)
	var err error
	var taken int
	for taken = 0; err == nil && taken < 1<<20; taken++ {
		err = l.Append(bytes.Repeat([]byte("x"), 4000))
	}
	if err == nil {
		t.Fatal("the disk never was full")
	}
	if err := l.Rewrite(slices.Values([][]byte{bytes.Repeat([]byte("y"), 1<<20)})); err == nil {
		t.Error("it was written anew where there is no room")
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := l.Append([]byte("last")); err != nil {
		t.Fatal(err)
	}
	_, held := open(t, copied(t, path), "one")
	if n := len(held.Records); n != taken+1 || string(held.Records[0]) != "first" || string(held.Records[n-1]) != "last" {
		t.Errorf("it holds %d records, want %d", n, taken+1)
	}
	if err := l.Close(true); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is empty and still there: %v", err)
	}
}

// What was closed in order is there after a power cut; what was not says that it is lost.
func TestPowerCut(t *testing.T) {
	disk := powercut.New(t, 64)
	path := filepath.Join(disk.Dir(), "log")
	l := begun(t, path, "first", "second")
	if err := l.Close(false); err != nil {
		t.Fatal(err)
	}
	disk.Cut()
	disk.Remount()
	l, held := open(t, path, "two")
	if got := texts(held.Records); held.Lost || !slices.Equal(got, []string{"first", "second"}) {
		t.Fatalf("closed in order: %q, lost %t", got, held.Lost)
	}
	if err := l.Rewrite(slices.Values(held.Records)); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err := l.Append([]byte("not synced")); err != nil {
			t.Fatal(err)
		}
	}
	disk.Cut()
	_ = l.f.Close()
	disk.Remount()
	if _, held := open(t, path, "three"); !held.Lost || len(held.Records) < 2 {
		t.Errorf("after the cut it is not lost: %d records", len(held.Records))
	}
}

func FuzzParse(f *testing.F) {
	path := filepath.Join(f.TempDir(), "log")
	l, _ := open(f, path, "one")
	if err := errors.Join(l.Rewrite(slices.Values([][]byte{[]byte("first")})), l.Append([]byte("second"), []byte("third"))); err != nil {
		f.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	if err := l.Close(false); err != nil {
		f.Fatal(err)
	}
	if data, err = os.ReadFile(path); err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		c, _ := parse(data)
		if c.end > int64(len(data)) {
			t.Fatalf("it ends at %d of %d", c.end, len(data))
		}
		again, damage := parse(data[:c.end])
		if c.end > 0 && (damage != nil || !slices.EqualFunc(again.records, c.records, bytes.Equal)) {
			t.Fatalf("what was good is %v", damage)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	l, _ := open(b, filepath.Join(b.TempDir(), "log"), "one")
	if err := l.Rewrite(slices.Values[[][]byte](nil)); err != nil {
		b.Fatal(err)
	}
	record := bytes.Repeat([]byte("x"), 200)
	for b.Loop() {
		if err := l.Append(record); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Close(true); err != nil {
		b.Fatal(err)
	}
}
