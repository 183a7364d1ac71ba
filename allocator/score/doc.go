// Package score chooses the host that scores best among those that fit.
//
// Every host is looked at: package allocator's Rules say which fit, and a
// weighted sum of terms orders those. Under spread a host scores by the share of
// CPU, memory and disk that would stay free, under pack by the share that would
// be used; wishes (preferred host tags, siblings better kept apart) add to that.
// Hosts that score alike are taken by ID, so that the same snapshot and request
// give the same decision.
//
// # Why
//
// Other schedulers look at a dozen sampled hosts because reading all of them is
// slow. What is slow is adding up what children use, not comparing numbers: so
// the package keeps a table with one compact row per host and follows the
// registry through registry.Delta, adjusting the rows that changed. The table
// is a cache of sums, never the truth: it is built anew by reading everything
// whenever the registry cannot say what changed, and whoever reserves adds up
// the children again. A table is immutable; a newer one shares the chunks of
// rows that did not change, so callers on different snapshots each work on
// their own, and a Decision can explain itself later from the table that it was
// made on.
package score
