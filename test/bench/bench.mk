# The bench: its tools stand alone and link nothing of the proxy. They are always built optimised,
# whatever MODE says, because they are the measure; and so is the proxy that is measured.

BENCH_OUT     := $(BUILD)/bench
BENCH_TOOLS   := $(addprefix $(BENCH_OUT)/,forwarder origin load lockstep)
BENCH_CFLAGS  := -std=c17 $(WARN) $(HARDEN) -D_FORTIFY_SOURCE=2 -O2 -g -I. -D_GNU_SOURCE
BENCH_PYTHON  := $(firstword $(wildcard $(DEPS)/venv/bin/python) python3)
BENCH_ATTACHE := $(BUILD)/release/attache

$(BENCH_OUT)/%: test/bench/%.c test/bench/wire.c test/bench/wire.h test/bench/bench.mk
	@mkdir -p $(@D)
	@echo "  CC    $@"
	$(Q)$(CC) $(BENCH_CFLAGS) -pie -o $@ $< test/bench/wire.c

.PHONY: bench-tools bench-proxy bench instructions instructions-record
bench-tools: $(BENCH_TOOLS) ## build the bench's own programs

# the release build of the proxy, from any MODE; the bench says so if it is not there
bench-proxy:
	$(Q)$(if $(wildcard proxy/main.c),$(MAKE) --no-print-directory MODE=release $(BENCH_ATTACHE))

bench: bench-tools bench-proxy ## CPU a request: Attaché, a bare forwarder, Envoy, nginx, HAProxy; memory at rest
	$(Q)$(if $(wildcard tools/deps),tools/deps bench)
	$(Q)$(BENCH_PYTHON) test/bench/run.py --build $(BUILD) --deps $(DEPS) $(BENCH_ARGS)

instructions: bench-tools bench-proxy ## instructions a request against test/bench/instructions.json
	$(Q)$(BENCH_PYTHON) test/bench/instr/measure.py --build $(BUILD)

instructions-record: bench-tools bench-proxy ## write that record (commit it alone)
	$(Q)$(BENCH_PYTHON) test/bench/instr/measure.py --build $(BUILD) --repeat 3 --update
