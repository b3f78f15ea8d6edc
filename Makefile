# forebay: `make help` lists the targets.
#
# One profile and one feature set serve demo, tests and checks, so that none of them builds a dependency a second time.
# CARGO_TARGET_DIR moves everything that is built out of the clone; LOCKED=--locked refuses to change Cargo.lock.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
export PATH := $(PATH):$(HOME)/.cargo/bin

LOCKED ?=
CARGO := cargo
GUESTS := $(CARGO) build $(LOCKED) --profile guest --target wasm32-wasip2
RULES := -p fraud -p normalize -p keep -p expr

.PHONY: help setup build guests demo test test-faults test-services fuzz check fmt bench

help: ## what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1|\2/' \
	| while IFS='|' read -r name what; do printf '  make %-14s %s\n' "$$name" "$$what"; done

setup: ## install what building needs and is missing
	@scripts/setup

build: setup ## the host: target/debug/forebay
	$(CARGO) build $(LOCKED) -p forebay

guests: setup ## the rules of transforms/ as Wasm modules: target/wasm32-wasip2/guest/*.wasm
	$(GUESTS) $(RULES)

demo: build ## real card payments through a fraud rule into a table, in demo/
	$(GUESTS) -p fraud
	@scripts/demo

test: guests ## everything that needs nothing but Rust
	$(CARGO) test $(LOCKED) --workspace

test-services: guests ## what stands on PostgreSQL and on S3, with real servers; other engines read every table that the tests leave (needs PostgreSQL's server, and Python)
	@tests/services/run

# Each can be set: make test-faults SEEDS=1000
SEEDS ?= 100000
REAL_SEEDS ?= 300
KILL_ROUNDS ?= 200
PUSHES ?= 200
JUNK ?= all

test-faults: guests ## what make test does of faults, at length (an hour and more): seeds of the simulation, rounds of SIGKILL, pushes
	FOREBAY_SEEDS=$(SEEDS) $(CARGO) test $(LOCKED) --workspace --test suite -- --nocapture simulation::many_seeds
	FOREBAY_REAL_SEEDS=$(REAL_SEEDS) $(CARGO) test $(LOCKED) --workspace --test suite -- --nocapture simulation::real
	FOREBAY_KILL_ROUNDS=$(KILL_ROUNDS) $(CARGO) test $(LOCKED) --workspace --test suite -- --nocapture whole::rounds
	FOREBAY_JUNK=$(JUNK) $(CARGO) test $(LOCKED) --workspace --test suite -- --nocapture whole::junk
	FOREBAY_PUSHES=$(PUSHES) $(CARGO) test $(LOCKED) --workspace --test suite -- --nocapture whole::pushes

FUZZ_SECONDS ?= 600

fuzz: ## the fuzzer on each target, FUZZ_SECONDS long (needs nightly Rust)
	FUZZ_SECONDS=$(FUZZ_SECONDS) scripts/fuzz

check: setup ## format, lints, docs, unused and duplicate dependencies, licences
	@scripts/check $(LOCKED)

fmt: ## format the code
	$(CARGO) fmt --all

bench: guests ## speed, as ratios to a native floor in the same run (minutes; builds everything with optimisation)
	$(CARGO) bench $(LOCKED) --workspace --bench boundary --bench path
