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
test_a_limited_disk_holds_up_no_power_off() {
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
