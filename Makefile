# `make build` and `make test` are all that a new machine with Python 3.11 needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: build test bench lint clean

build: $(VENV)/installed
	$(BIN)/python -m meadow.build all

test: $(VENV)/installed-train
	$(BIN)/python -m pytest

bench: $(VENV)/installed-train
	$(BIN)/python -m pytest tests/benchmarks -m bench -s

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

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
