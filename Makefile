# Attaché: one Makefile, non-recursive. `make help` lists the targets.
#
# MODE selects the build: release (default), debug, asan (ASan + UBSan), tsan.
# V=1 prints every command.

MODE    ?= release
BUILD   ?= build
OUT     := $(BUILD)/$(MODE)
CC      ?= gcc
CXX     ?= g++
AR      := gcc-ar
DEPS    ?= $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/attache
BORINGSSL := $(DEPS)/boringssl

ifeq ($(V),1)
Q :=
else
Q := @
endif

LAYERS := base api-protos xds tls cluster proxy

# --- flags ---------------------------------------------------------------------------------
WARN     := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla \
            -Wno-unused-parameter -Wno-missing-field-initializers
HARDEN   := -fstack-protector-strong -fno-strict-aliasing -fno-common -fPIE
CPPFLAGS += -I. -I$(OUT)/gen -I$(BUILD)/gen -isystem $(BORINGSSL)/include -D_GNU_SOURCE
CFLAGS   := -std=c17 $(WARN) $(HARDEN) -g -MMD -MP
CXXFLAGS := -std=c++17 -Wall -Wextra -Werror -fno-exceptions -fPIE -g -MMD -MP
LDFLAGS  := -pie -Wl,-z,relro,-z,now -Wl,--as-needed
ifeq ($(MODE),release)
CFLAGS   += -O2 -D_FORTIFY_SOURCE=2 -flto=auto -ffat-lto-objects
LDFLAGS  += -O2 -flto=auto
else ifeq ($(MODE),debug)
CFLAGS   += -O0 -DATTACHE_TEST_HOOKS
else ifeq ($(MODE),asan)
CFLAGS   += -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all -DATTACHE_TEST_HOOKS
CXXFLAGS += -fsanitize=address,undefined
LDFLAGS  += -fsanitize=address,undefined
else ifeq ($(MODE),tsan)
CFLAGS   += -O1 -fno-omit-frame-pointer -fsanitize=thread -DATTACHE_TEST_HOOKS
CXXFLAGS += -fsanitize=thread
LDFLAGS  += -fsanitize=thread
else
$(error MODE must be release, debug, asan or tsan)
endif

LIBS_base       := -levent_core -lre2 -lyaml -lxxhash -lstdc++ -lpthread -lm
LIBS_api-protos := -lprotobuf-c
LIBS_xds        := -lgrpc_unsecure -lgpr
LIBS_tls        := $(BORINGSSL)/lib/libssl.a $(BORINGSSL)/lib/libcrypto.a
LIBS_cluster    := -lcares
LIBS_proxy      := -lnghttp2

.PHONY: all
all: $(OUT)/attache ## build the proxy (build/release/attache)

include $(foreach l,$(LAYERS),$(wildcard $(l)/module.mk))
include $(wildcard test/module.mk deploy/module.mk tools/module.mk)

# --- one static archive a folder -------------------------------------------------------------
# sources of layer $(1): every .c and .cc below it (generated ones come from GEN_$(1))
define LAYER
SRC_$(1)  := $$(filter-out %/main.c,$$(shell find $(1) -name '*.c' -o -name '*.cc' | sort))
OBJ_$(1)  := $$(patsubst %,$(OUT)/obj/%.o,$$(basename $$(SRC_$(1)))) $$(GEN_OBJ_$(1))
$(OUT)/lib$(1).a: $$(OBJ_$(1))
	@echo "  AR    $$@"
	$$(Q)rm -f $$@ && $$(AR) rcs $$@ $$^
endef
$(foreach l,$(LAYERS),$(eval $(call LAYER,$(l))))

$(OUT)/obj/%.o: %.c | $(GEN_READY)
	@mkdir -p $(dir $@)
	@echo "  CC    $<"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<
$(OUT)/obj/%.o: %.cc
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
	$(Q)$(CC) $(LDFLAGS) -o $@ $< -Wl,--start-group $(call archives,proxy) -Wl,--end-group $(call libs,proxy)

# --- unit tests: test/unit/<layer>/**/X_test.c, each linked with its layer and those below -----
UNIT_SRC := $(shell find test/unit -name '*_test.c' | sort)
UNIT_BIN := $(patsubst test/unit/%.c,$(OUT)/unit/%,$(UNIT_SRC))
define UNIT
UNIT_SRC_$(1) := $$(filter test/unit/$(1)/%,$$(UNIT_SRC))
$$(patsubst test/unit/%.c,$(OUT)/unit/%,$$(UNIT_SRC_$(1))): $(OUT)/unit/%: $(OUT)/obj/test/unit/%.o $$(call archives,$(1))
	@mkdir -p $$(dir $$@)
	@echo "  LD    $$@"
	$$(Q)$$(CC) $$(LDFLAGS) -o $$@ $$< -Wl,--whole-archive $$(call archives,$(1)) -Wl,--no-whole-archive $$(call libs,$(1)) -lcheck -lsubunit -lrt -lpthread -lm
endef
$(foreach l,$(LAYERS),$(eval $(call UNIT,$(l))))

.PHONY: unit
unit: $(UNIT_BIN) ## build and run the unit tests in this MODE
	$(Q)tools/run-unit $(UNIT_BIN)

.PHONY: clean help
clean: ## remove build/
	rm -rf $(BUILD)
help: ## this list
	@grep -hE '^[a-zA-Z0-9_.-]+:.*## ' Makefile $(wildcard */module.mk) | sed -E 's/:.*## /\t/' | sort | awk -F'\t' '{printf "  %-14s %s\n", $$1, $$2}'

-include $(shell find $(OUT)/obj -name '*.d' 2>/dev/null)
