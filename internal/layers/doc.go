// Package layers holds the test of the house's one rule: a package imports only what stands above it in one list, never a sibling
// implementation, and a third-party module only where one table says so. List and table are in table_test.go.
package layers
