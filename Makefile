# One word each, the same for people and CI. Needs Linux, Python 3.11, make and git.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
LAYERS := core training nuke_plugin
READY := $(VENV)/.ready
# Test processes side by side; a file runs in one of them, so that what its tests share is made once.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

.PHONY: help setup demo test test-fast lint types wheel format clean

help:
	@echo "make demo    set up, train a look on the sample photos and relight a clip (about 6 minutes on 2 cores)"
	@echo "make test    set up and run the tests but those marked slow or gpu (some minutes on 2 cores)"
	@echo "make test-fast   those that start no process and fit no network (a minute)"
	@echo "make lint    check style          make format  mend it"
	@echo "make types   check types          make wheel   build the wheel and test the installed copy"
	@echo "make setup   only set up .venv    make clean   remove what was built"

setup: $(READY)

$(READY): requirements.lock requirements.cuda.lock setup.py core/version.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps --requirement requirements.lock
	$(BIN)/python -c "from importlib.metadata import version as v; exit('+cpu' not in v('torch'))" || \
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps --requirement requirements.cuda.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	mkdir -p build/typed/relightgan
	for layer in $(LAYERS); do ln -sfn ../../../$$layer build/typed/relightgan/$$layer; done
	touch $(READY)

demo: $(READY)
	$(BIN)/python examples/demo.py --out build/demo

test: $(READY)
	$(PYTEST) -m "not slow and not gpu"

test-fast: $(READY)
	$(PYTEST) -m "not slow and not gpu and not process and not fits"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# mypy and pyright find relightgan.* through the tree of links that setup makes.
types: $(READY)
	$(BIN)/mypy $(foreach layer,$(LAYERS),-p relightgan.$(layer))
	$(BIN)/basedpyright

# Builds the wheel, and tests it as a studio gets it: in an environment of its own, by the line that README gives.
wheel: $(READY)
	rm -rf build/wheel build/lib
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheel .
	$(PYTHON) -m venv build/wheel/studio
	build/wheel/studio/bin/pip install --quiet "$$(echo build/wheel/relightgan-*.whl)[cpu]"
	cd build/wheel && studio/bin/relightgan doctor && \
	studio/bin/relightgan infer ../../examples/courtyard/look.onnx ../../examples/courtyard/clip/A/%04d.exr \
		relit.%04d.exr --frames 1 --device cpu --progress none
	cd build/wheel && studio/bin/pip install --quiet pytest==$$(../../$(BIN)/python -c "import pytest; print(pytest.__version__)") && \
	studio/bin/python -c "from relightgan.core import cli; assert 'studio' in cli.__file__, cli.__file__" && \
	studio/bin/python -m pytest -q -o pythonpath=$(CURDIR)/tests/support ../../tests/core/test_colour.py ../../tests/core/test_look.py

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
	rm -f $(READY)
