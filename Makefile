# make help says what there is. Go is all that `make test` and `make demo` need.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

# What `make demo` and `make soak` are given, such as ARGS=--exit.
ARGS ?=
# Packages of `make bench`, and how often each benchmark runs: benchstat wants
# ten or more.
PKG ?= ./...
COUNT ?= 1
# How many schedules `make sim` plays (`make soak`: SOAK_SEEDS, unless told), and the
# first of them; how many outages `make soak` plays on real processes.
SEEDS ?= 12000
SOAK_SEEDS = 100000
SEED_BASE ?= 0
OUTAGES ?= 5
# The simulator's mixes, which share the schedules.
MIXES := 14

# The linters, at the versions that their findings are known for.
GOFUMPT := mvdan.cc/gofumpt@v0.12.0
GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# The packages that run goroutines or hold the data: those that exist of these.
CORE := internal/kv internal/layout merkle runtime cache partition policies transport cluster replica
RACE := $(patsubst %,./%/...,$(wildcard $(CORE)))
# Those with tests in virtual time run on one processor there: under the race
# detector, timers of one testing/synctest bubble that fire on two processors at
# once break the detector itself (docs/RATIONALE.md). It finds races by what
# happens before what, and needs no second processor.
VIRTUAL = $(shell grep -rl --include='*_test.go' '"testing/synctest"' $(wildcard $(CORE)) | xargs -n1 dirname | sort -u | sed 's|^|./|')

export CGO_ENABLED ?= 0

.PHONY: help demo test race lint bench sim soak interop fuzz

help: ## say what there is
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

demo: ## three nodes on loopback, one dies and comes back; ARGS=--exit ends by itself
	go run ./loadtest demo $(ARGS)

test: ## all tests, and each benchmark once; needs Go alone
	go test -timeout 20m ./...
	go test -timeout 20m -run '^$$' -bench . -benchtime 1x ./...

race: ## the core packages' tests under the race detector; needs a C compiler
	CGO_ENABLED=1 go test -race -short -timeout 20m $$(go list $(RACE) | grep -vxF "$$(go list $(VIRTUAL))")
	CGO_ENABLED=1 go test -race -short -timeout 20m -cpu 1 $(VIRTUAL)

lint: ## format, vet and linters
	@unformatted=$$(go run $(GOFUMPT) -l .); \
	if [ -n "$$unformatted" ]; then echo "not formatted by gofumpt:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go vet -tags interop ./...
	go run $(GOLANGCI) run --timeout 15m

bench: ## benchmarks of PKG, COUNT times each
	go test -run '^$$' -bench . -benchmem -count $(COUNT) $(PKG)

sim: ## SEEDS random schedules through the simulator
	go test -count 1 -timeout 120m -v ./internal/sim -args -seeds=$$((($(SEEDS) + $(MIXES) - 1) / $(MIXES))) -seed-base=$(SEED_BASE)

soak: ## 100,000 schedules, or SEEDS, then OUTAGES of each kind and series of faults on real processes
	$(MAKE) sim SEEDS=$(if $(filter command environment,$(firstword $(origin SEEDS))),$(SEEDS),$(SOAK_SEEDS)) SEED_BASE=$(SEED_BASE)
	for i in $$(seq $(OUTAGES)); do \
		for how in "--outage kill" "--disk wiped" "--disk rolledback" "--disk cloned" "--outage pause" "--outage partition"; do \
			echo "outage $$i of $(OUTAGES): $$how"; \
			go run ./loadtest rejoin --keys 100000 --seed $$i $$how -o table $(ARGS) || exit 1; \
		done; \
		go run ./loadtest soak --for 2m --seed $$i || exit 1; \
	done

interop: ## tests with outside clients, which it installs
	.ci/interop

fuzz: ## every fuzz target for a few seconds
	.ci/fuzz
