# make demo       live captions of the bundled recording
# make test       all tests
# make test-fast  tests of the core, without those marked slow: no servers, browsers or training
# make check      lint, format and types; what CI runs before the tests
# make coverage   all tests with branch coverage, and the floor that it must not fall below
# make format     fix what ruff can fix
# make bench      short benchmarks of the bundled recording, into out/; see docs/benchmarks.md
# make dist       wheel and sdist, into dist/
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
FAST := tests/audio tests/decoding tests/lm tests/streaming tests/vad tests/server/sessions \
	$(wildcard tests/server/protocols/*/test_*codec.py) $(filter-out tests/test_documentation.py,$(wildcard tests/test_*.py))

.PHONY: demo test test-fast check lint coverage format bench dist clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.installed
	$(BIN)/stream-asr demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest

test-fast: $(VENV)/.installed
	$(BIN)/python -m pytest -m "not slow" $(FAST)

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lint: check

coverage: $(VENV)/.installed
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered --cov-report=html:out/coverage

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# One at a time, even with -j: parallel benchmarks would slow each other down.
bench: $(VENV)/.installed
	$(BIN)/python benchmarks/accuracy.py --json out/accuracy.json
	$(BIN)/python benchmarks/accuracy.py --grid "1 4, 1.6, 0.4 0.8" --json out/grid.json --plot out/grid.png
	$(BIN)/python benchmarks/vad.py --json out/vad.json
	$(BIN)/python benchmarks/latency.py --json out/latency.json --plot out/latency.png
	$(BIN)/python benchmarks/throughput.py --most 4 --json out/throughput.json --plot out/throughput.png
	$(BIN)/python benchmarks/backends.py --json out/backends.json --plot out/backends.png
	$(BIN)/python benchmarks/offline.py --repeat 1 --json out/offline.json --plot out/offline.png
	$(BIN)/python benchmarks/soak.py --hours 0.1 --json out/soak.json --plot out/soak.png

dist: $(VENV)/.installed
	$(BIN)/python -m build --outdir dist

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "Setting up $(VENV). This happens once and takes a few minutes, mostly for PyTorch."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist out .mypy_cache .ruff_cache .pytest_cache .coverage
