# keyledger: what a contributor runs. `make` alone lists it.

SHELL         := /usr/bin/env bash
.SHELLFLAGS   := -euo pipefail -c
.DEFAULT_GOAL := help

# How often each benchmark runs, and for how long each fuzz target does.
COUNT    ?= 3
FUZZTIME ?= 10s

# The linter is pinned and built from its module, so that a machine needs only
# Go. Its file is named after what it was built from and with: a change of
# either builds it anew (a linter cannot read what a newer Go wrote).
GOLANGCI_VERSION := v2.15.0
GOLANGCI         := .bin/golangci-lint-$(GOLANGCI_VERSION)-$(shell go env GOVERSION)

# The nats command line, which a test uses as a producer would. Built once, like the
# linter. v0.5.1 does not resolve: it names a module that is not to be had.
NATSCLI_VERSION := v0.5.0
NATSCLI         := .bin/nats-$(NATSCLI_VERSION)

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build ./bin/keyledger
	go build -trimpath -o bin/keyledger ./cmd/keyledger

# -vet=off: lint vets everything already, and from a cold cache this would vet
# every dependency a second time.
.PHONY: test
test: test-tools ## Run all tests with the race detector
	CGO_ENABLED=1 go test -race -vet=off -timeout 15m ./...

# The race detector needs a C compiler; strace shows that a create is synced to
# the disk before it is acknowledged; the read store runs on PostgreSQL too; producers
# are written for Node and for the nats command line.
.PHONY: test-tools
test-tools: $(NATSCLI)
	@scripts/ensure.sh "$$(go env CC)" gcc libc6-dev
	@scripts/ensure.sh strace strace
	@scripts/ensure.sh node nodejs
	@scripts/ensure.sh npm npm
	@scripts/ensure-postgres.sh

# CGO_ENABLED=0: what is linted needs no C compiler, wherever it is linted.
.PHONY: lint
lint: export CGO_ENABLED := 0
lint: $(GOLANGCI) ## Check modules, vet, floors, format and style
	go mod verify
	go mod tidy -diff
	go vet ./...
	$(GOLANGCI) run ./...

.PHONY: fmt
fmt: $(GOLANGCI) ## Format the code as lint wants it
	$(GOLANGCI) fmt ./...

$(GOLANGCI):
	CGO_ENABLED=0 GOBIN=$(CURDIR)/.bin go install -trimpath -ldflags='-s -w' \
		github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	mv .bin/golangci-lint $@

$(NATSCLI):
	CGO_ENABLED=0 GOBIN=$(CURDIR)/.bin go install -trimpath -ldflags='-s -w' \
		github.com/nats-io/natscli/nats@$(NATSCLI_VERSION)
	mv .bin/nats $@

.PHONY: bench
bench: ## Run all benchmarks COUNT times (3)
	go test -run '^$$' -bench . -benchmem -count=$(COUNT) -timeout 60m ./...

.PHONY: soak
soak: test-tools ## Kill the server 200 times under load and look for anything lost
	KEYLEDGER_SOAK_ROUNDS=200 CGO_ENABLED=1 go test -race -run TestSoak ./cmd/keyledger -count=1 -timeout 60m -v

.PHONY: fuzz
fuzz: ## Fuzz each target for FUZZTIME (10s)
	scripts/fuzz.sh $(FUZZTIME)
