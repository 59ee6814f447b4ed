# A thin memory for names: CMake does the work. `make help` lists the targets.
BUILD  ?= build
JOBS   ?= $(shell nproc)
GEN    := $(shell command -v ninja >/dev/null 2>&1 && echo -G Ninja)
PREFIX ?= /usr/local

.PHONY: all build demo test check lint fmt bench determinism matrix golden onnx-tests light install deps transcripts clean help

all: $(BUILD)/CMakeCache.txt  ## build the library and the command, build/requant
	@cmake --build $(BUILD) -j $(JOBS) --target requant requant_shared requant_static man

build: $(BUILD)/CMakeCache.txt
	@cmake --build $(BUILD) -j $(JOBS)

$(BUILD)/CMakeCache.txt: | deps
	@cmake -S . -B $(BUILD) $(GEN) $(CMAKE_ARGS)

deps:                ## install what is missing (asks once; as root or with sudo)
	@tools/deps.sh

demo: deps all     ## the main job on the digits network: ends in a verdict
	$(BUILD)/requant quantize models/digits-cnn.onnx -d models/digits-train.npz \
	    --eval models/digits-test.npz -o $(BUILD)/digits-cnn-int8.onnx

test: deps build     ## every test
	@ctest --test-dir $(BUILD) --output-on-failure -j $(JOBS) --no-tests=error

check: deps          ## sanitizers, clang, valgrind, a fuzzer; one part of it: make check SHARD=asan
	@tools/check.sh $(SHARD)

lint:                ## layers, format, clang-tidy, cppcheck
	@tools/lint.sh

fmt:                 ## clang-format in place
	@git ls-files -co --exclude-standard '*.c' '*.h' | xargs clang-format -i

bench: build         ## kernels and whole models: JSON lines
	@tools/bench.sh $(BUILD)

determinism: build   ## hashes of files and outputs at every RQ_CPU level, and on arm64 where build-arm64 is there
	@tests/determinism/run.sh $(BUILD) 16 $(BUILD)/requant $(ARM64)
ARM64 = $(if $(wildcard build-arm64/requant),"qemu-aarch64 -L $${RQ_ARM64_SYSROOT:-build-arm64-sysroot} build-arm64/requant")

matrix: build        ## the same integers from every kernel and model at every RQ_CPU level, and on arm64 where build-arm64 is there; into docs/results.md
	@python3 tests/determinism/matrix.py --write docs/results.md $(BUILD) $(ARM64_MATRIX)
ARM64_MATRIX = $(if $(wildcard build-arm64/tests/kernel_rows),build-arm64 qemu-aarch64 -L $${RQ_ARM64_SYSROOT:-build-arm64-sysroot})

GOLDEN ?= tests/golden
golden: build        ## compare with a set of golden data: make golden GOLDEN=DIR
	@$(BUILD)/tests/golden $(GOLDEN)

ONNX_TESTS ?=
onnx-tests: build    ## ONNX's own test cases; one folder of them: make onnx-tests ONNX_TESTS=DIR
	@python3 tests/onnx/run.py $(abspath $(BUILD)) $(ONNX_TESTS)

light: all           ## ONNX's nine light_* networks: run, compare, quantize; a table
	@python3 tests/onnx/light.py $(abspath $(BUILD))

transcripts: all     ## compare the command line's transcripts and README.md's table; UPDATE=1 rewrites them
	@tests/cli/run.sh $(BUILD)/requant $(if $(UPDATE),--update)
	@tools/readme.sh $(abspath $(BUILD))/requant $(if $(UPDATE),--update)

install: all         ## PREFIX=/usr/local
	cmake --install $(BUILD) --prefix $(PREFIX)

clean:               ## remove the build folders
	rm -rf build build-*/

help:
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14
