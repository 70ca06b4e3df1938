# The commands of the project; each is a script in scripts/, where the settings and the reasons stand.

.DEFAULT_GOAL := help
.PHONY: help demo test test-pure build cuda models lint audit bench deps servers clean-cache bench-fleet loadtest loadtest-smoke

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

demo: models ## Install what is missing, build, fetch the models, analyse the sample reviews
	@scripts/demo.sh

test: models servers ## Run all tests
	@scripts/test.sh

test-pure: ## Run the tests that need neither llama.cpp nor models
	@scripts/test.sh --pure

build: deps ## Build the release binary, bin/maitred (FEATURES=cuda|vulkan|metal for a GPU)
	@scripts/build.sh

cuda: deps ## Build bin/maitred-cuda for NVIDIA GPUs, with a CUDA compiler from PyPI (an hour of CPU time; CUDA_ARCH=90)
	@scripts/build-cuda.sh

models: build ## Fetch the models
	@scripts/models.sh

lint: deps ## Check format, lints, licences and data
	@scripts/lint.sh

audit: ## Check the dependencies for known vulnerabilities (needs cargo-deny and the network)
	@cargo deny check advisories

bench: models ## Measure the engine on this machine
	@scripts/bench.sh

deps: ## Install what the build needs, where that is possible
	@scripts/install-deps.sh

servers: deps ## Install the servers that the tests of the fleet start: nats-server, Redis, Postgres, Prometheus
	@scripts/install-servers.sh

clean-cache: ## Delete the shared build, the fetched models and the installed servers
	@scripts/clean-cache.sh

bench-fleet: servers build ## Measure how throughput grows with workers (ten minutes)
	@scripts/bench-fleet.sh

loadtest-smoke: models ## A minute of load, ending in one line of ratios
	@scripts/loadtest.sh smoke

loadtest: models servers ## Every scenario, an hour of an otherwise idle machine (FILES="…" to choose the reviews)
	@scripts/loadtest-all.sh
