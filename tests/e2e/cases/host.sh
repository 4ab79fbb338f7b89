# The host is left as it was.
test_thirty_runs_in_a_row() {
	local before i
	expect 0 run -- true # the first makes the folders that stay
	before=$("$top/tests/e2e/host_state")
	for i in $(seq "${RUNS:-30}"); do
		expect $((i % 50)) run -- sh -c "exit $((i % 50))"
	done
	equal "$("$top/tests/e2e/host_state")" "$before"
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
