# Bad input: one line, the object, the reason, the remedy; status 125.
test_rootfs_missing() {
	refused rootfs /no/such.img -- "$mvm" run --rootfs /no/such.img -- true
}

test_rootfs_empty() {
	: >empty.img
	refused empty.img empty -- "$mvm" run --rootfs empty.img -- true
}

test_rootfs_is_a_folder() {
	mkdir tree
	refused tree mke2fs -- "$mvm" run --rootfs tree -- true
}

test_rootfs_is_a_tar() {
	mkdir tree && tar cf tree.tar tree
	refused tree.tar tar2sqfs -- "$mvm" run --rootfs tree.tar -- true
}

test_rootfs_truncated() {
	head -c 1000000 "$small/small.ext4" >short.img
	refused short.img truncated -- "$mvm" run --rootfs short.img -- true
}

test_rootfs_unknown() {
	head -c 1000448 /dev/urandom >noise.img
	refused noise.img ext4 erofs squashfs -- "$mvm" run --rootfs noise.img -- true
	: # the kinds that are known are named
}

test_kernel() {
	refused kernel /no/such -- run --kernel /no/such -- true
	head -c 100000 "$top/build/kernel/vmlinux" >short
	refused short cut -- run --kernel short -- true
	cp "$top/build/kernel/vmlinux" arm64
	printf '\267\000' | dd of=arm64 bs=1 seek=18 conv=notrunc status=none
	refused arm64 -- run --kernel arm64 -- true
	echo text >text
	refused text -- run --kernel text -- true
}

test_initrd_too_large() {
	truncate -s 90M big.cpio
	refused big.cpio -- "$mvm" run --rootfs "$small/small.ext4" -m 64M --initrd big.cpio -- true
}

test_memory() {
	local size
	for size in 0 1 1t 64x abc '' -5 999999999999999999999; do
		refused -m -- "$mvm" run --rootfs "$small/small.ext4" -m "$size" -- true
	done
}

test_vcpus() {
	local n
	for n in 0 33 -1 two ''; do
		refused -c -- run -c "$n" -- true
	done
}

test_same_disk_twice() {
	truncate -s 1M d.img
	refused d.img -- run --disk d.img --disk d.img -- true
}

test_disk_in_use() {
	cp "$small/small.ext4" own.img
	"$mvm" run --rw --rootfs own.img -- sh -c 'echo ready; sleep 600' >out 2>err &
	local pid=$!
	for _ in $(seq 500); do grep -q ready out && break; sleep 0.02; done
	refused own.img use -- "$mvm" run --rootfs own.img -- true
	refused own.img use -- "$mvm" run --rw --rootfs own.img -- true
	kill -TERM "$pid"
	wait "$pid" || true
	expect 0 "$mvm" run --rootfs own.img -- true
}

test_environment_without_equals() {
	refused NOVALUE = -- run -e NOVALUE -- true
}

test_command_line_too_long() {
	refused cmdline -- run --cmdline "$(head -c 3000 /dev/zero | tr '\0' a)" -- true
}

test_flags() {
	refused --rotfs --rootfs -- "$mvm" run --rotfs x -- true
	refused rootfs -- "$mvm" run -- true
	refused -v -- run -v /a:/b -- true
	refused --timeout -- run --timeout soon -- true
	refused frobnicate -- "$mvm" frobnicate
}

test_kvm() {
	[ "$(id -u)" -eq 0 ] || { echo "SKIP needs root for a mount namespace"; return; }
	# shellcheck disable=SC2016 # expanded inside
	in_ns='mount --bind "$1" /dev/kvm && shift && exec "$@"'
	: >fake
	refused /dev/kvm "not KVM" "remove it and load the driver" modprobe -- \
		unshare -m sh -c "$in_ns" sh "$PWD/fake" "$mvm" run --rootfs "$small/small.ext4" -- true
	refused /dev/kvm "not KVM" modprobe -- unshare -m sh -c "$in_ns" sh /dev/null "$mvm" run --rootfs "$small/small.ext4" -- true
	# none: its CPU could, so it is the driver that is wanted
	refused /dev/kvm missing "modprobe kvm_" -- \
		unshare -m sh -c 'mount -t tmpfs none /dev; exec "$@"' sh "$mvm" run --rootfs "$small/small.ext4" -- true
}

test_host_disk_full_under_a_read_write_image() {
	[ "$(id -u)" -eq 0 ] || { echo "SKIP needs root for a small tmpfs"; return; }
	mkdir fs && mount -t tmpfs -o size=24M none fs
	cp --sparse=always "$small/small.ext4" fs/own.img
	truncate -s 64M fs/data.img
	expect 125 "$mvm" run --rw --rootfs fs/own.img --disk fs/data.img --receipt receipt.json -- \
		dd if=/dev/zero of=/dev/vdb bs=1M count=60 conv=fsync
	umount fs
	case $err in
	*"disk fs/data.img: write: No space left on device"*) ;;
	*) die "mvm did not say which file's disk is full: $err" ;;
	esac
	case $err in *"nput/output error"*) ;; *) die "the guest saw no I/O error: $err" ;; esac
	equal "$(jq -r .verdict receipt.json)" disk-full
	case $err in *"fs/data.img: the host had no room"*"exited with 1"*) ;; *) die "$err" ;; esac
	jq -e '.devices.disks[1].no_space > 0' receipt.json >/dev/null || die "$(jq -c .devices.disks receipt.json)"
}

# becomes NAME KIND…: what the device-mapper's target is now, under a file system that is mounted
becomes() {
	dmsetup suspend --nolockfs --noflush "$1" && dmsetup load "$1" --table "0 $sectors ${*:2}" && dmsetup resume --noudevsync "$1" ||
		die "dmsetup: $*"
}

# The image lies on a device that refuses what is written to it: the guest's writes get as far as this host's page cache, and the
# fdatasync of its flush fails. It is to hear of that, then and ever after, as what was written is lost.
test_host_fdatasync_fails() {
	[ "$(id -u)" -eq 0 ] || { echo "SKIP needs root for a device of its own"; return; }
	command -v dmsetup >/dev/null || { echo "SKIP no dmsetup on this machine"; return; }
	modprobe -a loop dm-flakey 2>/dev/null
	local name=mvm-test-$$ loop sectors=65536 write=(dd if=/dev/urandom of=/dev/vdb bs=64k count=4 conv=fsync)
	truncate -s $((sectors * 512)) backing
	loop=$(losetup -f --show backing) || { echo "SKIP no loop device here"; return; }
	trap 'remove_all; umount fs; dmsetup remove --noudevsync --retry "$name"; losetup -d "$loop"' EXIT
	dmsetup create "$name" --noudevsync --table "0 $sectors linear $loop 0" || die "dmsetup makes no device"
	dmsetup mknodes "$name"
	mke2fs -q -t ext4 -O ^has_journal "/dev/mapper/$name" || die "no file system"
	mkdir fs && mount "/dev/mapper/$name" fs || die "it is not mounted"
	head -c 8388608 /dev/zero >fs/data.img
	sync -f fs
	expect 0 detached --name box --disk fs/data.img -- sleep 1000
	expect 0 "$mvm" exec box "${write[@]}"
	equal "$("$mvm" logs box 2>&1)" ""
	becomes "$name" flakey "$loop" 0 0 1 1 error_writes
	expect 1 "$mvm" exec box "${write[@]}"
	[[ $err == *"/dev/vdb"*"nput/output error"* ]] || die "the guest saw no I/O error: $err"
	equal "$("$mvm" logs box 2>&1 | sed 's/.*disk /disk /')" \
		"disk $PWD/fs/data.img: flush: Input/output error; writes before it may be lost, so no later flush will succeed"
	becomes "$name" linear "$loop" 0
	expect 1 "$mvm" exec box "${write[@]}"
	expect 0 "$mvm" exec box dd if=/dev/vdb of=/dev/null bs=64k
	expect 0 "$mvm" stop -t 0 box
	# It is the VM's to forget, with what it believed to be written: the next one starts anew.
	expect 0 "$mvm" start box
	expect 0 "$mvm" exec box "${write[@]}"
}
