# Sets up and runs everything on a bare machine with Python >= 3.11, pip and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
# S3 servers that Go builds, for tests
GO_SERVERS := github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c github.com/versity/versitygw/cmd/versitygw@v1.8.0
# uv: the one on PATH, otherwise one that pip installs into the environment
UV = $(shell command -v uv || echo "$(VENV)/uv/bin/uv")
SCRIPTS := mnist_bp/report/*.js
DENO := DENO_NO_UPDATE_CHECK=1 $(BIN)/deno
ARGS ?=
# several at once, as tests/conftest.py says
ON_CORES := -n auto --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup train serve alarms test check format lock servers clean

help: ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

setup: $(VENV)/.ready ## build .venv from requirements.lock

train: setup ## run the pipeline; flags go in ARGS, as in make train ARGS="--steps 2000"
	@$(BIN)/python flows/train.py $(ARGS)

serve: setup ## serve the flows (the nightly at 02:00 UTC) and a Prefect server at 127.0.0.1:4200; flags go in ARGS
	@exec $(BIN)/python deployments/serve.py --with-server --end-with $$PPID $(ARGS)

alarms: setup ## create or update the alarms of the Prefect server at PREFECT_API_URL, which post to MNIST_BP_WEBHOOK_URL
	@$(BIN)/python deployments/alarms.py $(ARGS)

test: setup ## run the tests; flags for pytest go in ARGS
	@$(BIN)/python -m pytest $(ON_CORES) $(ARGS)

check: setup ## lint, formatting, types, import rules, and whether the lock matches pyproject.toml
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(DENO) lint --quiet $(SCRIPTS)
	@$(DENO) fmt --quiet --check --line-width 120 $(SCRIPTS)
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@cp requirements.lock $(VENV)/compiled.lock
	@$(COMPILE) --output-file $(VENV)/compiled.lock
	@pins() { grep -E '^[a-z]' "$$1" | sed 's/ *\\$$//'; }; \
		pins requirements.lock > $(VENV)/locked; pins $(VENV)/compiled.lock | diff $(VENV)/locked - \
		|| { echo "error: requirements.lock does not match pyproject.toml: run make lock"; exit 1; }

format: setup ## format the code and fix what the linter can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(DENO) fmt --quiet --line-width 120 $(SCRIPTS)

lock: setup ## update requirements.lock from pyproject.toml, keeping the versions that still fit
	@$(COMPILE) --output-file requirements.lock

servers: setup ## build the S3 servers that tests use if they exist, MinIO and versitygw; needs Go
	@for package in $(GO_SERVERS); do \
		name="$$(basename "$${package%@*}")"; \
		[ ! -x "$(BIN)/$$name" ] || continue; \
		command -v go > /dev/null || { echo "error: no go on PATH: install Go, or put $$name on PATH or in $(BIN)"; exit 1; }; \
		echo "building $$name $${package#*@} (some minutes)"; \
		GOBIN="$(abspath $(BIN))" go install "$$package" || exit 1; \
	done

clean: ## delete the environment and the caches of tools; data and artifacts stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info

# No index address may reach the lock. Its hashes are for every platform and for Python 3.11 and later.
COMPILE = "$(UV)" pip compile --quiet pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
	--no-emit-find-links --custom-compile-command "make lock"

# Prints a line for every five seconds of the command after it, which prints nothing, and what it does; it ends with its shell.
ALIVE = t=0; (while sleep 5 > /dev/null 2>&1 && kill -0 $$$$ 2> /dev/null; do t=$$((t + 5)); echo "  $(1), still working ($$t s)"; done) & \
	trap "kill $$! 2> /dev/null" EXIT;

COMMA := ,
PACKAGES = $(shell grep -c '^[a-z0-9].*==' requirements.lock)

# --require-hashes: only files with the locked digests are installed. Compiled: without .pyc files each start takes 5 to 10 s longer.
$(VENV)/.ready: requirements.lock pyproject.toml Makefile
	$(if $(shell command -v "$(PYTHON)"),,$(error PYTHON=$(PYTHON): no such program; expected Python 3.11 or later, as in make setup PYTHON=/path/to/python3))
	@"$(PYTHON)" -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: " + sys.executable + " is Python " + sys.version.split()[0] + ", expected 3.11 or later: make setup PYTHON=/path/to/python3")'
	@command -v uv > /dev/null || [ -x $(VENV)/uv/bin/uv ] || { echo "fetching uv $(UV_VERSION)"; \
		$(call ALIVE,downloading uv) "$(PYTHON)" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target $(VENV)/uv uv==$(UV_VERSION); }
	@echo "building $(VENV) from requirements.lock (about 6.5 GB, most of it torch's CUDA libraries)"
	@"$(UV)" venv --quiet --allow-existing --python "$(PYTHON)" $(VENV)
	@$(call ALIVE,downloading$(COMMA) unpacking and compiling $(PACKAGES) packages) "$(UV)" pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock
	@"$(UV)" pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@
