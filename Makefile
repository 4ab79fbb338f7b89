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
CPPFLAGS_ALL := -D_GNU_SOURCE -Iinclude -Ivmm -Ivmm/arch/x86_64 -Iguest -Itests/unit -DMVM_PREFIX='"$(PREFIX)"'
CFLAGS_ALL := -std=gnu11 -O2 -g -fPIE -pthread -ffunction-sections -fdata-sections $(WARN) $(HARDEN) -D_FORTIFY_SOURCE=3
LDLIBS_VMM := -lfdt
LDLIBS_LIB := -ljson-c -lmd -lseccomp -lcap -lsodium
STATIC := -static-pie
CC := gcc

ifeq ($(VARIANT),clang)
CC := clang
CFLAGS_ALL += -fno-sanitize=all
endif
ifeq ($(VARIANT),asan)
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
# What the sanitizers' run-time cannot live with, by name (vmm/jail/README.md).
CPPFLAGS_ALL += -DJAIL_OMIT_ROOT -DJAIL_OMIT_ADDRESS_SPACE -DJAIL_OMIT_SECCOMP -DJAIL_OMIT_LANDLOCK
endif
ifeq ($(VARIANT),hooks)
CPPFLAGS_ALL += -DMVM_TEST_HOOKS
endif
ifeq ($(VARIANT),fuzz)
CC := clang
SANITIZE := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
endif
ifeq ($(VARIANT),coverage)
SANITIZE := --coverage
endif
ifeq ($(VARIANT),tsan)
SANITIZE := -fsanitize=thread -fno-omit-frame-pointer
endif
ifdef SANITIZE
CFLAGS_ALL := $(filter-out -D_FORTIFY_SOURCE=3,$(CFLAGS_ALL)) $(SANITIZE)
STATIC := -pie
LDHARDEN += $(SANITIZE)
endif

VMM_SRC := $(filter-out vmm/main.c,$(wildcard vmm/*.c vmm/arch/x86_64/*.c vmm/virtio/*.c vmm/dev/*.c))
VMM_SRC += vmm/jail/self.c vmm/jail/landlock.c
# The attacker of the escape suite, in that variant alone.
ESCAPE_TOOLS := $(B)/tests/escape/show $(B)/tests/escape/neighbour
ATTACK_SRC := $(filter-out $(ESCAPE_TOOLS:$(B)/%=%.c),$(wildcard tests/escape/*.c))
ifeq ($(VARIANT),hooks)
VMM_SRC += $(ATTACK_SRC)
all: $(ESCAPE_TOOLS)
endif
SUP_SRC := $(wildcard vmm/lib/supervisor*.c)
# mvm-net: what a test can do without a namespace of its own is in libmvm.a.
NET_SRC := $(addprefix vmm/uplink/,main.c space.c bridge.c watch.c watcher.c steward.c members.c names.c resolver.c proxy.c)
LIB_SRC := $(filter-out $(SUP_SRC),$(wildcard vmm/lib/*.c)) $(filter-out vmm/jail/self.c,$(wildcard vmm/jail/*.c)) \
	$(filter-out $(NET_SRC),$(wildcard vmm/uplink/*.c)) vmm/udp/flows.c $(addprefix vmm/bridge/,request.c policy.c) \
	$(addprefix guest/,proto.c failure.c tar_pax.c tar_reader.c tar_writer.c pack.c place.c unpack.c rtnl.c)
CLI_SRC := $(wildcard tools/mvm/*.c)
AGENT_SRC := $(wildcard guest/*.c)
obj = $(patsubst %.c,$(B)/%.o,$(1))

BINS := $(B)/mvm $(B)/mvm-supervisor $(B)/mvm-net $(B)/mvm-udp $(B)/mvm-bridge $(B)/mvm-vmm
LIBS := $(B)/lib/libmvm.a $(B)/lib/libmvm.so $(B)/lib/libmvm.pc
all: $(BINS) $(B)/agent.cpio $(if $(SANITIZE),,$(LIBS)) ## build every program and libmvm

$(B)/%.o: %.c
	@mkdir -p $(@D); [ $(V) = 1 ] || echo "  CC    $<"
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(CFLAGS) -MMD -MP -c -o $@ $<

$(B)/libvmm.a: $(call obj,$(VMM_SRC))
	$(Q)rm -f $@; ar rcs $@ $^
$(B)/libmvm.a: $(call obj,$(LIB_SRC))
	$(Q)rm -f $@; ar rcs $@ $^

# libmvm for other programs: beside what mvm.h declares, nothing of it can be seen, nor what only the supervisor uses.
$(call obj,$(LIB_SRC)): CFLAGS_ALL += -fPIC -fvisibility=hidden
$(call obj,$(LIB_SRC)): $(B)/prefix
LIBMVM := libmvm.so.0
LIBMVM_NEEDS := json-c libmd libsodium
$(B)/lib/libmvm.o: $(call obj,$(LIB_SRC))
	@mkdir -p $(@D)
	$(Q)ld -r --gc-sections --gc-keep-exported -o $@ $^; objcopy --localize-hidden --strip-unneeded $@
$(B)/lib/libmvm.a: $(B)/lib/libmvm.o
	$(Q)rm -f $@; ar rcs $@ $^
$(B)/lib/$(LIBMVM): $(B)/lib/libmvm.o vmm/lib/libmvm.map
	@[ $(V) = 1 ] || echo "  LD    $@"
	$(Q)$(CC) $(filter-out -fPIE,$(CFLAGS_ALL)) -shared $(LDHARDEN) $(LDFLAGS) -Wl,-z,defs,--as-needed,-soname,$(LIBMVM) \
		-Wl,--version-script,vmm/lib/libmvm.map -o $@ $< $(LDLIBS_LIB)
$(B)/lib/libmvm.so: $(B)/lib/$(LIBMVM)
	$(Q)ln -sfn $(LIBMVM) $@
$(B)/lib/libmvm.pc: vmm/lib/libmvm.pc.in include/mvm/version.h Makefile $(B)/prefix
	@mkdir -p $(@D)
	$(Q)sed 's|@PREFIX@|$(PREFIX)|; s|@REQUIRES@|$(LIBMVM_NEEDS)|; s|@VERSION@|'"$$(sed -n \
		's/#define MVM_VERSION "\(.*\)"/\1/p' include/mvm/version.h)|" $< >$@
# The library holds the prefix: what is to be installed elsewhere than the build before is made again.
$(B)/prefix: FORCE
	@mkdir -p $(@D); [ "$$(cat $@ 2>/dev/null)" = '$(PREFIX)' ] || echo '$(PREFIX)' >$@

$(B)/mvm-vmm: $(call obj,vmm/main.c) $(B)/libvmm.a
	@[ $(V) = 1 ] || echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS_ALL) $(STATIC) $(LDHARDEN) $(LDFLAGS) -o $@ $^ $(LDLIBS_VMM)
$(B)/mvm-supervisor: $(call obj,$(SUP_SRC)) $(B)/libmvm.a
	@[ $(V) = 1 ] || echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS_ALL) $(STATIC) $(LDHARDEN) $(LDFLAGS) -o $@ $^ $(LDLIBS_LIB)
$(B)/mvm-net: $(call obj,$(NET_SRC)) $(B)/libmvm.a
	@[ $(V) = 1 ] || echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS_ALL) $(STATIC) $(LDHARDEN) $(LDFLAGS) -o $@ $^ $(LDLIBS_LIB)
$(B)/mvm-udp: $(call obj,vmm/udp/main.c) $(B)/libmvm.a
	@[ $(V) = 1 ] || echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS_ALL) $(STATIC) $(LDHARDEN) $(LDFLAGS) -o $@ $^ $(LDLIBS_LIB)
$(B)/mvm-bridge: $(call obj,vmm/bridge/main.c vmm/bridge/link.c) $(B)/libmvm.a
	@[ $(V) = 1 ] || echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS_ALL) $(STATIC) $(LDHARDEN) $(LDFLAGS) -o $@ $^ -lseccomp -lcap
$(B)/mvm: $(call obj,$(CLI_SRC)) $(B)/libmvm.a
	@[ $(V) = 1 ] || echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS_ALL) -pie $(LDHARDEN) $(LDFLAGS) -o $@ $^ $(LDLIBS_LIB)

# The agent: static, musl, nothing in the rootfs is needed or trusted.
AGENT_CFLAGS := -std=gnu11 -Os -g -fPIE -ffunction-sections -fdata-sections $(WARN) $(HARDEN) \
	$(filter -DMVM_TEST_HOOKS,$(CPPFLAGS_ALL)) \
	-isystem build/musl-kernel-headers
# musl-gcc's specs know no -static-pie: rcrt1.o, which relocates itself, is named by hand.
MUSL := /usr/lib/$(shell uname -m)-linux-musl
AGENT_LDFLAGS := -static -nostartfiles -Wl,-pie,--no-dynamic-linker
build/musl-kernel-headers:
	@mkdir -p $@
	$(Q)ln -sfn /usr/include/linux $@/linux; ln -sfn /usr/include/asm-generic $@/asm-generic; \
	ln -sfn /usr/include/$$(gcc -print-multiarch)/asm $@/asm
$(B)/mvm-agent: $(AGENT_SRC) $(wildcard guest/*.h guest/arch/*.h include/mvm/*.h) Makefile | build/musl-kernel-headers
	@mkdir -p $(@D); [ $(V) = 1 ] || echo "  CC    $@"
	$(Q)musl-gcc -D_GNU_SOURCE -Iinclude -Iguest $(AGENT_CFLAGS) $(AGENT_LDFLAGS) $(filter-out --coverage -fsanitize%,$(LDHARDEN)) \
		-o $@ $(MUSL)/rcrt1.o $(MUSL)/crti.o $(AGENT_SRC) $(MUSL)/crtn.o
$(B)/agent.cpio: $(B)/mvm-agent
	$(Q)d=$$(mktemp -d); trap 'rm -rf "$$d"' EXIT; strip -o "$$d/init" $<; touch -d @0 "$$d/init"; \
	(cd "$$d" && echo init | cpio --quiet -o -H newc --owner 0:0 --reproducible) > $@

# ---- setting up, images, running -------------------------------------------------------------------
setup: ## install the Debian packages that are missing
	$(Q)tools/setup
kernel: ## the guest kernel, build/kernel/vmlinux
	$(Q)kernel-config/build --variant mvm
kernel-qemu: kernel ## its twin that QEMU's microvm machine boots too (bench)
	$(Q)kernel-config/build --variant qemu
kernel-bzimage: kernel ## the guest kernel as a bzImage (check-long)
	$(Q)kernel-config/build --variant bzimage
IMAGE := build/images/debian.img
IMAGE_PACKAGES := python3-minimal libpython3-stdlib vim-tiny fio procps iproute2 ncurses-bin attr redis-server iperf3 nginx-light
image: ## the Debian rootfs that demo and tests run
	$(Q)tools/image/debian $(IMAGE) 700 $(IMAGE_PACKAGES)
lab: ## a shell on an emulated machine with real KVM
	$(Q)tools/lab
demo: setup ## build everything and run a Python program in a microVM
	$(Q)$(MAKE) --no-print-directory all kernel image
	$(Q)tools/demo $(B)/mvm $(IMAGE)

# ---- tests -----------------------------------------------------------------------------------------
UNIT_HELPERS := $(filter-out tests/unit/test_%.c,$(wildcard tests/unit/*.c))
UNITS := $(patsubst tests/unit/%.c,$(B)/tests/%,$(wildcard tests/unit/test_*.c))
$(B)/tests/test_%: $(B)/tests/unit/test_%.o $(call obj,$(UNIT_HELPERS)) $(B)/libvmm.a $(B)/libmvm.a
	@[ $(V) = 1 ] || echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS_ALL) -pie $(LDFLAGS) $(SANITIZE) -o $@ $^ -lcmocka $(LDLIBS_VMM) $(LDLIBS_LIB)
$(B)/tests/test_threads: | $(B)/mvm-supervisor
$(B)/tests/test_udp: | $(B)/tests/mvm-udp
$(B)/tests/mvm-udp: $(B)/mvm-udp
	$(Q)mkdir -p $(@D); ln -sfn ../mvm-udp $@
units: $(UNITS)
.SECONDARY:

# A VM on a named network without the VM, for tests/e2e/cases/network.sh.
$(B)/member: $(call obj,tests/e2e/member.c) $(B)/libmvm.a
	$(Q)$(CC) $(CFLAGS_ALL) -pie $(LDFLAGS) $(SANITIZE) -o $@ $^ $(LDLIBS_LIB)

# Threads that use a VM through libmvm, for tests/e2e/cases/lib.sh.
$(B)/threads: $(call obj,tests/e2e/threads.c) $(B)/libmvm.a
	$(Q)$(CC) $(CFLAGS_ALL) -pie $(LDFLAGS) $(SANITIZE) -o $@ $^ $(LDLIBS_LIB)

# The rows of the seccomp table, for tests/escape/minimal.
$(B)/tests/rows: $(call obj,tests/escape/rows.c) $(B)/libmvm.a
	$(Q)$(CC) $(CFLAGS_ALL) -pie $(LDFLAGS) $(SANITIZE) -o $@ $^ $(LDLIBS_LIB)

# What compares the calls of VMMs with that table, for tests/escape/seen: its other half runs in the kernel.
$(B)/tests/watch: $(call obj,tests/escape/watch/watch.c) $(B)/libmvm.a | $(B)/tests/watch.bpf.o
	$(Q)$(CC) $(CFLAGS_ALL) -pie $(LDFLAGS) $(SANITIZE) -o $@ $^ $(LDLIBS_LIB) -lbpf
$(B)/tests/watch.bpf.o: tests/escape/watch/watch.bpf.c tests/escape/watch/watch.h
	@mkdir -p $(@D)
	$(Q)clang -target bpf -O2 -g -Wall -Wextra -Werror -isystem /usr/include/$$(gcc -print-multiarch) -c -o $@ $<

$(B)/tests/bench-jail: $(call obj,tests/bench/jail.c) $(B)/libmvm.a
	$(Q)$(CC) $(CFLAGS_ALL) -pie $(LDFLAGS) $(SANITIZE) -o $@ $^ $(LDLIBS_LIB)
$(B)/tests/escape/show: $(call obj,tests/escape/show.c) $(B)/libvmm.a $(B)/libmvm.a
	$(Q)$(CC) $(CFLAGS_ALL) -pie $(LDFLAGS) -o $@ $^ $(LDLIBS_VMM) $(LDLIBS_LIB)
$(B)/tests/escape/neighbour: $(call obj,tests/escape/neighbour.c)
	$(Q)$(CC) $(CFLAGS_ALL) -pie $(LDFLAGS) -o $@ $^

FUZZERS := $(patsubst tests/fuzz/%.c,$(B)/tests/%,$(wildcard tests/fuzz/fuzz_*.c))
$(B)/tests/fuzz_%: $(B)/tests/fuzz/fuzz_%.o $(call obj,$(UNIT_HELPERS)) $(B)/libvmm.a $(B)/libmvm.a
	@[ $(V) = 1 ] || echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS_ALL) -pie $(SANITIZE) -fsanitize=fuzzer -o $@ $^ -lcmocka $(LDLIBS_VMM) $(LDLIBS_LIB)
fuzzers: $(FUZZERS)
FUZZ_SECONDS ?= 20

# The hostile guest: a kernel of its own, x86 only, that the VMM boots as it boots Linux (tests/hostile/README.md).
HOSTILE := $(patsubst %,build/%.o,$(wildcard tests/hostile/*.c tests/hostile/*.S))
HOSTILE_CFLAGS := -std=gnu11 -O2 -g -ffreestanding -fno-pic -fno-stack-protector -fcf-protection=none -fno-strict-aliasing \
	-fno-tree-loop-distribute-patterns -fno-delete-null-pointer-checks -mno-red-zone -mgeneral-regs-only $(WARN)
hostile: build/hostile/guest.elf ## the hostile guest's kernel
build/tests/hostile/%.o: tests/hostile/% tests/hostile/guest.h tests/hostile/net.h vmm/arch/x86_64/layout.h
	@mkdir -p $(@D); [ $(V) = 1 ] || echo "  CC    $<"
	$(Q)gcc -Ivmm -Ivmm/arch/x86_64 $(HOSTILE_CFLAGS) -c -o $@ $<
build/hostile/guest.elf: tests/hostile/guest.ld $(HOSTILE)
	@mkdir -p $(@D); [ $(V) = 1 ] || echo "  LD    $@"
	$(Q)ld -static -nostdlib --no-warn-rwx-segments -z noexecstack -T $< -o $@ $(HOSTILE)

check: setup ## everything that CI runs; ends with one line of counts
	$(Q)tests/run check
check-unit: ## the module tests
	$(Q)tests/run unit
check-e2e: ## the real binaries, on real KVM (the lab where this machine has none)
	$(Q)tests/run e2e
check-life: ## verdicts of untrusted programs, processes killed at every stage, host calls that fail
	$(Q)tests/run life
check-escape: ## the escape suite: an attacker inside the VMM
	$(Q)tests/run escape
check-hostile: ## a guest that breaks the devices' every rule, on real KVM
	$(Q)tests/run hostile
check-kvm: ## a smoke run on this machine's own /dev/kvm, whatever kind it is
	$(Q)tests/run kvm
check-readme: ## every fenced command of the README
	$(Q)tests/run readme
check-long: setup ## soaks, long fuzzing, power cuts, applications
	$(Q)tests/run long
asan: ## module tests and an e2e smoke under ASan and UBSan
	$(Q)tests/run asan
tsan: ## libmvm used by eight threads, under TSan
	$(Q)tests/run tsan
fuzz: ## every fuzz target for FUZZ_SECONDS
	$(Q)FUZZ_SECONDS=$(FUZZ_SECONDS) tests/run fuzz
ubsan: asan ## the same run: both sanitizers are on
lint: ## formatting, clang-tidy, cppcheck, shellcheck, and both compilers with -Werror
	$(Q)tests/run lint
coverage: ## line coverage of the module tests
	$(Q)$(MAKE) --no-print-directory VARIANT=coverage units
	$(Q)tools/coverage build/coverage
bench: setup ## ratios to QEMU's microvm machine, running VMs, hostile neighbours, the jail, mvm ps: tests/bench/README.md
	$(Q)$(MAKE) --no-print-directory VARIANT=release all kernel kernel-qemu image hostile build/release/tests/bench-jail
	$(Q)$(MAKE) --no-print-directory VARIANT=hooks all
	$(Q)tests/fixtures/make
	$(Q)tests/bench/all

# ---- installing ------------------------------------------------------------------------------------
SYSTEMD_UNITS ?= $(or $(shell pkg-config --variable=systemdsystemunitdir systemd 2>/dev/null),/lib/systemd/system)
install: all $(LIBS) kernel ## into DESTDIR/PREFIX, the AppArmor profile into DESTDIR/etc/apparmor.d, the unit beside systemd's; loads nothing
	@case "$(VARIANT)" in '' | release) ;; *) [ "$(DESTDIR)" ] || { \
		echo "install: VARIANT=$(VARIANT) is for tests and has weaker walls: install the release build" >&2; exit 1; } ;; esac
	install -d $(addprefix $(DESTDIR)$(PREFIX)/,bin include/mvm lib/mvm lib/pkgconfig share/man/man1 share/man/man3 share/man/man5 \
		share/bash-completion/completions share/mvm) $(DESTDIR)/etc/apparmor.d
	install -m 755 -s $(B)/mvm $(DESTDIR)$(PREFIX)/bin/
	install -m 755 -s $(filter-out %/mvm,$(BINS)) $(DESTDIR)$(PREFIX)/lib/mvm/
	install -m 644 $(B)/agent.cpio build/kernel/vmlinux $(DESTDIR)$(PREFIX)/lib/mvm/
	install -m 644 include/mvm/mvm.h $(DESTDIR)$(PREFIX)/include/mvm/
	install -m 644 $(B)/lib/libmvm.a $(DESTDIR)$(PREFIX)/lib/
	install -m 755 -s $(B)/lib/$(LIBMVM) $(DESTDIR)$(PREFIX)/lib/
	ln -sfn $(LIBMVM) $(DESTDIR)$(PREFIX)/lib/libmvm.so
	install -m 644 $(B)/lib/libmvm.pc $(DESTDIR)$(PREFIX)/lib/pkgconfig/
	install -m 644 $(wildcard tools/man/*.1) $(DESTDIR)$(PREFIX)/share/man/man1/
	for verb in logs wait start stop kill rm pause resume stats top; do \
		ln -sf mvm-ps.1 $(DESTDIR)$(PREFIX)/share/man/man1/mvm-$$verb.1; done
	install -m 644 $(wildcard tools/man/*.3) $(DESTDIR)$(PREFIX)/share/man/man3/
	install -m 644 $(wildcard tools/man/*.5) $(DESTDIR)$(PREFIX)/share/man/man5/
	install -m 644 tools/schema/receipt.schema.json $(DESTDIR)$(PREFIX)/share/mvm/
	install -m 644 tools/completion/mvm.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/mvm
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/zsh/site-functions tools/completion/_mvm
	install -d $(DESTDIR)$(SYSTEMD_UNITS)
	sed 's|@PREFIX@|$(PREFIX)|' tools/systemd/mvm@.service >$(DESTDIR)$(SYSTEMD_UNITS)/mvm@.service
	chmod 644 $(DESTDIR)$(SYSTEMD_UNITS)/mvm@.service
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/mvm tools/systemd/network.conf tools/systemd/mvm@web.socket
	install -m 644 tools/apparmor/mvm-vmm $(DESTDIR)/etc/apparmor.d/
dist: ## a source archive of HEAD
	$(Q)mkdir -p build; git archive --prefix=mvm/ HEAD | xz >build/mvm.tar.xz; ls -l build/mvm.tar.xz
clean: ## forget the builds; kernel and images stay
	rm -rf build/release build/asan build/hooks build/fuzz build/clang build/coverage build/tsan build/hostile build/tests build/musl-kernel-headers
help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

-include $(shell find $(B) -name '*.d' 2>/dev/null)
.PHONY: all setup kernel kernel-qemu kernel-bzimage image lab demo units fuzzers check check-unit check-e2e check-life check-escape check-hostile \
	check-kvm check-readme check-long hostile asan ubsan tsan fuzz lint coverage bench install dist clean help FORCE
