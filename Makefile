# No logic here: each target is one line of what it runs.
BENCH ?= .
DEMO  ?=
CACHE := $(CURDIR)/.cache
LINT  := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
# Built before the tests, for what a build takes says nothing about them. Grafana and Loki are test-grafana's.
SERVERS := openbao sops otel-collector victoria-logs prometheus promtool promql alertmanager amtool
export PLUMBLINE_LAB := $(CACHE)/plumbline-lab

.DEFAULT_GOAL := help
.PHONY: help build lab servers test test-canary test-fast test-grafana fuzz lint fmt generate bench demo clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/plumbline
	go build -trimpath -ldflags "-s -w" -o bin/plumbline ./cmd/plumbline

lab: ## build the control plane that demo and tests run on (the first time takes minutes)
	cmd/plumbline-lab/build.sh $(PLUMBLINE_LAB)

servers: ## build the real servers that tests run (the first time takes minutes)
	for name in $(SERVERS); do testdata/servers/build.sh $$name || exit; done

# Not build: with -trimpath, all that lint and test have compiled would be compiled once more.
demo: lab ## from a push to a true cluster, on a real control plane; DEMO=once runs unattended
	go build -ldflags "-s -w" -o bin/plumbline ./cmd/plumbline
	DEMO=$(DEMO) go run ./cmd/plumbline-demo -plumbline bin/plumbline -lab $(PLUMBLINE_LAB)

test: lab servers ## run all tests (vet is lint's: here it would go through all dependencies once more)
	go test -race -vet=off -timeout 30m ./...
	cd cmd/plumbline-lab && go test -trimpath -vet=off -timeout 15m ./...

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

lint: ## vet (govet, among the linters) and lint
	go run $(LINT) run ./...
	cd cmd/plumbline-lab && go vet -trimpath ./...

fmt: ## format
	gofmt -w $$(git ls-files '*.go')

generate: ## write schemas and reference pages anew
	go test ./reconciler ./reconciler/telemetry ./reconciler/observe/expressions ./cmd/plumbline ./templates -run 'TestSchemas|TestReference|TestDashboardsAreCurrent' -update

clean: ## remove what was built
	rm -rf bin $(CACHE)
