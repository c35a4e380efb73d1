# Everything a newcomer or CI needs. `make demo`, `make serve`, `make test`; see README.md.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 4
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
LINTERS ?= .venv-lint

# Tests start hundreds of processes, and each would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install dev servers linters pages demo serve check test test-all screenshots clean

$(VENV)/installed: pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Pixelmill needs Python 3.11 or newer: apt-get install python3 python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade "pip>=25.1"
	$(PIP) install --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) install --group dev
	@touch $@

pages: ## Build the web application; without npm (and Debian's root to install it) the service has none
	@$(PYTHON) web/build.py --get-npm

install: $(VENV)/installed pages ## Create .venv and install Pixelmill into it
dev: $(VENV)/installed-dev pages ## The same, with what tests and checks need

servers: dev ## Real servers for the tests: RabbitMQ, Redis, PostgreSQL (Debian, as root), Azurite (npm)
	@sh tests/support/install_servers.sh "$(VENV)"

$(LINTERS)/installed: tests/deploy/requirements.txt tests/support/install_linters.sh
	@sh tests/support/install_linters.sh "$(LINTERS)" "$(PYTHON)"

linters: $(LINTERS)/installed ## What checks deploy/: hadolint, checkov, kubernetes-validate, in an environment of its own

demo: install ## Run a job over sample images on a private service (IMAGES=folder for your own)
	$(BIN)/python -m pixelmill demo $(if $(IMAGES),--images "$(IMAGES)")

serve: install ## Start the service on http://127.0.0.1:8080
	$(BIN)/pixelmill serve

check: dev ## Lint, format, types, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

# Most tests wait for real servers, leases and browsers, so more of them run at once than there are cores.
test: check servers linters ## Everything that must hold, in a few minutes (JOBS=4 at once)
	$(BIN)/python -m pytest -q -m "not slow" -n $(JOBS) --dist loadfile --no-loadscope-reorder

test-all: check servers linters ## The same with long runs
	$(BIN)/python -m pytest -q -m "not slow" -n $(JOBS) --dist loadfile --no-loadscope-reorder
	$(BIN)/python -m pytest -q -m slow -n 2 --dist load

screenshots: servers ## Pictures of the pages for the README and the documentation, taken in Chromium
	$(BIN)/python docs/images/screenshots.py

clean:
	rm -rf $(VENV) $(LINTERS) build dist web/node_modules web/generated src/pixelmill/api/static .mypy_cache .ruff_cache .pytest_cache
