# Two commands set everything up, each by itself from a bare clone: `make demo` and `make test`.
# Interrupted runs are continued by repeating the command; a second run takes seconds to start.

VENV ?= .venv
TORCH ?= 2.11.0
TORCHVISION ?= 0.26.0
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
	2>/dev/null && { echo $$p; break; }; done)

BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
PIP := $(BIN)/python -m pip --disable-pip-version-check
SOURCES := setup.py pyproject.toml $(shell find csrc -type f 2>/dev/null)
# Empty versions mean the newest of the package index.
PAIR := 'torch$(if $(TORCH),==$(TORCH))' 'torchvision$(if $(TORCHVISION),==$(TORCHVISION))'

.PHONY: demo test lint format notebook test-slow test-matrix env ops bench bench-env docs clean help
.DEFAULT_GOAL := help

help:
	@echo 'make demo         train, evaluate and draw on the built-in data set (CPU, results in demo_out/)'
	@echo 'make test         run the test suite in two processes (WORKERS=N: in N)'
	@echo 'make env          only install'
	@echo 'make lint         ruff, mypy, clang-format'
	@echo 'make docs         build the site of the documents into docs/_build; a warning is an error'
	@echo 'make notebook     run every cell of demo/tour.ipynb'
	@echo 'make test-slow    the tests marked slow'
	@echo 'make test-matrix  the suite on the oldest and the newest torch'
	@echo 'make bench-env    an environment with the implementations that the operators are compared with'
	@echo 'make bench        compare the operators with them (CPU, results in bench_out/)'
	@echo 'make clean        remove the environment, builds and results'

$(STAMPS)/venv:
	@test -n '$(PYTHON)' || { echo 'isda_suite needs Python 3.10, 3.11 or 3.12 with venv: \
	install one (Debian: python3 python3-venv) or name it with make PYTHON=/path/to/python'; exit 1; }
	@command -v g++ >/dev/null || echo 'no g++ found: the operators will run on plain PyTorch (slower)'
	@echo '[1/4] virtual environment in $(VENV) ($(PYTHON))'
	$(PYTHON) -m venv --clear $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/torch: $(STAMPS)/venv requirements/build.txt
	@echo '[2/4] torch $(or $(TORCH),newest), torchvision $(or $(TORCHVISION),newest) (about 3 GB with the CUDA libraries)'
	$(PIP) install $(PIP_ARGS) -r requirements/build.txt $(PAIR)
	@touch $@

EXTRAS := runtime test onnx docs web supervision
$(STAMPS)/requirements: $(STAMPS)/torch $(EXTRAS:%=requirements/%.txt) requirements/lock.txt
	@echo '[3/4] the other packages'
	$(PIP) install $(PIP_ARGS) $(if $(LOCK),-c $(LOCK)) $(PAIR) $(EXTRAS:%=-r requirements/%.txt)
	@touch $@

# The other packages: `requirements` for working on isda_suite, `bench` for comparing its operators.
PACKAGES ?= requirements

$(STAMPS)/ops: $(STAMPS)/$(PACKAGES) $(SOURCES)
	@echo '[4/4] isda_suite and its compiled operators'
	PATH="$(CURDIR)/$(BIN):$$PATH" $(PIP) install -v --no-build-isolation --no-deps -e .
	@$(BIN)/python -m isda_suite.ops
# The library lies in the checkout and is for one torch: other environments have to build again.
	@rm -f .venv*/.stamps/ops && touch $@

LOCK ?= requirements/lock.txt

env ops: $(STAMPS)/ops

demo: env
	$(BIN)/python demo/sample_demo.py

# Each process holds the whole stack and computes with one thread. WORKERS=1 runs the suite in one process.
CORES := $(or $(shell getconf _NPROCESSORS_ONLN 2>/dev/null),1)
WORKERS ?= $(if $(filter 1,$(CORES)),1,2)

test: env
	$(BIN)/python -m pytest $(if $(filter-out 1,$(WORKERS)),-n $(WORKERS) --dist loadfile --no-loadscope-reorder) \
		$(PYTEST_ARGS)

# Marked slow, so the suite leaves it out.
notebook: env
	$(BIN)/python -m pytest -m 'slow or not slow' tests/docs/test_notebook.py $(PYTEST_ARGS)

test-slow: env
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	find csrc -name '*.cpp' -o -name '*.cu' -o -name '*.h' -o -name '*.cuh' | xargs $(BIN)/clang-format --dry-run --Werror

format: env
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	find csrc -name '*.cpp' -o -name '*.cu' -o -name '*.h' -o -name '*.cuh' | xargs $(BIN)/clang-format -i

# Oldest: the first torch that knows torch.library.register_autograd. Newest: what the index gives.
test-matrix:
	$(MAKE) test VENV=.venv-oldest TORCH=2.4.1 TORCHVISION=0.19.1 LOCK= \
		PYTHON=$(or $(PYTHON_OLDEST),python3.10)
	$(MAKE) test VENV=.venv-newest TORCH= TORCHVISION= LOCK= $(if $(PYTHON_NEWEST),PYTHON=$(PYTHON_NEWEST))

# The benchmark of the operators has an environment of its own: one of the implementations it compares
# with asks for Python 3.12, and mmcv has to be compiled, or its convolution would be torchvision's.
BENCH_VENV ?= .venv-bench
BENCH_OUT ?= bench_out
PYTHON_BENCH ?= $(shell for p in python3.12 "$$(pyenv prefix 3.12 2>/dev/null)/bin/python3.12"; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 12))' \
	2>/dev/null && { echo $$p; break; }; done)

bench-env:
	@test -f $(BENCH_VENV)/.stamps/venv || $(or $(PYTHON_BENCH),false) -c \
		'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null || \
		{ echo 'the benchmark of the operators needs Python 3.12 with venv: install it or name it with' \
		'make bench-env PYTHON_BENCH=/path/to/python3.12'; exit 1; }
	@$(MAKE) --no-print-directory ops VENV='$(BENCH_VENV)' PYTHON='$(PYTHON_BENCH)' PACKAGES=bench

bench: bench-env
	$(BENCH_VENV)/bin/python benchmarks/ops.py --out $(BENCH_OUT) $(BENCH_ARGS)

# The wheel is kept outside of the environment, since it takes longer than all the rest. It is never
# taken from pip's cache, which may hold one without the compiled part.
MMCV := $(shell grep '^onedl-mmcv==' requirements/bench.txt)
MMCV_WHEEL := build/$(MMCV)-torch$(TORCH)

$(MMCV_WHEEL)/done: | $(STAMPS)/torch
	@echo '[3/4] $(MMCV) with its compiled operators (took 48 minutes on two busy cores)'
	$(PIP) install $(PIP_ARGS) $(if $(LOCK),-c $(LOCK)) packaging
	PATH="$(CURDIR)/$(BIN):$$PATH" $(PIP) wheel -v --no-cache-dir --no-build-isolation --no-deps \
		--no-binary onedl-mmcv --wheel-dir $(@D) '$(MMCV)'
	@touch $@

$(STAMPS)/bench: $(MMCV_WHEEL)/done requirements/bench.txt
	@echo '[3/4] the implementations to compare with'
	$(PIP) install $(PIP_ARGS) $(if $(LOCK),-c $(LOCK)) $(PAIR) $(MMCV_WHEEL)/*.whl -r requirements/bench.txt
	@touch $@

docs: env
	$(BIN)/sphinx-build -W -b html docs docs/_build

clean:
	rm -rf $(VENV) .venv-oldest .venv-newest $(BENCH_VENV) build dist *.egg-info work_dirs demo_out $(BENCH_OUT) docs/_build docs/repository
	find isda_suite -name '*.so' -delete
