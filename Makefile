# What is done with this repository. `make` alone lists it.

GO            ?= go
GOLANGCI_LINT ?= github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
FUZZTIME      ?= 20s
BENCH         ?= .
PACKAGES      ?= ./...
export GO GOLANGCI_LINT

.DEFAULT_GOAL := help
.PHONY: help build test test-long lint fuzz bench docs clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)$$/\1\t\2/p' $(MAKEFILE_LIST) | awk -F '\t' '{printf "  make %-10s %s\n", $$1, $$2}'

build: ## the binary, into bin/vagoth
	$(GO) build -trimpath -o bin/vagoth ./cmd/vagoth

test: ## everything; as root on Debian with a real libvirt, which it installs; without root the rest
	@test/all

test-long: ## the full counts of one capability: make test-long CAPABILITY=registry [SEED=42]; recorded in docs/reliability.md
	@test/long "$(CAPABILITY)" "$(SEED)"

lint: ## golangci-lint, with the layers in it
	@test/lint $(PACKAGES)

fuzz: ## each fuzz target for FUZZTIME (20s): make fuzz PACKAGES=./manager/config FUZZTIME=5m
	@test/fuzz $(FUZZTIME) $(PACKAGES)

bench: ## every benchmark at full size: make bench PACKAGES=./registry/... BENCH=Get
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -timeout 2h $(PACKAGES)

docs: ## writes what is generated from the code again
	$(GO) generate ./...

clean: ## what was built here; the guest in the cache folder stays
	rm -rf bin
	$(GO) clean -testcache
