// Package config reads vagoth.ini: from the file to sections, and from sections to the kinds of a menu.
//
//	f, err := config.Load("vagoth.ini")             // err: it cannot be read at all
//	top := config.Section(f, "", TopConfig{})       // data = ./vagoth-data
//	reg := config.Select(f, "registry", "memdb", menu.Registry)
//	drv := config.Instances(f, "drivers", "", menu.Drivers)
//	act := f.Entries("actions")                     // in the order of the file, with lines
//	if err := f.Err(); err != nil { … }             // *config.Error: everything that is wrong, by line
//	r, err := reg.Open(ctx, deps)                   // only now is anything opened
//
// Problems are kept in the [File] and come out together, so that a person corrects a file once. Every section
// must be taken by one of these calls, and whoever takes a section knows all its keys: what nobody takes is
// a problem too.
//
// # The format
//
//	; a comment, as is a line that begins with #
//	key = value             ; a comment after a value has white space before it
//	[section]               ; or [section.name]
//	key = "  a ; b, \"c\""  ; in quotes everything is the value; \" and \\ are the only escapes
//	list = a, "b, c", d
//
// A name of a key or section is made of letters, digits, `_`, `-` and `.`; upper and lower case differ. Sections of
// queues and limits are named after them, so that `:`, `/`, `@`, `+` and a `*` at the end occur too. Values
// end with their line. There is no interpolation, no include, no inheritance between sections. A file has at most
// 1 MiB, a line 16 KiB.
//
// # Why
//
// The parser is that of gopkg.in/ini.v1, of which only the splitting into sections, keys and raw values is used.
// Its decoding is not, because it takes unknown keys, reads 30 as 30 nanoseconds, never overrides a default
// with a zero and reads [a] where [a.b] lacks a key; package manager/component does that part. Its reading of
// comments, quotes and continued lines is switched off too, because it drops what follows a # or ; in a password.
//
// The parser also keeps no line numbers, lets the last of two equal keys win, takes `key: value`, `[DEFAULT]`, and
// values over several lines, and ignores what follows a header. So a small scanner reads the file first: it finds the
// line of everything, refuses these forms each with a hint, and hands only the lines that can mean one thing to the
// parser. Afterwards both must have seen the same keys. A refused line does not hide the problems of the others.
package config
