# Attaché: one Makefile, non-recursive. `make help` lists the targets.
#
#   make                     the proxy: build/attache
#   make unit UNIT=base/     the unit tests whose path contains that, in this MODE
#   make MODE=asan ...       release (default), debug, asan (ASan + UBSan), tsan, fuzz (clang)
#   make V=1                 prints every command
#
# New files need no line here: sources, protos, unit tests, fuzz targets and suites are found by their
# place. A folder that needs a rule of its own has a module.mk. What the machine must have is
# checked, and where possible installed, by tools/deps before anything is built.

MODE    ?= release
BUILD   ?= build
OUT     := $(BUILD)/$(MODE)
ifeq ($(origin CC),default)
CC      := gcc
endif
ifeq ($(origin CXX),default)
CXX     := g++
endif
ifeq ($(MODE),fuzz) # libFuzzer is clang's, whatever the environment says
CC      := $(if $(findstring clang,$(CC)),$(CC),$(filter ccache,$(CC)) clang)
CXX     := $(if $(findstring clang,$(CXX)),$(CXX),$(filter ccache,$(CXX)) clang++)
endif
AR      := gcc-ar
DEPS    := $(or $(ATTACHE_DEPS),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/attache)
BORINGSSL := $(DEPS)/boringssl
PYTHON    := $(DEPS)/venv/bin/python
# the pytest suites and the tools find the same environment by this
export ATTACHE_DEPS := $(DEPS)

ifeq ($(V),1)
Q :=
else
Q := @
endif

LAYERS := base api-protos xds tls cluster proxy

.PHONY: all
all: $(OUT)/attache ## build the proxy: build/attache
ifeq ($(MODE),release)
	@ln -sfn release/attache $(BUILD)/attache
endif

# --- what the machine must have ----------------------------------------------------------------
# Before the rules, because some of them are written from what is found. Each goal names the group it
# needs; the heaviest wins. A make started by another one (tools/test-report) does not ask again.
GOALS      := $(or $(MAKECMDGOALS),all)
DEPS_NONE  := clean help
DEPS_DEMO  := demo
DEPS_BENCH := bench bench-connections bench-latency
DEPS_CONFORMANCE := conformance deps
DEPS_BUILD := all init $(OUT)/attache
DEPS_GROUP := $(or $(if $(filter $(DEPS_CONFORMANCE),$(GOALS)),conformance),$(if $(filter \
              $(DEPS_BENCH),$(GOALS)),bench),$(if $(filter-out $(DEPS_NONE) $(DEPS_BUILD) \
              $(DEPS_DEMO),$(GOALS)),test),$(if $(filter $(DEPS_DEMO),$(GOALS)),demo),$(if \
              $(filter $(DEPS_BUILD),$(GOALS)),build))
ifneq ($(DEPS_GROUP),)
ifneq ($(ATTACHE_DEPS_CHECKED),1)
$(shell tools/deps $(DEPS_GROUP) >&2)
ifneq ($(.SHELLSTATUS),0)
$(error what is missing is named above)
endif
export ATTACHE_DEPS_CHECKED := 1
endif
endif

# --- flags ---------------------------------------------------------------------------------
IS_CLANG := $(findstring clang,$(shell $(CC) --version 2>/dev/null | head -1))
WARN     := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla \
            -Wno-unused-parameter -Wno-missing-field-initializers
HARDEN   := -fstack-protector-strong -fstack-clash-protection -fno-strict-aliasing -fno-common -fPIE
CPPFLAGS += -I. -I$(OUT)/gen -I$(BUILD)/gen -isystem $(BORINGSSL)/include -D_GNU_SOURCE
CFLAGS   := -std=c17 $(WARN) $(HARDEN) -g -MMD -MP
CXXFLAGS := -std=c++17 -Wall -Wextra -Werror -fno-exceptions $(HARDEN) -g -MMD -MP
LDFLAGS  := -pie -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--as-needed
SANITIZE :=
ifeq ($(MODE),release)
OPT      := -O2 -D_FORTIFY_SOURCE=2
# fat objects: the proxy is linked with LTO, the many unit tests without (it would take minutes)
LTO      := $(if $(IS_CLANG),,-flto=auto)
CFLAGS   += $(if $(LTO),$(LTO) -ffat-lto-objects)
else ifeq ($(MODE),debug)
OPT      := -O0 -DATTACHE_TEST_HOOKS
else ifeq ($(MODE),asan)
OPT      := -O1 -fno-omit-frame-pointer -DATTACHE_TEST_HOOKS
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all
else ifeq ($(MODE),tsan)
OPT      := -O1 -fno-omit-frame-pointer -DATTACHE_TEST_HOOKS
SANITIZE := -fsanitize=thread
else ifeq ($(MODE),fuzz)
OPT      := -O1 -fno-omit-frame-pointer -DATTACHE_TEST_HOOKS -fprofile-instr-generate -fcoverage-mapping
SANITIZE := -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=all
else
$(error MODE must be release, debug, asan, tsan or fuzz)
endif
CFLAGS   += $(OPT) $(SANITIZE)
CXXFLAGS += $(OPT) $(SANITIZE)
LDFLAGS  += $(OPT) $(SANITIZE)

LIBS_base       := -levent_core -lre2 -lyaml -lxxhash -lstdc++ -lpthread -lm
LIBS_api-protos := -lprotobuf-c
LIBS_xds        := -lgrpc_unsecure -lgpr
LIBS_tls        := $(BORINGSSL)/lib/libssl.a $(BORINGSSL)/lib/libcrypto.a
LIBS_cluster    := -lcares
LIBS_proxy      := -lnghttp2 -lz -lbrotlienc -lbrotlidec -lzstd

include $(foreach l,$(LAYERS),$(wildcard $(l)/module.mk))
include $(wildcard test/module.mk deploy/module.mk tools/module.mk test/*/module.mk)

# Objects depend on this file, which is written anew only when compiler or flags change.
FLAGS := $(OUT)/.flags
FLAGS_TEXT := $(CC) $(CXX) $(CPPFLAGS) $(CFLAGS) $(CXXFLAGS)
ifneq ($(DEPS_GROUP),)
ifneq ($(FLAGS_TEXT),$(file < $(FLAGS)))
$(shell mkdir -p $(OUT))
$(file > $(FLAGS),$(FLAGS_TEXT))
endif
endif
$(FLAGS): ;

# --- one static archive a folder -------------------------------------------------------------
# sources of layer $(1): every .c and .cc below it (generated ones come from GEN_OBJ_$(1))
define LAYER
SRC_$(1)  := $$(filter-out %/main.c,$$(shell test -d $(1) && find $(1) -name '*.c' -o -name '*.cc' | sort))
OBJ_$(1)  := $$(patsubst %,$(OUT)/obj/%.o,$$(basename $$(SRC_$(1)))) $$(GEN_OBJ_$(1))
$(OUT)/lib$(1).a: $$(OBJ_$(1))
	@echo "  AR    $$@"
	$$(Q)mkdir -p $$(dir $$@) && rm -f $$@ && $$(AR) rcs $$@ $$^
endef
$(foreach l,$(LAYERS),$(eval $(call LAYER,$(l))))

$(OUT)/obj/%.o: %.c $(FLAGS) | $(GEN_READY)
	@mkdir -p $(dir $@)
	@echo "  CC    $<"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<
$(OUT)/obj/%.o: %.cc $(FLAGS)
	@mkdir -p $(dir $@)
	@echo "  CXX   $<"
	$(Q)$(CXX) $(CPPFLAGS) $(CXXFLAGS) -c -o $@ $<

# archives and libraries visible to layer $(1), highest first
UPTO_base       := base
UPTO_api-protos := api-protos base
UPTO_xds        := xds api-protos base
UPTO_tls        := tls xds api-protos base
UPTO_cluster    := cluster tls xds api-protos base
UPTO_proxy      := proxy cluster tls xds api-protos base
archives = $(foreach l,$(UPTO_$(1)),$(OUT)/lib$(l).a)
libs     = $(foreach l,$(UPTO_$(1)),$(LIBS_$(l)))

$(OUT)/attache: $(OUT)/obj/proxy/main.o $(call archives,proxy)
	@echo "  LD    $@"
	$(Q)$(CC) $(LDFLAGS) $(LTO) -o $@ $< -Wl,--start-group $(call archives,proxy) -Wl,--end-group $(call libs,proxy)

# --- unit tests: test/unit/<layer>/**/X_test.c, each linked with its layer and those below -----
# What several tests share is test/support/*.c (an ordinary archive, taken member by member).
SUPPORT_OBJ := $(patsubst %.c,$(OUT)/obj/%.o,$(wildcard test/support/*.c))
$(OUT)/libsupport.a: $(SUPPORT_OBJ)
	$(Q)mkdir -p $(dir $@) && rm -f $@ && $(AR) rcs $@ $^
UNIT_SRC := $(shell find test/unit -name '*_test.c' 2>/dev/null | sort)
UNIT_BIN := $(patsubst test/unit/%.c,$(OUT)/unit/%,$(UNIT_SRC))
define UNIT_RULES
UNIT_SRC_$(1) := $$(filter test/unit/$(1)/%,$$(UNIT_SRC))
$$(patsubst test/unit/%.c,$(OUT)/unit/%,$$(UNIT_SRC_$(1))): $(OUT)/unit/%: $(OUT)/obj/test/unit/%.o $(OUT)/libsupport.a $$(call archives,$(1))
	@mkdir -p $$(dir $$@)
	@echo "  LD    $$@"
	$$(Q)$$(CC) $$(LDFLAGS) -o $$@ $$< $(OUT)/libsupport.a -Wl,--whole-archive $$(call archives,$(1)) -Wl,--no-whole-archive -lcheck -lsubunit -lrt $$(call libs,$(1))
endef
$(foreach l,$(LAYERS),$(eval $(call UNIT_RULES,$(l))))

# --- fuzz targets: test/fuzz/X_fuzz.c, libFuzzer ---------------------------------------------------
# Each says `covers: path`, and is linked with that path's layer and those below.
FUZZ_SRC := $(wildcard test/fuzz/*_fuzz.c)
FUZZ_BIN := $(patsubst test/fuzz/%.c,$(BUILD)/fuzz/%,$(FUZZ_SRC))
FUZZ_SECONDS ?= 60
fuzz_layer = $(lastword base $(filter $(shell sed -n 's,.*covers: *\([a-z-]*\)/.*,\1,p' $(1)),$(LAYERS)))
define FUZZ_RULES
$(OUT)/$(1): $(OUT)/obj/test/fuzz/$(1).o $(OUT)/libsupport.a $(call archives,$(2))
	@echo "  LD    $$@"
	$$(Q)$$(CC) $$(LDFLAGS) -fsanitize=fuzzer -o $$@ $$< $(OUT)/libsupport.a -Wl,--start-group $(call archives,$(2)) -Wl,--end-group $(call libs,$(2))
endef
ifeq ($(MODE),fuzz)
$(foreach f,$(FUZZ_SRC),$(eval $(call FUZZ_RULES,$(basename $(notdir $(f))),$(call fuzz_layer,$(f)))))
endif

# --- what people type -----------------------------------------------------------------------------
UNIT ?=
UNIT_RUN := $(foreach b,$(UNIT_BIN),$(if $(UNIT),$(foreach u,$(UNIT),$(if $(findstring $(u),$(b)),$(b))),$(b)))
.PHONY: unit asan tsan e2e lint check-layers test demo bench race fuzz fuzz-build conformance soak format
unit: $(UNIT_RUN) ## unit tests in this MODE; UNIT=part-of-a-path chooses
	$(Q)tools/run-unit $(UNIT_RUN)
asan: ## unit tests under ASan and UBSan
	$(Q)$(MAKE) --no-print-directory MODE=asan unit
# gRPC and BoringSSL are not instrumented: only what does not run them is worth a TSan run.
TSAN_UNIT := unit/base/ unit/cluster/ unit/proxy/worker unit/proxy/server unit/proxy/observe/log_
tsan: ## unit tests of threads, mailboxes, shared counters under ThreadSanitizer
	$(Q)$(MAKE) --no-print-directory MODE=tsan UNIT="$(or $(UNIT),$(TSAN_UNIT))" unit
e2e: ## end-to-end tests against the ASan binary; E2E='-k name' chooses
	$(Q)$(MAKE) --no-print-directory MODE=asan all
	$(Q)ATTACHE_BIN=$(CURDIR)/$(BUILD)/asan/attache ATTACHE_INIT=$(CURDIR)/$(BUILD)/asan/attache-init $(PYTHON) -m pytest test/e2e $(E2E)
lint: ## style: format, sizes, banned calls, comments, paths
	$(Q)tools/lint
check-layers: $(foreach l,$(LAYERS),$(OUT)/lib$(l).a) ## no layer reaches upwards, no library leaves its place
	$(Q)tools/check-layers --archives $(OUT)
test: ## everything that must pass before a commit lands; prints `N passed, N failed`
	$(Q)tools/test-report
demo: all ## three pods, a control plane, mTLS, splits, retries: see it work (KEEP=1 leaves it running)
	$(Q)tools/demo/run
bench: ## CPU per request and memory beside Envoy, nginx and HAProxy (BENCH_ARGS)
	$(Q)test/bench/run
fuzz-build: $(FUZZ_BIN)
fuzz: ## every fuzz target for FUZZ_SECONDS (60), and the coverage of its corpus
	$(Q)$(MAKE) --no-print-directory MODE=fuzz fuzz-build
	$(Q)tools/fuzz run $(FUZZ) --seconds $(FUZZ_SECONDS)
conformance: all ## the suites of other people, into docs/conformance.md (CONFORMANCE=part)
	$(Q)test/conformance/run $(CONFORMANCE)
race: bench-proxy ## 10^6 requests against upstreams that close idle connections (RACE_ARGS)
	$(Q)$(PYTHON) test/bench/race.py $(RACE_ARGS)
soak: all ## hours of load with faults (SOAK_SECONDS)
	$(Q)test -x test/soak/run || { echo "there is no soak test here yet"; exit 1; }
	$(Q)test/soak/run
format: ## clang-format over the C and C++ sources
	$(Q)tools/lint --fix format

.PHONY: deps clean help
deps: ## install and build everything any target needs
	@echo "all there, in $(DEPS)"
clean: ## remove build/
	rm -rf $(BUILD)
help: ## this list
	@grep -hE '^[a-zA-Z0-9_.-]+:.*## ' Makefile $(wildcard */module.mk */*/module.mk) | \
	  sed -E 's/:.*## /\t/' | sort -u | awk -F'\t' '{printf "  %-14s %s\n", $$1, $$2}'

-include $(shell find $(OUT)/obj -name '*.d' 2>/dev/null)
