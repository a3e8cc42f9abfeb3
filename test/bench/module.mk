# The bench: its tools stand alone and link nothing of the proxy. They are always built optimised,
# whatever MODE says, because they are the measure; and so is the proxy that is measured.

BENCH_OUT    := $(BUILD)/bench
BENCH_TOOLS  := $(addprefix $(BENCH_OUT)/,forwarder origin load lockstep)
BENCH_CFLAGS := -std=c17 $(WARN) $(HARDEN) -D_FORTIFY_SOURCE=2 -O2 -g -I. -D_GNU_SOURCE

$(BENCH_OUT)/%: test/bench/%.c test/bench/wire.c test/bench/wire.h test/bench/module.mk
	@mkdir -p $(@D)
	@echo "  CC    $@"
	$(Q)$(CC) $(BENCH_CFLAGS) -pie -o $@ $< test/bench/wire.c

.PHONY: bench-connections bench-latency bench-tools bench-proxy instructions instructions-record
bench-tools: $(BENCH_TOOLS)
bench-proxy:
	$(Q)$(MAKE) --no-print-directory MODE=release all
bench: bench-tools bench-proxy
bench-connections: bench-proxy ## memory of 10,000 idle HTTP/1.1, HTTP/2 and event stream connections
	$(Q)$(PYTHON) test/bench/held.py --build $(BUILD) $(BENCH_ARGS)
bench-latency: bench-proxy ## what an event of a stream takes through the proxy
	$(Q)$(PYTHON) test/bench/latency.py --build $(BUILD) $(BENCH_ARGS)
instructions: bench-tools bench-proxy ## instructions a request, against test/bench/instructions.json
	$(Q)$(PYTHON) test/bench/instr/measure.py --build $(BUILD)
instructions-record: bench-tools bench-proxy ## writes that record (commit it alone)
	$(Q)$(PYTHON) test/bench/instr/measure.py --build $(BUILD) --repeat 3 --update

# Look-ups in route tables and choices of hosts, in the proxy's own code: linked with it as it is
# released.
BENCH_LAYERS := $(foreach l,proxy cluster tls xds api-protos base,$(OUT)/lib$(l).a)
$(OUT)/bench/routes $(OUT)/bench/pick: $(OUT)/bench/%: $(OUT)/obj/test/bench/%.o $(BENCH_LAYERS)
	@mkdir -p $(@D)
	@echo "  LD    $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $< -Wl,--start-group $(BENCH_LAYERS) -Wl,--end-group $(call libs,proxy)

.PHONY: bench-pick bench-routes
bench: bench-pick bench-routes
bench-pick: ## what choosing a host costs, for every balancer
	$(Q)$(MAKE) --no-print-directory MODE=release $(BUILD)/release/bench/pick
	$(Q)$(BUILD)/release/bench/pick
bench-routes: ## what a look-up among many virtual hosts or routes costs against one among few
	$(Q)$(MAKE) --no-print-directory MODE=release $(BUILD)/release/bench/routes
	$(Q)$(BUILD)/release/bench/routes
