# Exit statuses and verdicts, by $? and in the receipt.

# verdict STATUS VERDICT MVM-ARGUMENTS…
verdict() {
	local status=$1 want=$2
	shift 2
	expect "$status" run --receipt receipt.json "$@"
	equal "$(jq -r .verdict receipt.json)" "$want"
	equal "$(jq -r .status receipt.json)" "$status"
}

test_exited() {
	verdict 0 exited -- true
	verdict 1 exited -- false
	verdict 255 exited -- sh -c 'exit 255'
}

test_not_found() {
	verdict 127 not-found -- /no/such/program
	case $err in *"/no/such/program"*) ;; *) die "the error does not name the program: $err" ;; esac
	verdict 127 not-found -- no-such-program
}

test_not_executable() {
	verdict 126 not-executable -- /etc/passwd
	verdict 126 not-executable -- /etc
}

test_signalled() {
	verdict 137 signalled -- sh -c 'kill -KILL $$'
	verdict 143 signalled -- sh -c 'kill -TERM $$'
	verdict 134 signalled -- sh -c 'kill -ABRT $$'
}

test_timeout() {
	verdict 124 timeout --timeout 2s -- sleep 600
}

test_panic() {
	verdict 125 guest-panic -- sh -c 'echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger; sleep 60'
	case $err in *"console:"*) ;; *) die "the console's last lines are missing: $err" ;; esac
}

test_guest_poweroff_and_reboot() {
	verdict 125 guest-poweroff -- sh -c 'echo 1 >/proc/sys/kernel/sysrq; echo o >/proc/sysrq-trigger; sleep 60'
	verdict 125 guest-reboot -- sh -c 'echo 1 >/proc/sys/kernel/sysrq; echo b >/proc/sysrq-trigger; sleep 60'
}

test_triple_fault() {
	# reboot=t: the kernel resets by a fault that it has no handler for
	verdict 125 triple-fault -c 2 --cmdline reboot=t -- sh -c 'echo 1 >/proc/sys/kernel/sysrq; echo b >/proc/sysrq-trigger; sleep 60'
	equal "$(jq -r .word_of receipt.json)" vmm
	equal "$(grep -c ': triple fault' stderr)" 1
	case $err in *": rip "*" cr3 "*) ;; *) die "the registers are missing: $err" ;; esac
}

test_guest_oom() {
	expect 137 debian --receipt receipt.json -m 128M -- python3 -c 'x = []
while True: x.append(bytearray(1 << 20))'
	equal "$(jq -r .verdict receipt.json)" guest-oom
}

test_receipt_facts() {
	expect 3 run --receipt receipt.json -- sh -c 'exit 3'
	equal "$(jq -r '.image.sha256 // .digests.image // .rootfs.sha256' receipt.json)" "$(sha256sum "$small/small.ext4" | cut -d' ' -f1)"
	jq -e '.isolation | .missing - ["lsm"] == [] and .uid != 0 and .cgroup and .landlock_abi >= 4 and
		(.seccomp_sha256 | test("^[0-9a-f]{64}$")) and
		(["namespaces", "empty-root", "limits", "capabilities", "no-new-privs", "seccomp", "cgroup", "landlock",
		"landlock-net"] - .in_force == [])' receipt.json >/dev/null || die "isolation: $(jq .isolation receipt.json)"
	jq -e '.id | test("^[0-9a-f]{12}$")' receipt.json >/dev/null || die "no id: $(cat receipt.json)"
}

test_receipt_to_a_descriptor() {
	"$mvm" run --rootfs "$small/small.ext4" --receipt fd:9 -- sh -c 'exit 5' 9>receipt.json
	equal $? 5
	equal "$(jq -r .status receipt.json)" 5
}

test_receipt_nowhere_to_write() {
	refused receipt /no/such/folder -- run --receipt /no/such/folder/receipt.json -- true
}
test_killed_vmm_is_a_vmm_fault() {
	run --receipt receipt.json -- sleep 600 >out 2>err &
	local cli=$! vmm=
	for _ in $(seq 300); do
		vmm=$(vmm_of "$cli") && break
		sleep 0.02
	done
	kill -KILL "$vmm"
	wait "$cli"
	equal $? 125
	equal "$(jq -r .verdict receipt.json)" vmm-fault
}

uptime_ms() {
	awk '{ printf "%d\n", $1 * 1000 }' /proc/uptime
}

# Time-outs are of the monotonic clock: a wall clock that is set, by an hour either way, ends none early and none late.
test_host_clock_is_set() {
	[ "$(id -u)" = 0 ] && [ -d /run/lab ] || { echo "SKIP only in the lab, whose clock is nobody else's"; return; }
	local step began real=$(($(date +%s) * 1000 - $(uptime_ms)))
	trap 'date -s "@$(((real + $(uptime_ms)) / 1000))" >/dev/null' EXIT
	for step in +1 -1; do
		began=$(uptime_ms)
		timeout 200 run --timeout 15s --idle-timeout 3m -- sh -c 'echo up; sleep 1000' >out 2>err &
		until_so grep -q up out
		date -s "$step hour" >/dev/null || die "the clock is not set"
		sleep 2
		kill -0 $! 2>/dev/null || die "$step h: it ended at once: $(cat err)"
		wait $!
		equal "$step $?" "$step 124"
		began=$(($(uptime_ms) - began))
		grep -q 'longer than --timeout allows' err || die "$step h: it was not its own time-out: $(cat err)"
		[ $began -ge 15000 ] || die "$step h: it ended after $began ms"
		rm out
	done
}
