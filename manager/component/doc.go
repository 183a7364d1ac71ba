// Package component makes a part of vagoth that can be swapped by one line of an ini file.
//
// A part, called a [Kind], is defined once, by a config struct with its defaults and a function that opens it:
//
//	type Config struct {
//		Path  component.Path `ini:"path" help:"directory of the store"`
//		Every time.Duration  `ini:"every" help:"time between snapshots" min:"1s"`
//	}
//
//	func Kind() component.Kind[registry.Deps, registry.Registry] {
//		return component.Define("in memory over a journal", Config{Every: time.Minute}, Open)
//	}
//
// The tags of the struct are the only place where a key is described. From them come the strict decoder, the
// commented example ([WriteExample]), the table of `vagoth components` ([WriteTable]) and the manual
// ([WriteMarkdown]), so that they cannot disagree.
//
// # Tags
//
//	ini:"key"          the key; "*" collects every other key of the section into a map; "-" leaves the field alone
//	help:"..."         one line for people
//	required:"true"    the key must be there and not empty
//	secret:"true"      the value is never shown, not even in a problem
//	min:"1" max:"9"    bounds, written as values of the field's own type; of every element in a list
//	oneof:"a,b"        the only values allowed
//	example:"..."      a value for the example file, where a default would stand
//	sections:"size"    a map[string]S that takes every section [size.NAME], each decoded into one S
//	names:"key"        beside sections: a NAME may also hold `:`, `/`, `@` and `+`, as queues and limits are named, and
//	                   end in one `*`, which makes it a pattern: [limit.host:*]; the map's key is NAME as written
//
// # Types
//
// string, bool, all sizes of int, uint and float, [time.Duration] (with a unit, `d` for days included), [Size],
// [Secret], [Path], everything that is an [encoding.TextUnmarshaler], lists of these (`a, "b, c"`) and maps from
// string to these (`cpu=4, memory=1.5`). Embedded structs are flattened. A struct may have a method
// `Validate() error` for what concerns several keys; it names the key at fault with a [KeyError]. A struct of a
// sections map may have a method `Defaults() S`.
//
// # Why
//
// Ini libraries decode into structs too, but they take unknown keys, read `30` as 30 nanoseconds, cannot tell
// an absent key from a zero, and report the first error only. Here presence decides, what is ambiguous is
// refused with a suggestion, and all problems are reported at once, each with its file and line.
//
// Decoding and construction are one typed step: [Kind.Decode] gives an [Opener] that holds the decoded config
// inside it, so no value of type any crosses a package and no caller needs the config's type.
//
// The package knows nothing of ini files: it reads a [Source], which manager/config makes from one.
package component
