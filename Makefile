# The ways to build, show, test and measure Bandstand. Everything works on a fresh Debian 12 with Rust, Python, make and git:
# what else is needed is installed by the target that needs it (scripts/system-packages has the lists).
#
#   make demo    the example shop on http://127.0.0.1:8000 (PORT=8001 for another port)
#   make test    every test, as CI runs them
#   make bench   Bandstand and its peers, side by side; BENCH="--quick" for its options (bench/README.md)
#   make wheel   the wheel, in dist/
#   make fuzz    each fuzz target for SECONDS=60
#   make lint, make fmt, make clean

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

PYTHON ?= python3
PORT ?= 8000
SECONDS ?= 60
BENCH ?=
PYTEST ?=

export PYTHON
export PIP_DISABLE_PIP_VERSION_CHECK = 1
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME

target := $(abspath $(or $(CARGO_TARGET_DIR),target))
quietly := scripts/quietly
pip = -m pip install -q
shop := examples/shop
sources := $(shell find crates python .cargo -type f -not -name '*.py[cod]' -not -path '*.egg-info/*') \
	Cargo.toml Cargo.lock pyproject.toml MANIFEST.in README.md

.PHONY: help demo test bench wheel lint fmt fuzz clean system-build system-test system-bench system-fuzz \
	check-lint check-rust check-shop check-pythons check-whole

help:
	@sed -n 's/^#   //p' Makefile

# The wheel

wheel: system-build $(target)/wheel-release
	@echo "  $$(ls dist/*.whl)"

# `build/` is setuptools' own scratch: removed, so that no file of an earlier state gets into a wheel. $(1) is cargo's profile;
# cargo works in the workspace's own target folder. Debian's python3 has no pip, an environment always has.
define build_wheel
	@test -x $(target)/build-venv/bin/pip || $(quietly) "making an environment to build in" $(PYTHON) -m venv --clear $(target)/build-venv
	@rm -rf build $(2)/*.whl
	@SETUPTOOLS_RUST_CARGO_PROFILE=$(1) $(quietly) "building the wheel ($(1))" $(target)/build-venv/bin/pip wheel -v --no-deps -w $(2) .
	@rm -rf build
	@touch $@
endef

$(target)/wheel-release: $(sources) | system-build
	$(call build_wheel,release,dist)

$(target)/wheel-dev: $(sources) | system-test
	$(call build_wheel,dev,$(target)/dist)

# make demo

demo: .venv/.installed
	@$(quietly) "preparing the database" .venv/bin/python $(shop)/manage.py migrate --noinput -v 0
	@$(quietly) "filling the shop with 500 products" .venv/bin/python $(shop)/manage.py fill --products 500
	@$(quietly) "collecting static files" .venv/bin/python $(shop)/manage.py collectstatic --noinput -v 0
	@echo "The shop: http://127.0.0.1:$(PORT)   log in as demo / demo, /admin/ as admin / admin   Ctrl-C stops it"
	@exec .venv/bin/bandstand serve --chdir $(shop) --bind 127.0.0.1:$(PORT)

.venv/.installed: $(target)/wheel-release $(shop)/requirements.txt | system-build
	@test -x .venv/bin/python || $(quietly) "making .venv" $(PYTHON) -m venv --clear .venv
	@$(quietly) "installing Django into .venv" .venv/bin/python $(pip) -r $(shop)/requirements.txt
	@$(quietly) "installing the wheel into .venv" .venv/bin/python $(pip) --no-index --no-deps --force-reinstall dist/*.whl
	@touch $@

# make test: the layers in order, each only when those before it are good; the whole of a layer always runs.

test:
	@$(MAKE) check-lint
	@$(MAKE) check-rust
	@$(MAKE) $(target)/test-venv/.installed
	@$(MAKE) check-shop
	@$(MAKE) check-pythons
	@$(MAKE) check-whole

check-lint lint: system-build
	@echo "Format, lints, versions"
	@cargo fmt --all --check
	@rustfmt --check --edition 2024 fuzz/fuzz_targets/*.rs
	@$(quietly) "clippy" cargo clippy --workspace --all-targets --locked -- -D warnings
	@version=$$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml); \
		grep -qF "__version__ = \"$$version\"" python/bandstand/__init__.py \
		|| { echo "Cargo.toml says version $$version, python/bandstand/__init__.py another" >&2; exit 1; }

check-rust: system-build
	@echo "Tests of the crates"
	@$(quietly) "compiling" cargo test --workspace --locked --no-run
	@cargo test --workspace --locked -q

check-shop: $(target)/test-venv/.installed
	@echo "Tests of the shop"
	@cd $(shop) && SHOP_SECRET_KEY=tests $(target)/test-venv/bin/python manage.py test

check-pythons: $(target)/test-venv/.installed
	@echo "The wheel in every Python"
	@scripts/interpreters $(target)/dist/*.whl

# PYTEST="-k static" runs some of them.
check-whole: $(target)/test-venv/.installed
	@echo "Tests of the whole"
	@BANDSTAND_BIN=$(target)/test-venv/bin/bandstand \
		BANDSTAND_TEST_PYTHONPATH=$$($(target)/test-venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("platlib"))') \
		$(target)/test-venv/bin/python -m pytest -q tests $(PYTEST)

$(target)/test-venv/.installed: $(target)/wheel-dev tests/requirements.txt $(shop)/requirements.txt | system-test
	@test -x $(target)/test-venv/bin/python || $(quietly) "making the tests' environment" $(PYTHON) -m venv --clear $(target)/test-venv
	@$(quietly) "installing what the tests need" $(target)/test-venv/bin/python $(pip) -r tests/requirements.txt -r $(shop)/requirements.txt
	@$(quietly) "installing the wheel for the tests" \
		$(target)/test-venv/bin/python $(pip) --no-index --no-deps --force-reinstall $(target)/dist/*.whl
	@touch $@

# The rest

bench: .venv/.installed | system-bench
	@$(PYTHON) bench/run.py --bandstand .venv/bin/bandstand $(BENCH)

fuzz: | system-fuzz
	@scripts/fuzz $(SECONDS)

fmt:
	@cargo fmt --all
	@rustfmt --edition 2024 fuzz/fuzz_targets/*.rs

clean:
	@cargo clean -q
	@rm -rf build dist .venv python/*.egg-info
	@echo "Kept: the shop's database and pictures ($(shop)), the peers' environment (bench/.venv-peers)"

system-build:
	@scripts/system-packages build
system-test:
	@scripts/system-packages build test
system-bench:
	@scripts/system-packages build bench
system-fuzz:
	@scripts/system-packages build fuzz
