# make demo   an environment in .venv, then napari with a generative brain model
# make test   the tests, on a virtual display where there is no other
# make lint   ruff and mypy
# make clean  everything that the other targets made

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INPUTS := pyproject.toml constraints.txt napari.yaml

export NAPARI_ENSURE_PLUGIN_MAIN_THREAD = 1
export PYTHON

.NOTPARALLEL:
.PHONY: demo test lint clean display test-libraries

demo: display $(VENV)/.demo
	@tools/system_libraries.sh check || echo "Trying without them." >&2
	$(BIN)/brainldm view

test: test-libraries $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-xvfb --ignore tests/widgets
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/widgets  # each worker has a display of its own

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

display:
	@if [ "$$(uname -s)" = Linux ] && [ -z "$${DISPLAY:-}$${WAYLAND_DISPLAY:-}" ]; then \
		echo "napari needs a display and there is none (DISPLAY and WAYLAND_DISPLAY" \
		     "are empty). On a machine without a screen use a virtual one:" >&2; \
		echo "    xvfb-run -a make demo" >&2; \
		exit 2; \
	fi

test-libraries:
	@tools/system_libraries.sh install

# Stamps: an environment is built again only when one of its inputs has changed.
# The editable install holds a copy of napari.yaml, so that is an input too.
$(VENV)/.demo: $(INPUTS) | $(BIN)/python
	$(PIP) install -e '.[all]' -c constraints.txt
	touch $@

$(VENV)/.test: $(INPUTS) | $(BIN)/python
	$(PIP) install -e '.[all,train,cluster,test,dev]' -c constraints.txt
	touch $@ $(VENV)/.demo

# A half-made environment would pass for a whole one: take it away on failure.
$(BIN)/python:
	python=$$(tools/find_python.sh) && \
	{ "$$python" -m venv $(VENV) || { rm -rf $(VENV); exit 2; }; }
