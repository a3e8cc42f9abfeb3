# deploy: programs that stand beside the proxy.

# The init container's program. It links three objects of base and no library but libc.
INIT_OBJ := $(patsubst %.c,$(OUT)/obj/%.o,$(sort $(wildcard deploy/init/*.c))) \
            $(addprefix $(OUT)/obj/base/,alloc.o str.o arena.o)

$(OUT)/attache-init: $(INIT_OBJ)
	@echo "  LD    $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^

.PHONY: init
init: $(OUT)/attache-init ## build the iptables program of the init container

all: $(OUT)/attache-init
