# No logic here: each target is one line of what it runs.
BENCH ?= .
DEMO  ?=
CACHE := $(CURDIR)/.cache
LINT  := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
export PLUMBLINE_LAB := $(CACHE)/plumbline-lab

.DEFAULT_GOAL := help
.PHONY: help build lab test test-canary test-fast test-grafana fuzz lint fmt generate bench demo clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/plumbline
	go build -trimpath -ldflags "-s -w" -o bin/plumbline ./cmd/plumbline

lab: ## build the control plane that demo and tests run on (the first time takes minutes)
	cmd/plumbline-lab/build.sh $(PLUMBLINE_LAB)

demo: build lab ## from a push to a true cluster, on a real control plane; DEMO=once runs unattended
	DEMO=$(DEMO) go run ./cmd/plumbline-demo -plumbline bin/plumbline -lab $(PLUMBLINE_LAB)

test: lab ## run all tests
	go test -race -timeout 30m ./...
	cd cmd/plumbline-lab && go test -trimpath -timeout 15m ./...

test-fast: ## run the tests that need no control plane
	go test -short . ./render ./secrets/check ./reconciler ./reconciler/apply ./reconciler/observe/expressions ./reconciler/fetch ./reconciler/telemetry ./cmd/...

test-canary: lab ## show that a secret which isn't masked is found: once for each place that masks
	PLUMBLINE_TEST_UNMASK=1 go test -count=1 -timeout 30m -v -run TestCanaryCatches ./reconciler/e2e

test-grafana: lab ## show the dashboards' queries to a real Grafana (the first time takes minutes)
	PLUMBLINE_TEST_GRAFANA=1 go test -count=1 -timeout 30m -v -run 'TestDashboardsHaveData|TestGrafanaStarts' ./reconciler/e2e ./stacks

fuzz: ## fuzz each parser of outside input for a while
	./fuzz.sh 30s

bench: ## measure, in text that benchstat reads; BENCH=regexp selects
	BENCH='$(BENCH)' go run ./cmd/plumbline-bench

lint: ## vet and lint
	go vet ./... && go run $(LINT) run ./...
	cd cmd/plumbline-lab && go vet -trimpath ./...

fmt: ## format
	gofmt -w $$(git ls-files '*.go')

generate: ## write schemas and reference pages anew
	go test ./reconciler ./reconciler/telemetry ./reconciler/observe/expressions ./cmd/plumbline ./templates -run 'TestSchemas|TestReference|TestDashboardsAreCurrent' -update

clean: ## remove what was built
	rm -rf bin $(CACHE)
