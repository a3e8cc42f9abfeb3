# The driver of the tests that compare api-protos with the official Python implementation.
$(OUT)/protos-tool: $(OUT)/obj/test/protos/protos_tool.o $(OUT)/libapi-protos.a $(OUT)/libbase.a
	@echo "  LD    $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $< -Wl,--start-group $(call archives,api-protos) -Wl,--end-group $(call libs,api-protos)

.PHONY: protos-tool
protos-tool: $(OUT)/protos-tool
