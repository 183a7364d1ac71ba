// Package manager joins the components that a vagoth.ini names into one cluster.
//
// A Menu is all that can be chosen, by name. Load reads the file against the
// menu, reports everything that is wrong with it at once, and only then opens
// the chosen components, in an order in which each finds what it needs. The
// Manager is what scripts hold: its fields are the open components. Loop is the
// monitor's loop for a place without a daemon: it opens a Manager for each round.
//
// # Why
//
// The menu is a value and not a registration at start-up, so that what a
// program can do is read on one screen (package manager/standard), and another
// program adds one line to a copy of it.
package manager
