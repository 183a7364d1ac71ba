package component

import (
	"iter"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// longest word that is compared: the distance costs the product of the lengths, and nobody misspells more.
const maxSuggest = 64

// Suggest finds the known word that was most likely meant, or "". Of words equally near it takes the first
// in alphabetical order, so that the answer does not depend on the order of a map.
func Suggest(word string, known iter.Seq[string]) string {
	if word == "" || len(word) > maxSuggest {
		return ""
	}
	best, bestDistance := "", -1
	for k := range known {
		if k == "" || k == word || len(k) > maxSuggest {
			continue
		}
		limit := tolerance(max(utf8.RuneCountInString(word), utf8.RuneCountInString(k)))
		d := distance(fold(word), fold(k))
		if d > limit {
			continue
		}
		if bestDistance < 0 || d < bestDistance || d == bestDistance && k < best {
			best, bestDistance = k, d
		}
	}
	return best
}

// DidYouMean gives `did you mean "path"?`, or "" if no known word is near.
func DidYouMean(word string, known iter.Seq[string]) string {
	if s := Suggest(word, known); s != "" {
		return "did you mean " + strconv.Quote(s) + "?"
	}
	return ""
}

// Choices gives `did you mean "path"?` if a known word is near, else which ones there are if they are few, or "".
func Choices(word string, known iter.Seq[string]) string {
	if s := DidYouMean(word, known); s != "" {
		return s
	}
	all := slices.Sorted(known)
	if len(all) == 0 || len(all) > maxChoices {
		return ""
	}
	return "there is " + strings.Join(all, ", ")
}

// maxChoices is how many words are worth reading through.
const maxChoices = 8

// tolerance is how many slips a word of n letters may have and still be recognised.
func tolerance(n int) int {
	if n <= 3 {
		return 1
	}
	return max(2, min(n/3, 4))
}

// fold makes words that differ in case or in the choice of `_`, `-` and `.` the same.
func fold(s string) []rune {
	return []rune(strings.NewReplacer("-", "_", ".", "_").Replace(strings.ToLower(s)))
}

// distance is the number of insertions, deletions, replacements and swaps of neighbours between two words
// (Damerau-Levenshtein, in its form that does not edit a swapped pair again).
func distance(a, b []rune) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
