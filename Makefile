# Thin: what a target does is a script in hack/.
.DEFAULT_GOAL := help
.PHONY: help demo demo-down test soak bench lint audit generate image lab-up lab-down clean

help: ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## a cluster, the operator and a model, end to end (KUBECONFIG=… takes an existing cluster, HUB=https://… a real Hub)
	@hack/demo up

demo-down: ## remove what the demo made, and the cluster if the demo started it
	@hack/demo down

test: ## every test, from units to a real cluster
	@hack/test

soak: ## the same tests, repeated for hours
	@MODELCACHE_SOAK=1 hack/test

bench: ## measurements; their results are kept in docs/BENCHMARKS.md
	@hack/bench

lint: ## everything that can be judged without running the project
	@hack/lint

audit: ## known vulnerabilities of the dependencies (fetches the advisory database)
	@hack/deny advisories

generate: ## write crds/, the chart's copy of them, and charts/rendered.yaml
	@hack/generate

image: ## target/image.tar, the operator's image, with no container engine
	@cargo build --locked --release --bins
	@hack/image target/release/modelcache target/image.tar modelcache:dev

lab-up: ## start the one-node cluster of hack/lab
	@hack/lab up

lab-down: ## end it and remove its traces
	@hack/lab down

clean: ## remove what cargo built (the cache of the lab's programs stays)
	@cargo clean
