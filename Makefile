# `make build` and `make test` are all that a new machine with Python 3.11 needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: build test slow bench lint wheel clean

build: $(VENV)/installed
	$(BIN)/python -m meadow.build all

test: $(VENV)/installed-train
	$(BIN)/python -m pytest

slow: $(VENV)/installed-train
	$(BIN)/python -m pytest -m slow

bench: $(VENV)/installed-train
	$(BIN)/python -m pytest tests/benchmarks -m bench -s

# What is quick: style, types, layers.
lint: $(VENV)/installed-train
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --level error
	$(BIN)/lint-imports --no-cache

# An empty environment gets the wheel, and loads a dataset from a folder that is no checkout.
wheel: $(VENV)/installed
	rm -rf build/wheel && mkdir -p build/wheel
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/wheel .
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt build/wheel/*.whl
	cd build/wheel && env MEADOW_OUT=out MEADOW_RAW=raw HF_HOME=hf HF_HUB_OFFLINE=1 venv/bin/python -c \
		'import meadow; from datasets import load_dataset; print(load_dataset("meadow", "wikidoc"))'

$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	# Without this, a folder that holds a checkout named `meadow` would shadow the package.
	echo "$(CURDIR)" > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/meadow-checkout.pth"
	touch $@

# What trains and scores models; building datasets needs none of it.
$(VENV)/installed-train: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,train,eval,tensorboard,web]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
