# Each recipe is what CI calls too. `make demo` and `make test` set everything up by themselves.
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
JOBS ?= 2
# Of tests that wait for servers, locks and clocks one more than cores keeps the cores busy.
MORE = $$(($(JOBS) + 1))
# An environment whose Python is gone, as after an upgrade of the system, is not ready: make it anew.
ifneq ($(wildcard $(READY)),)
  $(shell $(BIN)/python -S -c '' 2>/dev/null || rm -f $(READY))
endif
# Packages of the lock to leave out: `make setup WITHOUT=gpu`, or names. torch links all of CUDA but these, and trains
# and compiles on a CPU without them (docs/install.md).
WITHOUT ?=
GPU_ONLY := cuda-bindings cuda-pathfinder nvidia-cuda-cupti nvidia-cusolver nvidia-nvtx triton
LEFT_OUT = $(patsubst gpu,$(GPU_ONLY),$(WITHOUT))

# Which Python: an environment that is there keeps its own; else `make PYTHON=...`; else the shell's `python3`, which is
# what its owner chose; else the newest on PATH or in pyenv.
quoted = '$(subst ','\'',$(1))'
CANDIDATES = $(if $(PYTHON),$(call quoted,$(PYTHON)),python3 $(foreach minor,13 12 11,python3.$(minor)))
$(READY) python newest: export PYENV = $(if $(PYTHON),,$(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions)

# Prints the first of its arguments that runs, is of a version that the lock has, and can make an environment. One on
# PATH need not run: pyenv has a `python3.12` there that ends with 127 where 3.12 is not selected.
define find_python
seen= without=
try() {
  command -v "$$1" >/dev/null || return 0
  version=$$("$$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || version='does not run'
  seen="$$seen, $$1 ($$version)"
  case $$version in 3.11|3.12|3.13) ;; *) return 0 ;; esac
  if "$$1" -c 'import ensurepip, venv' 2>/dev/null; then echo "$$1"; exit; fi
  without=$${without:-"$$1 has no venv module: apt-get install python$$version-venv"}
}
for python; do
  try "$$python"
  case $$PYENV/$$python in /*/python3.*) for found in "$$PYENV/$${python#python}".*/bin/python3; do try "$$found"; done ;; esac
done
seen=$${seen:+$${seen#, }}
echo "error: $${without:-"Python 3.11, 3.12 or 3.13 is needed, found $${seen:-none}; make PYTHON=/path/to/python3.12"}" >&2
exit 2
endef
$(READY) python newest: export FIND_PYTHON = $(find_python)

.PHONY: demo test slow numeric newest part lint fix dvc lock setup python browser

demo: $(READY)  ## images to a registered denoiser, 7 to 14 minutes on two cores; again: nothing to do
	@$(BIN)/stillroom run

# Compiled modules are kept, whatever the shell says: the tests start some hundred Pythons, and each would compile ours.
test slow numeric part: export PYTHONDONTWRITEBYTECODE =

# A file's tests stay in one process: what they share is made once.
test: $(READY) browser  ## every test that is not marked slow
	$(BIN)/python -m pytest -n $(MORE) --dist loadfile -m "not slow"

slow: $(READY) browser  ## the others: runs that are stopped at every stage, killed, done twice; CI runs them too
	$(BIN)/python -m pytest -n $(MORE) --maxschedchunk 1 -m slow

numeric: $(READY)  ## what may depend on the CPU, as on one with bf16 and as on one without, held to AVX2
	for precision in bf16 fp32; do \
	  STILLROOM_TEST_PRECISION=$$precision ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 \
	    $(BIN)/python -m pytest -n $(JOBS) -m numeric || exit 1; \
	done

newest:  ## a part of the suite, with `stillroom run` in small, on the newest Python that is here
	@python=$$(sh -c "$$FIND_PYTHON" - $(foreach minor,13 12,python3.$(minor)) 2>/dev/null) \
	  || { echo "newest: no Python 3.12 or 3.13 that runs on this machine, so nothing is tried on it"; exit 0; }; \
	if [ "$$($(BIN)/python -V 2>&1)" = "$$("$$python" -V)" ]; then echo "newest: $(VENV) is of it already"; exit 0; fi; \
	$(MAKE) --no-print-directory part VENV=.venv-newest PYTHON="$$python" WITHOUT=gpu

# What most depends on the version: start-up, processes, pickling, each stage; then one whole run in small.
PART := tests/test_setup.py tests/base/test_config.py tests/base/test_parallel.py tests/test_data_stages.py tests/collect \
  tests/project/test_make.py tests/train/test_train.py
part: $(READY)
	$(BIN)/python -m pytest -n $(JOBS) -m "not slow" $(PART)
	$(BIN)/python -m pytest tests/run/test_whole.py::test_one_command_ends_with_a_champion_and_says_where_to_look

browser: $(READY)  # for the tests that open a report: one that is there, else Debian's if root can install it
	@$(BIN)/python tests/browser.py

lint: $(READY)  ## what CI holds against the code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m flows.dvc.dvcyaml --check
	$(BIN)/python -m flows.dvc.schema --check
	$(BIN)/python -m flows.run.deployments --check

fix: $(READY)  ## mend what a machine can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

dvc: $(READY)  ## render dvc.yaml, params.schema.json and prefect.yaml
	$(BIN)/python -m flows.dvc.dvcyaml
	$(BIN)/python -m flows.dvc.schema
	$(BIN)/python -m flows.run.deployments

lock:  ## one lock with markers for Python 3.11 to 3.13; keeps what is pinned (`make lock NEW=--upgrade`: the newest); needs `uv`
	uv pip compile pyproject.toml --extra dev --generate-hashes --universal --python-version 3.11 \
	  --no-header --no-annotate $(NEW) -o requirements.lock

python:  ## the Python that `make setup` would take
	@sh -c "$$FIND_PYTHON" - $(BIN)/python $(CANDIDATES)

setup: $(READY)  ## the environment; the recipes above do it by themselves

$(READY): requirements.lock pyproject.toml
	@for one in $(LEFT_OUT); do grep -q "^$$one==" requirements.lock \
	  || { echo "error: WITHOUT=$$one: no such package in requirements.lock" >&2; exit 2; }; done
	@own=$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null); \
	case $$own in ''|3.11|3.12|3.13) ;; *) echo "error: $(VENV) is of Python $$own, and 3.11, 3.12 or 3.13 is needed:" \
	  "move it away, or make VENV=another" >&2; exit 2 ;; esac; \
	python=$$(sh -c "$$FIND_PYTHON" - $(BIN)/python $(CANDIDATES)) || exit 2; \
	echo "setting up $(VENV) by $$python: about 300 packages, $(if $(filter gpu,$(WITHOUT)),6.3,7.5) GB, two to seven minutes"; \
	if [ "$$python" = $(BIN)/python ]; then "$$python" -m ensurepip --default-pip >/dev/null; \
	elif [ -f $(VENV)/pyvenv.cfg ]; then echo "$(VENV) is made anew: its Python does not run, or has no ensurepip"; "$$python" -m venv --clear $(VENV); \
	else "$$python" -m venv $(VENV); fi
	@awk -v out=" $(LEFT_OUT) " '/^[a-z0-9]/ { split($$0, name, "=="); keep = !index(out, " " name[1] " ") } keep' \
	  requirements.lock >$(VENV)/requirements.lock
	@# The lock is whole, so nothing is left to resolve; pip's resolver trips over a pinned name with extras.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(VENV)/requirements.lock
	@$(BIN)/python -m pip check --disable-pip-version-check >/dev/null $(if $(LEFT_OUT),|| echo "left out: $(LEFT_OUT)")
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@# `dvc` by hand then keeps its state in this checkout too, not in a folder that everybody may write.
	@$(BIN)/dvc config --local core.site_cache_dir "$(CURDIR)/.stillroom/dvc"
	@# The ledger's records come with each `git fetch`; none is ever replaced, so there is no plus before them. They come
	@# to a place of their own: `git fetch --prune` would remove from `runs` whatever was not pushed yet.
	@if git config --get remote.origin.url >/dev/null 2>&1; then \
	  git config --unset-all remote.origin.fetch '^refs/stillroom/runs/.*:refs/stillroom/runs/' || true; \
	  git config --get-all remote.origin.fetch | grep -qF refs/stillroom/fetched || \
	  git config --add remote.origin.fetch 'refs/stillroom/runs/*:refs/stillroom/fetched/*'; fi
	@touch $@
