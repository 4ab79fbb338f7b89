# The host is left as it was.
# What all of it takes: KiB of shared memory and of the kernel's own, KiB in use but by caches, open files.
taken() {
	awk '$1 == "Shmem:" {shared = $2} $1 == "Slab:" {slab = $2} $1 == "MemTotal:" {used += $2}
		$1 ~ /^(MemFree|Buffers|Cached|SReclaimable):$/ {used -= $2}
		FILENAME ~ "file-nr" {files = $1} END {print shared, slab, used, files}' /proc/meminfo /proc/sys/fs/file-nr
}

# no_more_than SHARED SLAB USED FILES: by less than 1 MiB of shared memory, 8 MiB of the kernel's and 16 MiB in all (half a MiB of each
# VM), and 64 files a CPU (the kernel counts them in steps of 32 on each)
no_more_than() {
	local now
	read -ra now < <(taken)
	[ $((now[0] - $1)) -lt 1024 ] && [ $((now[1] - $2)) -lt 8192 ] && [ $((now[2] - $3)) -lt 16384 ] &&
		[ $((now[3] - $4)) -le $((64 * $(nproc))) ]
}

test_thirty_runs_in_a_row() {
	local before i taken
	for i in 1 2 3; do expect 0 run -- true; done # the first makes the folders that stay, and fills caches
	before=$("$top/tests/e2e/host_state")
	read -ra taken < <(taken)
	for i in $(seq "${RUNS:-30}"); do
		expect $((i % 50)) run -- sh -c "exit $((i % 50))"
	done
	equal "$("$top/tests/e2e/host_state")" "$before"
	# The kernel frees some of it in its own time.
	(until_so no_more_than "${taken[@]}") || die "before: ${taken[*]}, now: $(taken) (KiB shared, of the kernel, in use; open files)"
}

test_twenty_at_once_from_one_image() {
	local pids=() i
	for i in $(seq 20); do
		timeout 200 "$mvm" run --rootfs "$small/small.ext4" -m 64M -- sh -c "echo vm $i; exit $i" >"out.$i" 2>"err.$i" &
		pids+=($!)
	done
	for i in $(seq 20); do
		wait "${pids[$((i - 1))]}"
		equal $? "$i"
		equal "$(cat "out.$i")" "vm $i"
	done
}

test_smallest_memory() {
	expect 0 "$mvm" run --rootfs "$small/small.ext4" -m 32M -- echo fits
	equal "$out" fits
	expect 125 "$mvm" run --rootfs "$small/small.ext4" -m 31M -- true
	case $err in *-m*32m*) ;; *) die "the least is not named: $err" ;; esac
}

test_most_vcpus() {
	expect 0 "$mvm" run --rootfs "$small/small.ext4" -m 256M -c 32 -- nproc
	equal "$out" 32
}
