# Needs nothing but make and a Python 3.11 or newer with venv. `make help` lists the targets.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

UV_VERSION := 0.13.8

# The first interpreter that is new enough; name another one with `make PYTHON=/path/to/python3.12 ...`.
PYTHON ?= $(shell for python in python3 python3.11 python3.12 python3.13 python3.14 python; do \
	if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	then "$$python" -c 'import sys; print(sys.executable)'; break; fi; done)

BIN := .venv/bin
UV := .uv/bin/uv
PYTEST := $(BIN)/python -m pytest
COMMONS := $(BIN)/commons

# COMPOSE_ENV=infra/deploy/cluster.env makes it three Kafka nodes; a file of your own may set more.
DOCKER_COMPOSE := docker compose $(if $(COMPOSE_ENV),--env-file $(COMPOSE_ENV))

# Judged by the schemas of Kubernetes 1.37; too large (22 MB) for everybody's environment.
KUBERNETES := infra/deploy/kubernetes/overlays/demo
KUBERNETES_JUDGE := kubernetes-validate==1.37.0

# Each worker starts a PostgreSQL and instances of its own.
WORKERS ?= 3

.PHONY: help setup run test check soak crash interop bench up down logs format schemas golden clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready ## Install everything into .venv, exactly as locked

$(UV):
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer with venv was found; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	"$(PYTHON)" -m venv .uv
	.uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.venv/.ready: pyproject.toml uv.lock | $(UV)
	UV_PYTHON_DOWNLOADS=never UV_PYTHON_PREFERENCE=only-system $(UV) sync --locked --quiet --python "$(PYTHON)"
	@touch $@

run: setup ## Set up, start everything, play the demo, then keep serving on port 8700
	$(COMMONS) demo --serve

test: setup ## Run all tests but the long ones, WORKERS (3) at a time; prints the engines used
	$(PYTEST) -n $(WORKERS) --dist worksteal

check: setup ## Lint, format, types, dependency rules, schemas and AsyncAPI up to date, compatible and valid
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m infra.schemas --check
	$(BIN)/python -m infra.asyncapi --check

soak: setup ## Run the long tests: a million facts, the whole trace, a large write-ahead log
	$(PYTEST) -m soak

crash: setup ## Run everything that kills processes, the long forms too
	$(PYTEST) tests/crash -m ""

interop: setup ## Run what others judge: RFC vectors, JSON Schema, AsyncAPI, Kubernetes, the eventsourcing library's own suites
	$(PYTEST) tests/interop tests/contract/test_library_recorders.py
	@if command -v kubectl >/dev/null; then mkdir -p build && kubectl kustomize $(KUBERNETES) >build/kubernetes.yaml \
		&& $(UV) tool run --quiet --from $(KUBERNETES_JUDGE) kubernetes-validate --strict --quiet build/kubernetes.yaml \
		&& echo "Kubernetes: valid"; else echo "Kubernetes: not judged, there is no kubectl"; fi

bench: setup ## Measure append, tail, ingest, rebuild, telemetry, Kafka and the whole flow, each beside its baseline
	$(COMMONS) bench

ifndef COMPOSE
up: setup ## Start everything in the background and wait until it is ready; COMPOSE=1: in containers, one per role
	$(BIN)/python -m infra.background up

down: ## Stop what `make up` started; COMPOSE=1: the containers (volumes stay)
	@test ! -x $(BIN)/python || $(BIN)/python -m infra.background down

logs: ## Follow the log of what `make up` started; COMPOSE=1: of the containers
	$(BIN)/python -m infra.background logs
else
up:
	infra/deploy/make-secrets.sh
	$(DOCKER_COMPOSE) up --detach --build --wait

down:
	$(DOCKER_COMPOSE) down

logs:
	$(DOCKER_COMPOSE) logs --follow --tail 100
endif

format: setup ## Format the code and mend what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schemas: setup ## Write the JSON Schemas (new or unpublished facts, community.yaml) and the AsyncAPI document
	$(BIN)/python -m infra.schemas
	$(BIN)/python -m infra.genesis_schema
	$(BIN)/python -m infra.asyncapi

golden: setup ## Add the golden bytes of facts that have none yet
	$(BIN)/python -m tests.golden.make

clean: ## Remove what can be made again (never ./var: that is your data)
	rm -rf .venv .uv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .schemathesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
