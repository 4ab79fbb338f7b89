# Rates of disks: what passes is bounded by burst + rate * time, whatever the guest does.

# Reads the second disk in the guest, and prints bytes, requests and hundredths of a second that it took.
reader='
	IFS=" ." read -r s h _ </proc/uptime; before=$s$h
	dd if=/dev/vdb of=/dev/null bs=1M "$@" 2>/dev/null
	IFS=" ." read -r s h _ </proc/uptime
	read -r ios _ sectors _ </sys/block/vdb/stat
	echo $((sectors * 512)) $ios $((s$h - before))
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
	limit=40 expect 124 run --disk disk.img,ro --blk-bps 64k --timeout 8s -- sh -c '
		dd if=/dev/vdb of=/dev/null bs=1M & sleep 1; echo alive; wait'
	equal "$out" alive
}

test_refused_limits() {
	refused blk-bps "no limit" -- run --blk-bps 1 -- true
	refused blk-iops "whole number" -- run --blk-iops many -- true
}
