// Package fleet runs managers and agents as processes of their own, for tests of what
// becomes of a cluster while some of them are held, killed or cut off.
//
// # Why
//
// In a short run they are the program as it is built for everybody, which costs a third of
// what the race detector makes of it. In a long one the test's program is vagoth when it
// starts itself, so that the race detector watches them too.
package fleet
