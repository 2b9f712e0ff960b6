# The front door: every target is a thin call of a script. `make` shows what there is.
.DEFAULT_GOAL := help
.PHONY: help setup build images release cluster-up cluster-down cluster-status install demo test test-full test-postgres restore faults attack compat soak fresh-machine lint lint-full generate bench bench-broker bench-flat bench-herd bench-scale fuzz mutants clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "; print "AgentWrit for Kubernetes\n\nUsage: make TARGET\n"} \
		/^[a-z-]+:.*## / {printf "  %-15s %s\n", $$1, $$2} \
		END {print "\nFirst time here: make demo. Before you send a change: make test."}' $(MAKEFILE_LIST)

setup: ## Bring what is missing: packages, Rust, Go, Node, the Kubernetes programs (YES=1 doesn't ask)
	@scripts/setup.sh

build: ## Build the release binaries into target/release
	@scripts/setup.sh packages rust && scripts/images.sh --release build

images: ## Build the container images the quick way and load them into the cluster if it is up
	@scripts/setup.sh packages rust && scripts/images.sh

release: ## Build what is published: small and fast programs (target/release) and images (target/images) of them
	@scripts/setup.sh packages rust && scripts/images.sh --release

cluster-up: ## Start a real Kubernetes node (kind where Docker answers), print its KUBECONFIG
	@scripts/setup.sh packages go cluster && scripts/cluster.sh up

cluster-down: ## Stop the cluster and leave nothing behind
	@scripts/cluster.sh down

cluster-status: ## Say what runs
	@scripts/cluster.sh status

install: ## Install the chart with these images into the cluster
	@scripts/install.sh

demo: ## Show the whole story on a real cluster, from nothing
	@scripts/demo.sh

test: ## Run everything: lint, unit, API server, other clients, end to end (scripts/test.sh STAGE... for a part)
	@scripts/test.sh

test-full: lint-full test test-postgres restore faults attack compat soak bench-flat ## Everything, and what takes long: a restore under 10,000 pods, faults under replicas, attacks in full, the sidecar of before, a week and a day on a moved clock

test-postgres: ## Run the API, crash, restore and interop tests on PostgreSQL, and the model on two replicas (scripts/test-postgres.sh PART... for a part)
	@scripts/setup.sh packages rust node && scripts/test-postgres.sh

restore: ## Put backups back under a release broker and 10,000 simulated pods, and show when they have tokens again
	@scripts/setup.sh packages rust && scripts/restore.sh

faults: ## Break what three replicas on PostgreSQL stand on, many times (scripts/faults.sh --help)
	@scripts/setup.sh packages rust && scripts/faults.sh all

attack: ## Attack the release programs under the chart's memory limits, in full (scripts/attack.sh --help)
	@scripts/setup.sh packages rust && scripts/attack.sh --full

compat: ## Run the sidecar of the version before against this broker (COMPAT_COMMIT names another)
	@scripts/setup.sh packages rust && scripts/compat.sh

soak: ## A week of 1,000 agents and a day of 10,000 on a clock that the test moves (scripts/soak.sh NAME... for a part)
	@scripts/setup.sh packages rust && scripts/soak.sh

fresh-machine: ## Prove in a Debian made by debootstrap that nothing is needed but these commands (root; 6 minutes)
	@scripts/fresh-machine.sh

lint: ## Formatting, clippy, docs, licences, dependency arrows, generated files, shell, chart
	@scripts/setup.sh && scripts/lint.sh

lint-full: ## The same, and each library built alone
	@scripts/setup.sh && scripts/lint.sh --full

generate: ## Write every generated file: CRDs, OpenAPI, tables of docs/ (scripts/generate.sh --check only looks)
	@scripts/generate.sh

bench: ## Measure speed and size on a cluster
	@scripts/bench.sh

bench-broker: ## Measure the broker alone: operations a second beside what the machine allows (scripts/bench-broker.sh --help)
	@scripts/bench-broker.sh

bench-flat: ## Measure what an operation costs on PostgreSQL with 1,000,000 events, and as many revocations (three minutes)
	@scripts/setup.sh packages rust && scripts/bench-broker.sh --flat

bench-herd: ## Simulate 10,000 sidecars after an outage of the broker, with histogram (scripts/bench-herd.sh --help)
	@scripts/setup.sh packages rust && scripts/bench-herd.sh

bench-scale: ## Measure controller and broker with 10,000 LaunchTokens on a real API server (scripts/bench-scale.sh --help)
	@scripts/setup.sh packages rust go cluster && scripts/bench-scale.sh

fuzz: ## Run every fuzz target a minute on a nightly toolchain (FUZZ_SECONDS changes it)
	@scripts/fuzz.sh

mutants: ## Change the rules in small ways and say which changes no test notices (scripts/mutants.sh --help)
	@scripts/mutants.sh

clean: ## Remove build products of this checkout (the cluster and the shared cache stay)
	@scripts/clean.sh
