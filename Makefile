# make study   the default study, from nothing: environment, model, results/laptop/report.html
# make test    the tests, the environment first if need be
# make check   formatting and lint of everything
# CORES=4      how many cores the study may use (all by default)

PYTHON ?= python3.11
CORES ?= all
BIN := .venv/bin

.PHONY: study test check environment clean

study: environment
	$(BIN)/snakemake --cores $(CORES)

test: environment
	$(BIN)/python -m pytest

check: environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

environment: .venv/stamp

# The stamp makes the second call instant; a changed lock or project file makes the environment again.
.venv/stamp: pyproject.toml requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[dev]'
	touch .venv/stamp

clean:
	rm -rf .venv results .snakemake
