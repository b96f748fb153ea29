# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Every name below is meant for people; the work is done by the scripts in tests/tools.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
JOBS ?= $(shell nproc)
SUDO := $(if $(filter-out 0,$(shell id -u)),sudo)

# What the tools keep, they keep under build/.
COLLECTIONS := $(CURDIR)/build/collections
LINK := $(COLLECTIONS)/ansible_collections/kvmops/cluster
export PATH := $(BIN):$(PATH)
export ANSIBLE_COLLECTIONS_PATH := $(COLLECTIONS)
export ANSIBLE_HOME := $(CURDIR)/build/ansible
export RUFF_CACHE_DIR := $(CURDIR)/build/cache/ruff
# Compiled modules: once for all programs, and never beside the sources.
export PYTHONPYCACHEPREFIX := $(CURDIR)/build/cache/pyc
export PYTHONDONTWRITEBYTECODE :=
# Where the tests write their JUnit files.
export JUNIT ?= build/junit

# The lab, the demo and the benches are Python packages in tests/, and need root.
SCENARIO ?=
REAL ?=
HOST ?= h1
NAME ?=
AGAIN ?=
REPEATS ?=
CLUSTER ?=
OUT ?=
ROOT := $(SUDO) env PATH=$(PATH):/usr/sbin:/sbin PYTHONPATH=$(CURDIR)/tests \
	PYTHONPYCACHEPREFIX=$(PYTHONPYCACHEPREFIX) PYTHONDONTWRITEBYTECODE= ANSIBLE_COLLECTIONS_PATH=$(COLLECTIONS) ANSIBLE_HOME=$(ANSIBLE_HOME) \
	$(foreach name,$(filter KVMOPS_%,$(.VARIABLES)),$(name)='$($(name))') $(BIN)/python
# Labs that are tested side by side, on a machine with processors to spare: make integration LABS=2
LABS ?= 0
TESTS ?= tests/integration
OPTIONS = $(if $(SCENARIO),--scenario $(SCENARIO))

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

##
# Two steps, so that unit tests and the demo need not wait for what only lint and types need.
.PHONY: tools tools-tests tools-lint
tools: tools-tests tools-lint ## Make .venv, and the link through which Ansible finds this checkout as a collection
tools-tests: $(VENV)/.tests $(LINK)
tools-lint: tools-tests $(VENV)/.lint

$(VENV)/.tests: tests/requirements/controller.txt tests/requirements/tests.txt
	@tests/tools/venv $(VENV) tests/requirements/tests.txt $(PYTHON)

$(VENV)/.lint: tests/requirements/lint.txt $(VENV)/.tests
	@tests/tools/venv $(VENV) tests/requirements/lint.txt $(PYTHON)

$(LINK):
	@mkdir -p $(@D) && ln -sfn ../../../.. $@

# Side by side; the longest first.
CHECK := units-others+units-core+lint-ansible+types+lint-files+lint-python

.PHONY: check
check: tools-tests ## The fast part of the tests: lint, types, units (no root, no lab; 2 minutes)
	@tests/tools/test $(CHECK)

.PHONY: lint lint-ansible lint-python lint-files lint-docs
lint: lint-ansible lint-python lint-files lint-docs ## Style: ruff, ansible-lint, yamllint, licences, changelog
lint-ansible: tools-lint
	@tests/tools/lint ansible
lint-python: tools-lint
	@tests/tools/lint python
lint-files: tools-lint
	@tests/tools/lint files
lint-docs: tools-tests
	@tests/tools/lint docs $(PYTHON)

.PHONY: docs docs-pictures
docs: $(LINK) ## Make the documentation site in build/docs; every warning is an error
	@mkdir -p build/logs && tests/tools/docs $(PYTHON)
docs-pictures: tools-tests ## Draw the pictures of reports for the documentation anew (Chromium)
	@PYTHONPATH=tests:$(COLLECTIONS) $(BIN)/python -m docsite.pictures docs/images

.PHONY: types
types: tools-lint ## Types: mypy, strict on the pure core and the lab
	@tests/tools/types

.PHONY: units units-core units-others units-fuzz units-oldest
units: tools-tests ## Unit tests
	@tests/tools/units $(ARGS)
units-core: tools-tests
	@tests/tools/units --core
units-others: tools-tests
	@tests/tools/units --others
units-fuzz: tools-tests
	@tests/tools/units --fuzz
units-oldest: tools-tests ## The core's unit tests on Python 3.9, where there is one
	@tests/tools/units --oldest

.PHONY: format
format: tools-lint ## Format the Python code
	@ruff check --fix --quiet . || true
	@ruff format .

.PHONY: sanity
sanity: tools-tests ## ansible-test sanity, with every Python on this machine
	@tests/tools/sanity $(ARGS)

.PHONY: build
build: tools-tests ## Build the collection as a file in build/
	@tests/tools/build

.PHONY: import-check
import-check: build ## Check that Galaxy would accept that file (galaxy-importer)
	@tests/tools/import-check $(PYTHON)

.PHONY: integration
integration: tools-tests ## Tests of the collection on the lab (root; 15 minutes)
	@mkdir -p $(JUNIT)
	@$(ROOT) -m pytest $(TESTS) -q -p harness.side_by_side -p harness.processor -n $(LABS) --dist loadfile \
		--junit-xml=$(JUNIT)/integration.xml -m 'not soak' $(ARGS)

.PHONY: test
test: tools-tests ## What every change must pass: check, sanity, import-check, integration (root; half an hour)
	@tests/tools/test $(CHECK) sanity+units-oldest+import-check+lint-docs+docs integration

.PHONY: releases
releases: tools-tests
	@$(ROOT) -m soak.releases --junit-xml $(JUNIT)/releases.xml $(ARGS)

.PHONY: faults faults-table
faults: tools-tests
	@$(ROOT) -m faults $(if $(AGAIN),--again) $(ARGS)
faults-table: tools-tests
	@$(ROOT) -m faults --write $(ARGS)

.PHONY: soak
soak: tools-tests ## All longer tests [NAME=part] [AGAIN=1]; continues where it was stopped (root; over an hour)
	@PYTHONPATH=$(CURDIR)/tests $(BIN)/python -m soak $(NAME) $(if $(AGAIN),--again)

##
.PHONY: demo
demo: tools-tests ## Drain a busy host of a small cluster, and move its guests home [REAL=1: one of them a Debian with a database] (root)
	@$(ROOT) -m demo $(OPTIONS) $(if $(filter-out 0,$(REAL)),--real)

.PHONY: bench
bench: tools-tests ## Measure kvmops beside other policies [NAME=…] [SCENARIO=file] [OUT=folder] [REPEATS=2] (root)
	@$(ROOT) -m bench $(or $(NAME),strategies) $(OPTIONS) $(if $(OUT),--out $(OUT)) $(if $(REPEATS),--repeats $(REPEATS)) \
		$(if $(CLUSTER),--cluster $(CLUSTER)) $(ARGS)

.PHONY: lab-up lab-down lab-reset lab-status lab-ssh
lab-up: tools-tests ## Start a lab on this machine [SCENARIO=file]; inventory: build/lab/inventory.yml (root)
	@mkdir -p build/lab
	@$(ROOT) -m lab up $(OPTIONS) --inventory build/lab/inventory.yml
lab-down: tools-tests ## Stop the lab and remove all of it
	@$(ROOT) -m lab down
lab-reset: tools-tests ## Stop the lab and start a new one [SCENARIO=file]
	@$(ROOT) -m lab reset $(OPTIONS)
lab-status: tools-tests ## Show the hosts and guests of the lab
	@$(ROOT) -m lab status
lab-ssh: tools-tests ## Open a shell on a host of the lab [HOST=h1]
	@$(ROOT) -m lab ssh $(HOST)

.PHONY: clean
clean: ## Stop the lab and remove .venv and build/
	@tests/tools/clean
