# `make demo` and `make test` set up all they need themselves: see scripts/setup.
.PHONY: build build-release release plugin install demo vm-demo test build-tests test-swift test-outside test-chart chaos fuzz bench format lint generate clean setup

sources := Package.swift Sources Tests Benchmarks Fuzz

setup:
	@scripts/setup

build: setup
	swift build

build-release: setup
	@$(MAKE) --no-print-directory release

# The plugin as users run it: one static executable, Embedded Swift upon musl, which starts as fast as C. In every other build
# the same sources are ordinary Swift.
machine = $(shell uname -m)
embedded = $(shell swiftc -print-target-info | sed -n 's/.*"runtimeResourcePath": "\(.*\)".*/\1/p')/embedded
plugin = -Xswiftc -enable-experimental-feature -Xswiftc Embedded \
	-Xswiftc -Xcc -Xswiftc -isystem -Xswiftc -Xcc -Xswiftc /usr/include/$(machine)-linux-musl \
	-Xswiftc -Xclang-linker -Xswiftc -static -Xswiftc -Xclang-linker -Xswiftc -nostdlib \
	$(addprefix -Xlinker ,-L$(embedded)/$(machine)-unknown-linux-gnu -lswiftUnicodeDataTables \
	$(addprefix /usr/lib/$(machine)-linux-musl/,crt1.o libc.a))

# `release` and `plugin` are without the setup: in a container's build, for one.
release: plugin
	swift build -c release

plugin:
	swift build -c release --product holdfast-cni --scratch-path .build-static $(plugin)

# After `make build-release`, as whoever may write there.
PREFIX ?= /usr/local
CNI_BIN ?= /opt/cni/bin
install:
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(CNI_BIN)
	install $(addprefix .build/release/,holdfast-server holdfast-agent holdfast) $(DESTDIR)$(PREFIX)/bin
	install .build-static/release/holdfast-cni $(DESTDIR)$(CNI_BIN)

# The product's story on this machine, told in a few seconds. The demos and the tests share a build: a release build takes
# longer, most of it for the libraries.
demo: build plugin
	@scripts/demo

# Real guests in QEMU: DHCP, power off and on, live migration; minutes.
vm-demo: build plugin
	@scripts/vm-demo

test: setup
	@scripts/test

build-tests: setup
	swift build --build-tests

test-swift: build-tests
	swift test --skip-build --no-parallel

# The faults of several servers, the long form: half an hour.
chaos: build-tests
	HOLDFAST_CHAOS_KILLS=200 HOLDFAST_CHAOS_CUTS=10 swift test --skip-build --no-parallel \
		--filter 'FaultTests|CutTests|ClockTests'

# libFuzzer on what reads bytes from outside: FUZZ_SECONDS (600) for each of some thirty readers.
fuzz: setup
	scripts/fuzz

test-outside: build plugin
	HOLDFAST_BIN=.build/debug .venv/bin/python -m pytest Tests/outside

# The chart as Helm renders it, and the image.
test-chart: build
	HOLDFAST_BIN=.build/debug .venv/bin/python -m pytest Tests/chart

bench: build-release
	.build/release/holdfast-bench server --server .build/release/holdfast-server
	.build/release/holdfast-bench node --server .build/release/holdfast-server --agent .build/release/holdfast-agent \
		--plugin .build-static/release/holdfast-cni
	.build/release/holdfast-bench-etcd --server .build/release/holdfast-server --bindings 1000000

format:
	swift format -i -r $(sources)

lint: setup
	swift format lint --strict -r $(sources)
	.venv/bin/hadolint Dockerfile

generate: setup
	scripts/generate
	.venv/bin/python Tests/chart/values_table.py
	swift build
	scripts/reference

clean:
	rm -rf .build .build-* .venv
