# Rates of disks and of the console: what passes is bounded by burst + rate * time, whatever the guest does.

# Reads the second disk in the guest, and prints bytes, requests and hundredths of a second that it took.
reader='
	read -r before _ </proc/uptime
	dd if=/dev/vdb of=/dev/null bs=1M "$@" 2>/dev/null
	read -r after _ </proc/uptime
	awk -v a=$before -v b=$after "{ print \$3 * 512, \$1, int((b - a) * 100) }" /sys/block/vdb/stat
'

test_bytes_a_second() {
	local bytes time
	truncate -s 64M disk.img
	expect 0 run --disk disk.img,ro --blk-bps 10m -- sh -c "$reader" sh count=40
	read -r bytes _ time <<<"$out"
	[ "$bytes" -ge $((40 << 20)) ] || die "only $bytes bytes were read"
	[ "$bytes" -le $(((10 << 20) * (time + 100 + 10) / 100)) ] || die "$bytes bytes in $time/100 s"
}

test_operations_a_second() {
	local ios time
	truncate -s 64M disk.img
	expect 0 run --disk disk.img,ro --blk-iops 100 -- sh -c "$reader" sh count=30
	read -r _ ios time <<<"$out"
	[ "$ios" -ge 10 ] || die "only $ios requests were made"
	[ "$ios" -le $((100 * (time + 100 + 10) / 100)) ] || die "$ios requests in $time/100 s"
}

# A disk that has run out of tokens holds up neither the command's output nor the end.
test_a_limited_disk_holds_up_nothing_else() {
	truncate -s 64M disk.img
	limit=60 expect 124 run --disk disk.img,ro --blk-bps 1m --timeout 15s -- sh -c '
		dd if=/dev/vdb of=/dev/null bs=1M & sleep 1; echo alive; wait'
	equal "$out" alive
}

# Linux resets its devices as it powers off, whatever they are at: a vCPU waits for the disk's threads, and they for no token.
test_a_limited_disk_holds_up_no_power_off() { # for the long run
	truncate -s 64M disk.img
	expect 125 run -c 2 --disk disk.img,ro --blk-bps 64k --receipt receipt.json -- sh -c '
		dd if=/dev/vdb of=/dev/null bs=1M &
		until [ "$(awk "{ print \$9 }" /sys/block/vdb/stat)" -gt 0 ]; do :; done
		echo 1 >/proc/sys/kernel/sysrq; echo o >/proc/sysrq-trigger; sleep 60'
	equal "$(jq -r .verdict receipt.json)" guest-poweroff
}

# A limit that is lifted while a read waits for it lets the read go on: 200 MiB at 64k a second would take an hour.
test_update() {
	local pid sup id=
	truncate -s 256M disk.img
	run --disk disk.img,ro --blk-bps 1m -- sh -c "echo ready; $reader" sh count=200 >out 2>err &
	pid=$!
	for _ in $(seq 3000); do
		! grep -q ready out || break
		sleep 0.02
	done
	sup=$(pgrep -P "$pid" -x mvm-supervisor)
	for folder in /run/mvm/* "$XDG_RUNTIME_DIR"/mvm/*; do
		[ "$(jq -r .supervisor "$folder/state.json" 2>/dev/null)" != "$sup" ] || id=$(basename "$folder")
	done
	expect 0 "$mvm" update "$id" --blk-bps 64k
	expect 0 "$mvm" update "$id" --blk-bps 100m
	wait "$pid" || die "$(cat out err)"
	read -r bytes _ time < <(tail -1 out)
	[ "$bytes" -ge $((200 << 20)) ] || die "only $bytes bytes were read"
	[ "$bytes" -le $(((100 << 20) * (time + 100 + 10) / 100)) ] || die "$bytes bytes in $time/100 s"
}

test_console_rate() {
	local before size took
	before=${EPOCHREALTIME/./}
	expect 0 run --console console.log --console-rate 1k -- true
	took=$(((${EPOCHREALTIME/./} - before) / 1000000 + 1))
	size=$(stat -c %s console.log)
	[ "$size" -ge 1000 ] || die "only $size bytes of console"
	[ "$size" -le $((1024 * (took + 1))) ] || die "$size bytes of console in $took s"
	equal "$(grep -c 'console: .* bytes were dropped' stderr)" 1
}

test_refused_limits() {
	refused console-rate "--console" -- run --console-rate 1k -- true
	refused blk-bps "no limit" -- run --blk-bps 1 -- true
	refused blk-iops "whole number" -- run --blk-iops many -- true
}

test_pids_max() {
	local many='i=0; while [ $i -lt 9 ]; do sleep 5 & i=$((i + 1)); done; echo all'
	expect 0 run -- sh -c "$many"
	equal "$out" all
	timeout -k 5 60 "$mvm" run --rootfs "$small/small.ext4" -m 96M --pids-max 5 -- sh -c "$many" >stdout 2>stderr </dev/null
	grep -q "can't fork" stderr || die "nine processes where five are allowed: $(cat stdout stderr)"
	# root of the guest cannot raise it: the group's files are not its to write
	expect 1 run --pids-max 5 -- sh -c 'echo 100 >/sys/fs/cgroup/pids.max'
	refused --pids-max 4194304 -- run --pids-max 0 -- true
}

# ---- --io-max: the kernel's io controller ----

# What the lab's own age lacks (tests/e2e/cases/jail.sh).
lacking=()
case $(uname -r) in 5.* | 6.[0-6].* | 6.[0-6]-*) lacking=(--allow-missing=landlock-net) ;; esac

# Two loop devices with an ext4 each, mounted at a/ and b/: $first is the number of a whole disk of which a/ is the first
# partition, $second that of b/. Prints SKIP and fails where this host gives none.
loops=() cli=
loop_devices() {
	local file device
	[ "$(id -u)" -eq 0 ] || { echo "SKIP needs root"; return 1; }
	trap drop_loops EXIT
	for file in a b; do
		truncate -s 96M "$file.disk"
		mkdir "$file"
	done
	for file in a b; do
		device=$(losetup -P --show -f "$file.disk" 2>losetup.err) || { echo "SKIP no loop device: $(cat losetup.err)"; return 1; }
		loops+=("$device")
	done
	# Told to the kernel: one without a single kind of partition table knows partitions all the same.
	addpart "${loops[0]}" 1 2048 194560 || die "addpart"
	for _ in $(seq 500); do
		[ ! -b "${loops[0]}p1" ] || break
		sleep 0.02
	done
	mke2fs -q -F -t ext4 "${loops[0]}p1" || die "mke2fs a"
	mke2fs -q -F -t ext4 "${loops[1]}" || die "mke2fs b"
	mount "${loops[0]}p1" a || die "mount a"
	mount "${loops[1]}" b || die "mount b"
	first=$(cat "/sys/block/${loops[0]#/dev/}/dev")
	second=$(cat "/sys/block/${loops[1]#/dev/}/dev")
	cp "$small/small.ext4" a/
}

# Each goes at once, or something of a VM's still holds a file there.
drop_loops() {
	local folder device supervisor bad=0
	if [ -n "$cli" ] && supervisor=$(pgrep -P "$cli" -x mvm-supervisor); then
		kill -KILL "$cli"
		while kill -0 "$supervisor" 2>/dev/null; do sleep 0.02; done
	fi
	for folder in a b; do
		! mountpoint -q $folder || umount $folder || bad=1
	done
	for device in "${loops[@]}"; do
		[ ! -e "/sys/block/${device#/dev/}/${device#/dev/}p1" ] || delpart "$device" 1 || bad=1
		losetup -d "$device" || bad=1
	done
	[ $bad -eq 0 ] || die "a loop device is still in use"
}

# A VM on them in the background, after its command printed "ready": $cli, $vmm.
start_on_loops() {
	"$mvm" run --rootfs a/small.ext4 -m 96M "${lacking[@]}" "$@" >vm.out 2>vm.err &
	cli=$!
	for _ in $(seq 3000); do
		! grep -q ready vm.out || break
		kill -0 "$cli" 2>/dev/null || die "no VM: $(cat vm.out vm.err)"
		sleep 0.02
	done
	grep -q ready vm.out || die "not ready: $(cat vm.out vm.err)"
	vmm=$(vmm_of "$cli")
}

# The VMM's group of a controller ("" for version 2), as a folder.
io_group() {
	if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
		echo "/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$vmm/cgroup")"
	else
		echo "/sys/fs/cgroup/blkio$(sed -En 's/^[0-9]+:([a-z,]*,)?blkio(,[a-z,]*)?://p' "/proc/$vmm/cgroup")"
	fi
}

# The limits stand at both devices, once each, whole; what the guest writes is counted there; inspect reads them back.
test_io_max() {
	local group id shown written
	loop_devices || return 0
	truncate -s 16M a/disk.img b/disk.img
	start_on_loops --disk a/disk.img --disk b/disk.img --io-max rbps=512m,wiops=50000 -- sh -c '
		dd if=/dev/zero of=/dev/vdc bs=1M count=8 oflag=direct 2>/dev/null && echo ready; sleep 600'
	group=$(io_group)
	case $group in */mvm-????????????) ;; *) die "not in a group of its own: $group" ;; esac
	id=${group##*/mvm-}
	expect 0 "$mvm" inspect "$id" --security --format json
	jq '.security.read.cgroup' stdout >cgroup.json
	if [ -e "$group/io.max" ]; then
		equal "$(sort "$group/io.max")" "$(printf '%s rbps=536870912 wbps=max riops=max wiops=50000\n' "$first" "$second" | sort)"
		written=$(sed -En "s/^$second .*wbytes=([0-9]+).*/\1/p" "$group/io.stat")
		equal "$(jq -r '.["io.max"][]' cgroup.json)" "$(cat "$group/io.max")"
		shown="$second rbps=536870912 wbps=max riops=max wiops=50000"
	else
		equal "$(sort "$group/blkio.throttle.read_bps_device")" "$(printf '%s 536870912\n' "$first" "$second" | sort)"
		equal "$(sort "$group/blkio.throttle.write_iops_device")" "$(printf '%s 50000\n' "$first" "$second" | sort)"
		equal "$(cat "$group"/blkio.throttle.{write_bps,read_iops}_device)" ""
		written=$(sed -En "s/^$second Write ([0-9]+)/\1/p" "$group/blkio.throttle.io_service_bytes")
		equal "$(jq -r '.["blkio.throttle.write_iops_device"][]' cgroup.json)" "$(cat "$group/blkio.throttle.write_iops_device")"
		shown="wiops $second 50000"
	fi
	# Large writes go past the host's page cache, and are the VMM's in either version.
	[ "${written:-0}" -ge $((4 << 20)) ] || die "of 8 MiB only '$written' bytes are counted: $(cat "$group"/io.stat "$group"/blkio.throttle.io_service_bytes 2>/dev/null)"
	expect 0 "$mvm" inspect "$id" --security
	case $out in *"$shown"*) ;; *) die "inspect does not show $shown: $out" ;; esac
	# the spec makes the VM again
	expect 0 "$mvm" inspect "$id" --format json
	equal "$(jq -r '.spec["io-max"]' stdout)" "rbps=536870912,wiops=50000"
	# … and other limits hold at once: named keys change, 0 takes one away, the rest stays.
	expect 0 "$mvm" update "$id" --io-max rbps=1m,wiops=0,wbps=2m --blk-iops 999
	if [ -e "$group/io.max" ]; then
		equal "$(sort "$group/io.max")" "$(printf '%s rbps=1048576 wbps=2097152 riops=max wiops=max\n' "$first" "$second" | sort)"
	else
		equal "$(sort "$group/blkio.throttle.read_bps_device")" "$(printf '%s 1048576\n' "$first" "$second" | sort)"
		equal "$(sort "$group/blkio.throttle.write_bps_device")" "$(printf '%s 2097152\n' "$first" "$second" | sort)"
		equal "$(cat "$group/blkio.throttle.write_iops_device")" ""
	fi
	expect 0 "$mvm" inspect "$id" --format json
	equal "$(jq -c '.spec | [.["io-max"], .["blk-iops"]]' stdout)" '["rbps=1048576,wbps=2097152",999]'
	refused --io-max "given twice" -- "$mvm" update "$id" --io-max rbps=1m,rbps=1m
	refused --io-max "or 0 for no limit" -- "$mvm" update "$id" --io-max rbps=1
	kill -TERM "$cli"
	wait "$cli" || true
	[ ! -d "$group" ] || die "left behind: $group"
	drop_loops
	loops=()
}

# A VM that was started without a limit gets one while it runs, and is rid of it for its end.
test_io_max_later() {
	local group id
	loop_devices || return 0
	truncate -s 16M b/disk.img
	start_on_loops --disk b/disk.img -- sh -c 'echo ready; sleep 2; dd if=/dev/zero of=/dev/vdb bs=1M count=8 oflag=direct 2>/dev/null; sleep 600'
	group=$(io_group)
	id=$(basename "$(dirname "$(grep -l "\"vmm\": *$vmm\b" /run/mvm/*/state.json)")")
	if [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then
		refused --io-max "version 1" "--blk-bps" -- "$mvm" update "$id" --io-max wbps=4k
	else
		expect 0 "$mvm" update "$id" --io-max wbps=4k
		equal "$(sort "$group/io.max")" "$(printf '%s rbps=max wbps=4096 riops=max wiops=max\n' "$first" "$second" | sort)"
		sleep 4 # the writer is in the midst of half an hour's waiting
	fi
	expect 0 timeout 60 "$mvm" kill "$id"
	wait "$cli" || true
	drop_loops
	loops=()
}

# A request that waits for its turn at a device keeps its process: of these 4 MiB the last would go after a quarter of an hour.
test_io_max_holds_up_no_end() {
	loop_devices || return 0
	truncate -s 16M b/disk.img
	limit=60 expect 124 "$mvm" run --rootfs a/small.ext4 -m 96M "${lacking[@]}" --disk b/disk.img --io-max wbps=4k --timeout 15s -- \
		sh -c 'echo begun; dd if=/dev/zero of=/dev/vdb bs=1M count=4 oflag=direct 2>/dev/null; echo written'
	equal "$out" begun
}

# As cpu: on for the VM's group when it was asked for, and not before.
test_io_controller_only_when_asked() {
	[ -e /sys/fs/cgroup/cgroup.controllers ] || { echo "SKIP needs cgroup v2"; return; }
	loop_devices || return 0
	own=/sys/fs/cgroup/mvm-test-$$
	mkdir "$own" "$own/self"
	trap 'rmdir "$own/self" "$own"; drop_loops' EXIT
	grep -qw io "$own/cgroup.controllers" || { echo "SKIP io is not enabled at the root"; return; }
	# shellcheck disable=SC2016 # expanded by that shell
	local within='echo $$ >"$0/self/cgroup.procs"; exec "$@"'
	expect 0 sh -c "$within" "$own" "$mvm" run --rootfs a/small.ext4 -m 96M "${lacking[@]}" -- true
	! grep -qw io "$own/cgroup.subtree_control" || die "enabled: $(cat "$own/cgroup.subtree_control")"
	expect 0 sh -c "$within" "$own" "$mvm" run --rootfs a/small.ext4 -m 96M "${lacking[@]}" --io-max riops=50000 -- true
	grep -qw io "$own/cgroup.subtree_control" || die "not enabled: $(cat "$own/cgroup.subtree_control")"
}

test_io_max_refused() {
	local words
	for words in "" rbps rbps=0 wiops=0 rbps=1 bps=1m rbps=1m,rbps=1m rbps=fast wiops=1k "rbps=1m," ",rbps=1m" rbps=max; do
		refused --io-max -- run --io-max "$words" -- true
	done
	refused --io-max rbps "given twice" -- run --io-max rbps=1m --io-max rbps=1m -- true
	refused --io-max "rbps, wbps, riops and wiops" -- run --io-max frob=1m -- true
	# file systems without a device of their own
	mkdir t over
	if [ "$(id -u)" -eq 0 ] && unshare -m true; then
		# shellcheck disable=SC2016 # expanded by that shell
		refused --io-max t/small.ext4 tmpfs "--blk-bps" ext4 -- unshare -m sh -c 'mount -t tmpfs none t && cp "$0" t/ && exec "$@"' \
			"$small/small.ext4" "$mvm" run --rootfs t/small.ext4 -m 96M --io-max rbps=1m -- true
		# shellcheck disable=SC2016 # expanded by that shell
		refused --io-max over/disk.img overlay "--blk-bps" ext4 -- unshare -m sh -c 'mount -t tmpfs none t && mkdir t/l t/u t/w &&
			mount -t overlay -o lowerdir=t/l,upperdir=t/u,workdir=t/w none over && cp "$0" over/disk.img && exec "$@"' \
			"$small/small.ext4" "$mvm" run --rootfs over/disk.img -m 96M --io-max rbps=1m -- true
	fi
}

# It was asked for by name: no way of leaving it out silently.
test_io_max_without_the_controller() {
	loop_devices || return 0
	# shellcheck disable=SC2016 # expanded by that shell
	local without='mount -o remount,bind,ro /sys/fs/cgroup; for f in /sys/fs/cgroup/*/; do mountpoint -q $f && mount -o remount,bind,ro $f; done; exec "$@"'
	refused --io-max cgroup "--blk-bps" -- unshare -m sh -c "$without" sh "$mvm" run --rootfs a/small.ext4 -m 96M \
		--allow-missing=cgroup,landlock-net --io-max rbps=1m -- true
	[ -e /sys/fs/cgroup/cgroup.controllers ] || return 0
	# a root of cgroups, as a container's, that was not given io
	own=/sys/fs/cgroup/mvm-test-$$
	mkdir "$own"
	trap 'rmdir "$own/self" "$own"; drop_loops' EXIT
	echo "+memory +pids" >"$own/cgroup.subtree_control"
	mkdir "$own/self"
	# shellcheck disable=SC2016 # expanded by that shell
	refused --io-max "controller io" "--blk-bps" "mvm doctor" -- sh -c 'echo $$ >"$0/self/cgroup.procs"; exec "$@"' "$own" \
		unshare -C -m sh -c 'umount /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$@"' sh \
		"$mvm" run --rootfs a/small.ext4 -m 96M --allow-missing=cgroup,landlock-net --io-max rbps=1m -- true
}
