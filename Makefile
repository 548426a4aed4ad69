# The two commands are `make quickstart` and `make check`. Everything else is CMake: see CMakePresets.json.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
JOBS ?= $(shell nproc)

.PHONY: help install build install-prefix quickstart check check-scalar bench soak format format-check clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */  make \1\t/' | expand -t 22

install:  ## installs by apt what is missing, and nothing when all is there
	@scripts/install_packages.sh

build: install  ## builds the binary that users run, into build/release
	@cmake --preset release >/dev/null
	@cmake --build --preset release -j $(JOBS) --target isthmus

PREFIX ?= $(CURDIR)/build/prefix
install-prefix: install  ## installs program, library and CMake package below PREFIX=...: docs/library.md
	@cmake --preset release >/dev/null
	@cmake --build --preset release -j $(JOBS) --target isthmus isthmus_testing
	@cmake --install build/release --prefix $(PREFIX) >/dev/null
	@echo "installed below $(PREFIX); in CMake: -DCMAKE_PREFIX_PATH=$(PREFIX), then find_package(Isthmus)"

quickstart: build  ## trains a small hybrid over three sites on this machine, kills one on the way, checks the ledger
	@scripts/quickstart.sh

check: install  ## builds with warnings as errors and runs all tests
	@cmake --preset ci
	@cmake --build --preset ci -j $(JOBS)
	@ctest --preset ci -j $(JOBS)

check-scalar: install  ## builds with the reference kernels alone and trains, decodes and imports models with them
	@cmake --preset scalar >/dev/null
	@cmake --build --preset scalar -j $(JOBS) --target models_test
	@ctest --preset scalar -R '^models_test$$'

bench: install  ## runs every program in bench/ and writes docs/benchmarks.md
	@cmake --preset release >/dev/null
	@cmake --build --preset release -j $(JOBS)
	@scripts/run_benchmarks.sh build/release/bench docs/benchmarks.md

SOAK_MINUTES ?= 30
soak: install  ## real processes under a fault each 30 s for SOAK_MINUTES=30, and clean runs beside them: docs/faults.md
	@cmake --preset release >/dev/null
	@cmake --build --preset release -j $(JOBS) --target soak
	@build/release/bench/soak --minutes $(SOAK_MINUTES)

format:  ## clang-format over all C++ and CUDA sources
	@git ls-files '*.cpp' '*.hpp' '*.cu' '*.cuh' | xargs clang-format -i

format-check:  ## the same, without changing anything
	@git ls-files '*.cpp' '*.hpp' '*.cu' '*.cuh' | xargs clang-format --dry-run --Werror

clean:  ## removes the build folders; runs/ stays
	@rm -rf build
