# `make run` on a fresh clone: a virtual environment, the gateway in it, a config to start with, and off it goes.

PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11 python3.14 python,\
	$(shell $(name) -c 'import sys; sys.version_info >= (3, 11) and print("$(name)")' 2>/dev/null)))
VENV := .venv
EXTRAS ?= postgresql
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal
# With ONCE_MORE=1, as in CI: tests that failed beside others run once more, alone. What is broken fails again; what
# passes then needs a quiet machine, which is a defect of the test, too.
ONCE_MORE ?=
again = $(if $(ONCE_MORE),|| { [ $$? = 1 ] && echo "the failed tests once more:" && \
	$(1)/bin/python -m pytest --last-failed --last-failed-no-failures none; })

.DEFAULT_GOAL := help
.PHONY: help run test check format man docs docs-reference screenshots lines oldest newest wheel release bench torture fuzz mutants clean

help:  ## show this
	@sed -n 's/^\([a-z-]*\):.*##/\1\t/p' $(MAKEFILE_LIST) | expand -t 16

run: $(VENV)/.installed  ## install what is missing, and run the gateway with ./config.toml
	@made="$$($(BIN)/gateway init)" && echo "$$made" | sed -n '/^made/p'
	@exec $(BIN)/gateway run

test: $(VENV)/.installed-dev  ## run the tests, in parallel
	$(PYTEST)

check: $(VENV)/.installed-dev  ## format, lint, types and tests: what must hold before a change goes in
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(PYTEST) $(call again,$(VENV))

oldest: $(VENV)-oldest/.installed  ## run the tests that a library can break with the oldest versions that pyproject.toml allows
	$(VENV)-oldest/bin/python -m pytest -n auto --dist worksteal tests/test_*.py tests/conformance tests/delivery tests/plugins tests/values \
		--ignore tests/values/test_values_databases_down.py --deselect tests/test_release.py --deselect tests/test_site.py $(call again,$(VENV)-oldest)

newest: $(VENV)-newest/.installed  ## the same with the newest versions that pyproject.toml allows
	$(VENV)-newest/bin/python -m pytest -n auto --dist worksteal tests/test_*.py tests/conformance tests/delivery tests/plugins tests/values \
		--ignore tests/values/test_values_databases_down.py --deselect tests/test_release.py --deselect tests/test_site.py $(call again,$(VENV)-newest)

format: $(VENV)/.installed-dev  ## bring the code into its format
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

man: $(VENV)/.installed  ## write docs/gateway.1 anew, from the help of the commands
	$(BIN)/python docs/make_man.py > docs/gateway.1.new && mv docs/gateway.1.new docs/gateway.1

docs-reference: $(VENV)/.installed-dev  ## write docs/reference.md and docs/configuration.md anew, from the code
	$(BIN)/python docs/make_configuration.py > docs/configuration.md.new && mv docs/configuration.md.new docs/configuration.md
	$(BIN)/python docs/make_reference.py > docs/reference.md.new && mv docs/reference.md.new docs/reference.md

docs: $(VENV)/.installed-dev  ## build the documentation as a site, into site/; a dead link, a page that no menu names or a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "site/index.html is the first page; look at it with: $(BIN)/mkdocs serve"

screenshots: $(VENV)/.installed-dev  ## make the pictures in docs/screenshots anew (needs chromium)
	$(BIN)/python docs/make_screenshots.py

lines:  ## count the modules of gateway/ and plugins/ and their lines
	@for folder in gateway plugins; do \
		find $$folder -name '*.py' -exec wc -l {} + | sort -n | awk -v folder=$$folder '$$2 != "total" {sizes[++n] = $$1; sum += $$1} \
			END {print folder "/: " n " modules, " sum " lines, median " sizes[int((n + 1) / 2)] ", largest " sizes[n]}'; \
	done

release: $(VENV)/.installed-dev  ## build sdist, wheel, constraints and SBOM into dist/ twice, compare, and try the wheel; EXTRAS=postgresql,mysql
	$(BIN)/python deploy/make_release.py --extras "$(EXTRAS)"
	$(BIN)/python tests/try_wheel.py dist/*.whl

wheel: $(VENV)/.installed-dev  ## build the wheel, and see that it installs and runs in an empty folder
	rm -rf dist
	$(BIN)/python -m build --wheel --outdir dist
	$(BIN)/python tests/try_wheel.py dist/*.whl

bench: $(VENV)/.installed-dev  ## measure start, events and custom values (two cores, wrk, PostgreSQL)
	$(BIN)/python benchmarks/start.py
	$(BIN)/python benchmarks/post.py
	$(BIN)/python benchmarks/values.py

torture: $(VENV)/.installed-dev  ## kill it, cut its power, stop it, again and again; takes long
	$(BIN)/python benchmarks/torture.py

fuzz: $(VENV)/.installed-dev  ## send it 100,000 requests that nobody should send
	$(BIN)/python benchmarks/fuzz.py

mutants: $(VENV)/.installed-dev  ## change the code in 300 places, one at a time: 9 of 10 changes must fail a test
	$(BIN)/python benchmarks/mutants.py --count 300 --seed 1

clean:  ## remove the virtual environment and what was built; var/ stays
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-newest dist site .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed; name it: make PYTHON=/path/to/python3.12 run" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV), with what tests and checks need ..."
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"  # the first that knows dependency groups
	@$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@ $(VENV)/.installed

$(VENV)-oldest/.installed: pyproject.toml
	@echo "Installing into $(VENV)-oldest the oldest allowed versions ..."
	@rm -rf $(VENV)-oldest
	@$(PYTHON) -m venv $(VENV)-oldest
	@$(VENV)-oldest/bin/python -m pip install --quiet uv
	@$(VENV)-oldest/bin/uv pip install --quiet --python $(VENV)-oldest --resolution lowest-direct --editable '.[postgresql,mysql,notify,otel,redis,nats,amqp,mqtt,kafka,s3]'
	@$(VENV)-oldest/bin/uv pip install --quiet --python $(VENV)-oldest --group test  # these at their newest
	@touch $@

$(VENV)-newest/.installed: pyproject.toml
	@echo "Installing into $(VENV)-newest the newest allowed versions ..."
	@rm -rf $(VENV)-newest
	@$(PYTHON) -m venv $(VENV)-newest
	@$(VENV)-newest/bin/python -m pip install --quiet uv
	@$(VENV)-newest/bin/uv pip install --quiet --python $(VENV)-newest --resolution highest --upgrade --editable '.[postgresql,mysql,notify,otel,redis,nats,amqp,mqtt,kafka,s3]'
	@$(VENV)-newest/bin/uv pip install --quiet --python $(VENV)-newest --group test
	@touch $@
