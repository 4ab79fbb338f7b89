# mvm: everything is built out of tree, in build/<variant>. `make help` lists the targets.
VARIANT ?= release
B := build/$(VARIANT)
PREFIX ?= /usr/local
DESTDIR ?=
V ?= 0
Q := $(if $(filter 1,$(V)),,@)
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

WARN := -Wall -Wextra -Wshadow -Wconversion -Wvla -Wundef -Wformat=2 -Wcast-qual -Wstrict-prototypes \
	-Wmissing-prototypes -Wimplicit-fallthrough -Wswitch-enum $(if $(WERROR),-Werror)
HARDEN := -fstack-protector-strong -fstack-clash-protection -fcf-protection=full -fno-plt
LDHARDEN := -Wl,-z,relro,-z,now,-z,noexecstack,-z,separate-code,--gc-sections
CPPFLAGS_ALL := -D_GNU_SOURCE -Iinclude -Ivmm -Ivmm/arch/x86_64 -Iguest -DMVM_PREFIX='"$(PREFIX)"'
CFLAGS_ALL := -std=gnu11 -O2 -g -fPIE -pthread -ffunction-sections -fdata-sections $(WARN) $(HARDEN) -D_FORTIFY_SOURCE=2
LDLIBS_VMM := -lfdt
LDLIBS_LIB := -ljson-c -lmd
STATIC := -static-pie
CC := gcc

ifeq ($(VARIANT),clang)
CC := clang
CFLAGS_ALL += -fno-sanitize=all
endif
ifeq ($(VARIANT),asan)
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
endif
ifeq ($(VARIANT),fuzz)
CC := clang
SANITIZE := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
endif
ifeq ($(VARIANT),coverage)
SANITIZE := --coverage
endif
ifdef SANITIZE
CFLAGS_ALL := $(filter-out -D_FORTIFY_SOURCE=2,$(CFLAGS_ALL)) $(SANITIZE)
STATIC := -pie
LDHARDEN += $(SANITIZE)
endif

VMM_SRC := $(filter-out vmm/main.c,$(wildcard vmm/*.c vmm/arch/x86_64/*.c vmm/virtio/*.c vmm/dev/*.c))
SUP_SRC := $(wildcard vmm/lib/supervisor*.c)
LIB_SRC := $(filter-out $(SUP_SRC),$(wildcard vmm/lib/*.c)) guest/proto.c
CLI_SRC := $(wildcard tools/mvm/*.c)
AGENT_SRC := $(wildcard guest/*.c)
obj = $(patsubst %.c,$(B)/%.o,$(1))

BINS := $(B)/mvm $(B)/mvm-supervisor $(B)/mvm-vmm
all: $(BINS) $(B)/agent.cpio ## build every program

$(B)/%.o: %.c
	@mkdir -p $(@D); [ $(V) = 1 ] || echo "  CC    $<"
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(CFLAGS) -MMD -MP -c -o $@ $<

$(B)/libvmm.a: $(call obj,$(VMM_SRC))
	$(Q)rm -f $@; ar rcs $@ $^
$(B)/libmvm.a: $(call obj,$(LIB_SRC))
	$(Q)rm -f $@; ar rcs $@ $^

$(B)/mvm-vmm: $(call obj,vmm/main.c) $(B)/libvmm.a
	@[ $(V) = 1 ] || echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS_ALL) $(STATIC) $(LDHARDEN) $(LDFLAGS) -o $@ $^ $(LDLIBS_VMM)
$(B)/mvm-supervisor: $(call obj,$(SUP_SRC)) $(B)/libmvm.a
	@[ $(V) = 1 ] || echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS_ALL) $(STATIC) $(LDHARDEN) $(LDFLAGS) -o $@ $^ $(LDLIBS_LIB)
$(B)/mvm: $(call obj,$(CLI_SRC)) $(B)/libmvm.a
	@[ $(V) = 1 ] || echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS_ALL) -pie $(LDHARDEN) $(LDFLAGS) -o $@ $^ $(LDLIBS_LIB)

# The agent: static, musl, nothing in the rootfs is needed or trusted.
AGENT_CFLAGS := -std=gnu11 -Os -g -fPIE -ffunction-sections -fdata-sections $(WARN) -fstack-protector-strong -fno-plt \
	-isystem build/musl-kernel-headers
build/musl-kernel-headers:
	@mkdir -p $@
	$(Q)ln -sfn /usr/include/linux $@/linux; ln -sfn /usr/include/asm-generic $@/asm-generic; \
	ln -sfn /usr/include/$$(gcc -print-multiarch)/asm $@/asm
$(B)/mvm-agent: $(AGENT_SRC) $(wildcard guest/*.h include/mvm/*.h) | build/musl-kernel-headers
	@mkdir -p $(@D); [ $(V) = 1 ] || echo "  CC    $@"
	$(Q)musl-gcc -D_GNU_SOURCE -Iinclude -Iguest $(AGENT_CFLAGS) -static-pie $(filter-out --coverage -fsanitize%,$(LDHARDEN)) -o $@ $(AGENT_SRC)
$(B)/agent.cpio: $(B)/mvm-agent
	$(Q)d=$$(mktemp -d); trap 'rm -rf "$$d"' EXIT; strip -o "$$d/init" $<; touch -d @0 "$$d/init"; \
	(cd "$$d" && echo init | cpio --quiet -o -H newc --owner 0:0 --reproducible) > $@

-include $(shell find $(B) -name '*.d' 2>/dev/null)
.PHONY: all
