# The project's own commands. Each installs what it needs; nothing is installed by hand.
# Of which .venv is made; empty for the fastest one that tools/python.sh finds.
export PYTHON ?=
BIN := .venv/bin
SECONDS ?= 300
TOPOLOGY ?= examples/two-shores.yaml
# So that the system programs in /sbin are found for users, too.
export PATH := $(CURDIR)/$(BIN):$(PATH):/usr/sbin:/sbin
# Where it is set, each of the many processes here compiles all modules again.
unexport PYTHONDONTWRITEBYTECODE

# A KUBECONFIG that happens to be in the environment is no invitation to fill that cluster.
BENCH_OPTIONS = $(if $(TARGET),--target $(TARGET) --kubeconfig $(KUBECONFIG)) $(BENCH)

.PHONY: help up down test check unit live conformance measure bench profile bench-apiserver bench-validate bench-dns findings fuzz-apiserver format bench-render bench-stages bench-engine bench-fanout bench-istiod soak churn choosing failure-modes live-all interop interop-istio

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 16

up: .venv/runtime ## set everything up, boot TOPOLOGY and send requests across it
	@isthmus up $(TOPOLOGY)

down: .venv/runtime ## stop what `make up` started, and leave nothing behind
	@isthmus down

test: check unit live ## every check and test

check: .venv/dev ## formatting, lint, types, import contracts: under a minute
	@ruff format --check . && ruff check . && lint-imports --no-cache && mypy

unit: .venv/dev ## all tests that need no mesh
	pytest -n 2 --dist worksteal -m 'not live'

live: .venv/dev ## tests on a running mesh, with real Envoys
	pytest -m 'live and not long'

live-all: .venv/dev ## the same and the long ones
	pytest -m live

conformance: .venv/dev ## laws of API servers; of another one than the embedded: KUBECONFIG=~/.kube/config CONTEXT=...
	@ISTHMUS_CONFORMANCE_KUBECONFIG="$(if $(filter command line,$(origin KUBECONFIG)),$(KUBECONFIG))" \
	 ISTHMUS_CONFORMANCE_CONTEXT="$(CONTEXT)" pytest -n 2 -rs tests/conformance

.PHONY: conformance-real
conformance-real: .venv/dev ## builds a real Kubernetes API server (needs Go; minutes the first time) and holds it to the same tests; REAL='laws -- -k watch'
	@PYTHONPATH=tools python -m real_kubernetes $(REAL)

.PHONY: cluster-real
cluster-real: .venv/dev ## builds our images and a real cluster of one node, and installs the mesh on it (needs root, Go, buildah; long the first time); REAL=bash
	@PYTHONPATH=tools python -m real_kubernetes.cluster $(REAL)

measure: .venv/runtime ## boot times, memory and processes of TOPOLOGY
	@python tools/measure.py $(TOPOLOGY)

bench: .venv/runtime tools/bench/drones ## a control plane under simulated proxies; TARGET=host:port KUBECONFIG=… for another one, BENCH='--workload M'
	@PYTHONPATH=tools python -m bench $(BENCH_OPTIONS)

bench-istiod: .venv/runtime tools/bench/drones build/istio/pilot-discovery ## Istio's control plane and ours under the same load, by turns (BENCH='--workload M --rounds 3')
	@PYTHONPATH=tools python -m bench --istiod build/istio/pilot-discovery $(BENCH)

bench-stages: .venv/dev ## what each stage costs by itself: decode, ingest, encode, settle, splice, tell, send
	@PYTHONPATH=tools pytest tools/bench/test_stages.py -p no:xdist --benchmark-columns=min,median,rounds --benchmark-sort=name $(STAGES)

bench-engine: .venv/runtime ## what the core computes for each kind of change, in one process (BENCH='--workload M --only gateway')
	@PYTHONPATH=tools python -m bench.engine $(BENCH)

bench-fanout: .venv/runtime tools/bench/drones ## what sending costs by itself, over our own transport and over gRPC's
	@PYTHONPATH=tools python -m bench.fanout $(BENCH)

soak: .venv/runtime tools/bench/drones ## everything comes, changes and goes for SECONDS (300); fails if memory does not stay flat
	@PYTHONPATH=tools python -m bench.soak --seconds $(SECONDS)

churn: .venv/runtime ## the same in one process, without the network and much faster: counts every object that a round leaves behind (BENCH='--rounds 500')
	@PYTHONPATH=tools python -m bench.churn $(BENCH)

profile: .venv/runtime tools/bench/drones ## where a control plane spends its time while endpoints change (BENCH='--steps rules' for others)
	@PYTHONPATH=tools python -m bench --steps endpoints --changes 50 $(BENCH) --profile /tmp/isthmus.profile
	@python -c "import pstats; pstats.Stats('/tmp/isthmus.profile').sort_stats('tottime').print_stats(30)"

tools/bench/drones: tools/bench/drones.c
	@command -v cc >/dev/null || { echo "make bench needs a C compiler: install gcc or clang, and OpenSSL's headers (libssl-dev)"; exit 1; }
	cc -O2 -Wall -Wextra -o $@ $< -lssl -lcrypto

# Istio's own programs, to be compared and to work with. No part of Isthmus needs them.
build/istio/%: TAGS = vtprotobuf,disable_pgv
build/istio/pilot-agent: TAGS = vtprotobuf,disable_pgv,agent
build/istio/pilot-agent: build/istio/envoy_bootstrap.json
build/istio/pilot-%: tools/istio/go.mod tools/istio/go.sum
	@command -v go >/dev/null || { echo "this builds Istio's own programs: install Go (1.26 or newer)"; exit 1; }
	cd tools/istio && CGO_ENABLED=0 nice go build -ldflags '-s -w' -tags $(TAGS) -o $(CURDIR)/$@ istio.io/istio/pilot/cmd/$(@F)

build/istio/envoy_bootstrap.json: tools/istio/go.mod
	@mkdir -p $(@D)
	@cd tools/istio && go mod download istio.io/istio && \
	 install -m 644 "$$(go list -m -f '{{.Dir}}' istio.io/istio)/tools/packaging/common/envoy_bootstrap.json" $(CURDIR)/$@

choosing: .venv/runtime ## compute docs/guides/choosing.md from the examples
	@python tools/choosing.py

failure-modes: .venv/runtime ## break a mesh in every way under load, and write docs/failure-modes.md
	@python tools/failure_modes.py

bench-apiserver: .venv/runtime ## what the embedded API server does under load: rates, CPU, memory
	@python tools/bench_apiserver.py $(BENCH)

bench-render: .venv/runtime ## how long `isthmus render` takes for one sidecar of 1000 services with 10 endpoints each
	@python tools/bench_render.py $(BENCH)

interop-istio: .venv/runtime build/istio/pilot-agent ## workloads with an agent of Istio's and with ours call each other, under our control plane (needs Go)
	@PYTHONPATH=tools unshare --map-root-user --net $(BIN)/python tools/istio_agent.py build/istio

interop: .venv/runtime build/interop/go-spiffe build/interop/spire ## bundles exchanged with go-spiffe and with SPIRE, both ways (needs Go; the first build takes a minute or two)
	@PYTHONPATH=tools python -m interop build/interop/go-spiffe build/interop/spire

build/interop/%: tools/interop/party/party.go tools/interop/go-spiffe/main.go tools/interop/spire/main.go tools/interop/spire/go.mod
	@command -v go >/dev/null || { echo "make interop needs Go 1.26 or newer"; exit 1; }
	cd tools/interop/$* && CGO_ENABLED=0 nice go build -trimpath -o $(CURDIR)/$@ .

fuzz-apiserver: .venv/dev ## hostile bodies and queries against the embedded API server, for SECONDS (300) each kind
	ISTHMUS_FUZZ_SECONDS=$(SECONDS) pytest -n 2 tests/apiserver/test_hostile_bodies.py

bench-dns: .venv/runtime ## questions per second of the agent's DNS server, and CPU for each; BENCH=SECONDS
	@python tools/bench_dns.py $(BENCH)

bench-validate: .venv/runtime ## how long validation of 10,000 objects takes
	@python tools/bench_validate.py $(BENCH)

findings: .venv/runtime ## write the pages of docs/findings from the catalogue of codes
	@python tools/findings_pages.py

format: .venv/dev ## let ruff lay out and mend the code
	@ruff format . && ruff check --fix .

.venv/base: tools/prerequisites.sh tools/python.sh
	@tools/prerequisites.sh
	@test -x $(BIN)/python || { python=$$(tools/python.sh) && "$$python" -m venv .venv; }
	@touch $@

.venv/runtime: .venv/base requirements/runtime.lock pyproject.toml
	@echo "Installing locked dependencies into .venv ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/runtime.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv/dev: .venv/runtime requirements/dev.lock
	@echo "Installing locked development tools into .venv ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@touch $@
