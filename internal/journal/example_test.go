package journal_test

import (
	"context"
	"fmt"
	"iter"
	"os"

	"github.com/vagoth/vagoth/internal/journal"
)

// words is a state that survives: every word said.
type words []string

func (w *words) Restore(_ uint64, records iter.Seq2[[]byte, error]) error {
	for r, err := range records {
		if err != nil {
			return err
		}
		*w = append(*w, string(r))
	}
	return nil
}

func (w *words) Replay(_ uint64, record []byte) error {
	*w = append(*w, string(record))
	return nil
}

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "journal")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	for _, word := range []string{"ever", "and", "ever"} {
		var said words
		j, err := journal.Open(ctx, journal.Options{Dir: dir}, &said)
		if err != nil {
			fmt.Println(err)
			return
		}
		last, err := j.Append(ctx, []byte(word))
		if err != nil {
			fmt.Println(err)
			return
		}
		said = append(said, word)
		fmt.Println(last, said)

		err = j.WriteSnapshot(ctx, last, func(yield func([]byte, error) bool) {
			for _, w := range said {
				if !yield([]byte(w), nil) {
					return
				}
			}
		})
		if err != nil {
			fmt.Println(err)
		}
		if err := j.Close(); err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// 1 [ever]
	// 2 [ever and]
	// 3 [ever and ever]
}

func ExampleGroup() {
	total := 0
	sums := journal.NewGroup(100, func(batch []int, errs []error) {
		for i, n := range batch {
			if n < 0 {
				errs[i] = fmt.Errorf("%d is negative", n)
				continue
			}
			total += n
		}
	})
	for _, n := range []int{1, 2, -3} {
		if err := sums.Do(context.Background(), n); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(total)
	// Output:
	// -3 is negative
	// 3
}
