# The generated half of api-protos: every api-protos/**/*.proto becomes a pair of files below
# $(BUILD)/gen with protoc-c, and gen/pb_descriptors.c lists all messages.
PROTOS  := $(shell cd api-protos && find . -name '*.proto' | sed 's,^\./,,' | sort)
GEN     := $(BUILD)/gen
GEN_PBC := $(PROTOS:%.proto=$(GEN)/%.pb-c.c)
GEN_PBH := $(PROTOS:%.proto=$(GEN)/%.pb-c.h)

GEN_READY          := $(GEN_PBH)
GEN_OBJ_api-protos := $(PROTOS:%.proto=$(OUT)/obj/gen/%.pb-c.o) $(OUT)/obj/gen/pb_descriptors.o

$(GEN)/%.pb-c.c $(GEN)/%.pb-c.h: api-protos/%.proto
	@mkdir -p $(GEN)
	$(Q)protoc-c -Iapi-protos --c_out=$(GEN) $<

$(GEN)/pb_descriptors.c: $(GEN_PBH) api-protos/list-descriptors
	$(Q)api-protos/list-descriptors $(GEN) $(PROTOS) > $@.tmp && mv $@.tmp $@

$(OUT)/obj/gen/%.o: $(GEN)/%.c | $(GEN_READY)
	@mkdir -p $(dir $@)
	@echo "  CC    $<"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -ffunction-sections -c -o $@ $<

.PRECIOUS: $(GEN)/%.pb-c.c $(GEN)/%.pb-c.h

.PHONY: protos-table
protos-table: ## write api-protos/official_table.c again (needs PyPI xds-protos: PROTOS_PYTHON=...)
	$(Q)$(PROTOS_PYTHON) tools/protos/gen_table.py
PROTOS_PYTHON ?= $(DEPS)/venv/bin/python
