# Each recipe is what CI calls too. `make demo` and `make test` set everything up by themselves.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
JOBS ?= 2

.PHONY: demo test slow lint fix dvc lock setup

demo: $(READY)  ## images to a registered denoiser, about seven minutes; again: nothing to do
	@$(BIN)/stillroom run

test: $(READY)  ## every test that is not marked slow
	$(BIN)/python -m pytest -n $(JOBS) -m "not slow"

slow: $(READY)  ## the others: runs that are stopped at every stage, killed, done twice; CI runs them too
	$(BIN)/python -m pytest -n $(JOBS) -m slow

lint: $(READY)  ## what CI holds against the code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m flows.dvc.dvcyaml --check
	$(BIN)/python -m flows.dvc.schema --check

fix: $(READY)  ## mend what a machine can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

dvc: $(READY)  ## render dvc.yaml and params.schema.json
	$(BIN)/python -m flows.dvc.dvcyaml
	$(BIN)/python -m flows.dvc.schema

lock:  ## one lock with markers for Python 3.11 to 3.13; keeps what is pinned (`make lock NEW=--upgrade`: the newest); needs `uv`
	uv pip compile pyproject.toml --extra dev --generate-hashes --universal --python-version 3.11 \
	  --no-header --no-annotate $(NEW) -o requirements.lock

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
	  || { echo "error: Python 3.11 is needed, $(PYTHON) is another: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@echo "setting up $(VENV): about 290 packages, 7.5 GB, two to five minutes"
	@$(PYTHON) -m venv $(VENV)
	@# The lock is whole, so nothing is left to resolve; pip's resolver trips over a pinned name with extras.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip check --disable-pip-version-check >/dev/null
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@# `dvc` by hand then keeps its state in this checkout too, not in a folder that everybody may write.
	@$(BIN)/dvc config --local core.site_cache_dir "$(CURDIR)/.stillroom/dvc"
	@touch $@
