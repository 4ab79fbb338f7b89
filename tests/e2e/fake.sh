# shellcheck shell=bash
# For the cases with a stand-in for the VMM (fake_vmm.c): a folder like a build's, with it as its mvm-vmm.

fakes=$(dirname "$PWD")/fake # each test runs in a folder of its own beside it
export fakes

# Once for all tests of a case.
fake_set_up() {
	[ -x "$fakes/mvm-vmm" ] && return
	mkdir -p "$fakes"
	cc -D_GNU_SOURCE -I"$top/include" -I"$top/guest" -O1 -static -o "$fakes/vmm" "$top/tests/e2e/fake_vmm.c" \
		"$top/guest/proto.c" || die "the stand-in does not build"
	cp "$mvm" "$(dirname "$mvm")/mvm-supervisor" "$fakes/"
	printf '070701' >"$fakes/agent.cpio"
	echo 'void _start(void); void _start(void) { for (;;); }' >"$fakes/kernel.c"
	cc -static -nostdlib -o "$fakes/vmlinux" "$fakes/kernel.c" || die "the stand-in's kernel does not build"
	truncate -s 1M "$fakes/app.img"
	mke2fs -q -t ext2 "$fakes/app.img"
	mv "$fakes/vmm" "$fakes/mvm-vmm"
}
export -f fake_set_up
