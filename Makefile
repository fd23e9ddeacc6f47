# SPDX-License-Identifier: Apache-2.0
# A thin front to meson and ninja; the program is build/ring3.
.PHONY: build run check fmt lint bench clean
.DEFAULT_GOAL := build

build/build.ninja:
	@meson setup build >build.log || { cat build.log; rm -f build.log; exit 1; }
	@rm -f build.log

build: build/build.ninja
	@ninja -C build

run:
	@./run

check:
	@./check

fmt:
	@tools/format --write

lint: build/build.ninja
	@tools/check-deps
	@tools/format
	@tools/lint build

bench: build
	@bench/run

clean:
	rm -rf build build-asan build-clang
