# Each of these works in a fresh clone, after `apt install git make python3-venv`. Everything is put into .venv, which
# `make clean` takes away again.

PYTHON = python3

help:
	@echo 'make serve     sets up what a user needs (half a minute, once) and runs the example on 127.0.0.1:10045'
	@echo 'make test      sets up what a developer needs (a minute, once) and runs the quick tests (at most three minutes)'
	@echo 'make test-all  runs everything: minutes to an hour, by what is installed (CONTRIBUTING.md)'

serve: .venv/for-users
	@echo 'policyd answers on 127.0.0.1:10045 by contrib/policyd.toml, until Ctrl-C'
	@.venv/bin/policyd serve -c contrib/policyd.toml

# What needs nothing but Python, no root, and no other program. What is made at random is the same each time.
test: .venv/for-developers
	@echo 'the quick tests, on all processors: at most three minutes on two'
	@.venv/bin/python -m pytest -q -n auto --dist loadfile --hypothesis-seed=0 tests/unit tests/laws tests/server

test-all: .venv/for-fuzzing
	.venv/bin/python -m pytest

.venv/for-users: EXTRAS =
.venv/for-developers: EXTRAS = [dev]
.venv/for-fuzzing: EXTRAS = [dev,fuzz]
.venv/for-users .venv/for-developers .venv/for-fuzzing: pyproject.toml
	@echo 'installing policyd$(EXTRAS) into .venv'
	@$(PYTHON) -m venv .venv
	@.venv/bin/pip install --quiet --disable-pip-version-check --editable '.$(EXTRAS)'
	@touch $@

clean:
	rm -rf .venv

.PHONY: help serve test test-all clean
