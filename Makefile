# make demo   live captions of the bundled recording
# make test   all tests
# make lint   ruff and mypy
# make bench  short benchmarks of the bundled recording, into out/; docs/benchmarks.md has the long forms and the rest
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint format bench clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.installed
	$(BIN)/stream-asr demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# One after the other, whatever -j says: they would slow each other down.
bench: $(VENV)/.installed
	$(BIN)/python benchmarks/accuracy.py --json out/accuracy.json
	$(BIN)/python benchmarks/accuracy.py --grid "1 4, 1.6, 0.4 0.8" --json out/grid.json --plot out/grid.png
	$(BIN)/python benchmarks/vad.py --json out/vad.json
	$(BIN)/python benchmarks/latency.py --json out/latency.json --plot out/latency.png
	$(BIN)/python benchmarks/throughput.py --most 4 --json out/throughput.json --plot out/throughput.png
	$(BIN)/python benchmarks/backends.py --json out/backends.json --plot out/backends.png
	$(BIN)/python benchmarks/offline.py --repeat 1 --json out/offline.json --plot out/offline.png
	$(BIN)/python benchmarks/soak.py --hours 0.1 --json out/soak.json --plot out/soak.png

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "setting up $(VENV) (once; a few minutes, most of them for PyTorch)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
