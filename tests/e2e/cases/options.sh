# What the flags do inside.
test_environment_and_folder() {
	printf 'FILE_A=1\n# comment\n\nFILE_B=two words\n' >env
	expect 0 run -e 'A=x y' --env-file env -w /tmp -- sh -c 'echo "$A|$FILE_A|$FILE_B|$PWD"'
	equal "$out" "x y|1|two words|/tmp"
}

test_user() {
	expect 0 run -u nobody -- id -u
	equal "$out" 65534
	expect 0 run -u 1234:4321 -- sh -c 'echo $(id -u):$(id -g)'
	equal "$out" 1234:4321
	refused no-such-user -- run -u no-such-user -- true
}

# As distributions have theirs: compressed, and unpacked by itself.
test_bzimage() { # for the long run
	local kernel=$top/build/kernel/bzImage
	[ -f "$kernel" ] || die "make kernel-bzimage"
	expect 0 "$mvm" run --rootfs "$small/small.ext4" -m 128M -c 2 --kernel "$kernel" --receipt r.json -- sh -c 'nproc; cat /proc/version'
	[[ $out == 2$'\n'*-mvm* ]] || die "$out"
	equal "$(jq -r .kernel.sha256 r.json)" "$(sha256sum <"$kernel" | cut -d' ' -f1)"
}

test_cpus_and_memory() {
	expect 0 run -c 4 -- nproc
	equal "$out" 4
	expect 0 run -c 2 -- sh -c 'grep -c ^processor /proc/cpuinfo'
	equal "$out" 2
}

test_five_gigabytes() {
	local free
	free=$(awk '/MemAvailable/{print int($2 / 1024)}' /proc/meminfo)
	[ "$free" -gt 5600 ] || { echo "SKIP this machine has $free MiB free"; return; }
	expect 0 "$mvm" run --rootfs "$small/small.ext4" -m 5G -- awk '/MemTotal/{print int($2 / 1024)}' /proc/meminfo
	[ "$out" -ge 4900 ] && [ "$out" -le 5120 ] || die "-m 5G gave $out MiB"
}

test_scratch() {
	expect 0 run --scratch 8M -- sh -c 'dd if=/dev/zero of=/big bs=1M count=20 2>/dev/null; echo $(($(wc -c </big) / 1048576 <= 8))'
	equal "$out" 1
	expect 0 run -- sh -c 'echo changed >/etc/changed && cat /etc/changed'
	expect 1 run -- test -e /etc/changed
}

test_read_write() {
	cp "$small/small.ext4" own.img
	expect 0 "$mvm" run --rw --rootfs own.img -- sh -c 'echo kept >/kept'
	expect 0 "$mvm" run --rootfs own.img -- cat /kept
	equal "$out" kept
	e2fsck -fn own.img >fsck 2>&1 || die "the file system was not left clean: $(cat fsck)"
}

test_disks() {
	truncate -s 16M a.img b.img
	printf 'hello' | dd of=b.img conv=notrunc status=none
	expect 0 run --disk a.img,id=first --disk b.img,ro,id=second -- sh -c '
		echo $(cat /sys/block/vdb/serial) $(cat /sys/block/vdc/serial); cat /sys/block/vdc/ro
		head -c 5 /dev/vdc; echo; printf written >/dev/vdb; sync
		printf x >/dev/vdc 2>/dev/null || echo refused'
	equal "$(echo "$out" | tr '\n' ' ')" "first second 1 hello refused "
	equal "$(head -c 7 a.img)" written
	equal "$(head -c 5 b.img)" hello
}

# What is discarded is given back to the host; what is zeroed reads as zeroes; what lies beside either stays.
test_discard_and_zeroes() {
	truncate -s 8M disk.img
	expect 0 debian --disk disk.img -- sh -c '
		yes | dd of=/dev/vdb bs=1M count=8 iflag=fullblock oflag=direct 2>/dev/null &&
		blkdiscard -o 1M -l 2M /dev/vdb && blkdiscard -z -o 3M -l 2M /dev/vdb && sync'
	equal "$(head -c 5M disk.img | tail -c 4M | tr -d '\0' | wc -c)" 0
	equal "$({ head -c 1M disk.img; tail -c 3M disk.img; } | tr -d 'y\n' | wc -c)" 0
	[ "$(stat -c %b disk.img)" -lt $((7 << 11)) ] || die "nothing was given back: $(stat disk.img)"
}

# A vCPU that reads a register waits for no more than the moment in which a disk's thread has the device's lock.
test_registers_of_a_disk_at_work() {
	truncate -s 8M disk.img
	expect 0 run -c 2 --disk disk.img -- sh -c '
		dd if=/dev/vdb of=/dev/null bs=4k iflag=direct count=2000 2>/dev/null &
		while kill -0 $! 2>/dev/null; do
			read -r status </sys/bus/virtio/devices/virtio1/status
			[ "$status" = 0x0000000f ] || echo "$status"
		done'
	equal "$out" ""
}

test_file_systems() {
	local kind
	for kind in ext4 erofs squashfs; do
		expect 0 "$mvm" run --rootfs "$small/small.$kind" -m 96M -- sh -c 'cat /etc/kind; echo x >/etc/new && cat /etc/new'
		equal "$(echo "$out" | tr '\n' ' ')" "$kind x "
	done
}

test_console_and_cmdline() {
	expect 0 run --console console.log --cmdline 'mvm.test=here' -- cat /proc/cmdline
	case $out in *mvm.test=here*) ;; *) die "the appended word is missing: $out" ;; esac
	grep -q 'Linux version' console.log || die "no kernel log in the console file: $(head -c 300 console.log)"
}

test_extra_initrd() {
	mkdir -p x/extra && echo inside >x/extra/file
	(cd x && find . | cpio --quiet -o -H newc) >extra.cpio
	expect 0 run --initrd extra.cpio -- true
}

test_workload_sees_only_itself() {
	# its own shell, the tiny init that is pid 1 of its namespace, and nothing of the agent's above
	expect 0 run -- sh -c 'cat /proc/1/comm; echo $(ls -d /proc/[0-9]* | wc -l); ls /agent /init 2>/dev/null | wc -l'
	[ "$(echo "$out" | sed -n 2p)" -le 5 ] || die "more processes than its own: $out"
	equal "$(echo "$out" | sed -n 3p)" 0
}

test_loopback_is_up() {
	expect 0 run -- sh -c 'nc -l -p 99 -e echo hi & sleep 0.2; nc 127.0.0.1 99'
	equal "$out" hi
}

test_entropy_is_ready() {
	expect 0 debian -- python3 -c 'import os; print(len(os.getrandom(16, os.GRND_NONBLOCK)))'
	equal "$out" 16
}

test_no_pmu() {
	# Counters of the host's CPU tell one guest what another does: neither CPUID nor the kernel finds any. Nor may a guest have
	# guests of its own (nested virtualization is more of KVM to attack).
	expect 0 run -- sh -c 'grep -c -w -E "arch_perfmon|perfctr_core|perfctr_nb|perfctr_llc|perfmon_v2|pebs|bts|svm|vmx" /proc/cpuinfo
		ls -d /sys/bus/event_source/devices/cpu* 2>/dev/null | wc -l'
	equal "$(tr '\n' ' ' <stdout)" "0 0 "
}

test_version_and_help() {
	expect 0 "$mvm" --version
	case $out in *0.1.0*) ;; *) die "$out" ;; esac
	expect 0 "$mvm" --help
	expect 0 "$mvm" run --help
	for flag in --rootfs --kernel --cmdline --initrd --disk --env-file --scratch --rw --timeout --console --log-level --receipt; do
		case $out in *"$flag"*) ;; *) die "--help does not name $flag" ;; esac
	done
}

test_kernel_starts_no_helper_for_the_workload() {
	# A helper named by core_pattern would run as root outside of the workload's namespaces, beside the agent,
	# where the workload's root is /root: it could reach the agent and forge an exit status.
	expect 0 run "$@" -- sh -c 'printf "#!/root/bin/busybox sh\n/root/bin/busybox touch /root/escaped\n" >/evil
		chmod 755 /evil; echo "|/root/evil" >/proc/sys/kernel/core_pattern; ulimit -c unlimited
		sh -c "kill -SEGV \$\$"; sleep 1; ls / | grep -c escaped; true'
	equal "$out" 0
}
