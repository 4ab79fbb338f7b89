# Signals reach the workload; a second one within ten seconds ends the VM; nothing survives a killed CLI.

started() {
	for _ in $(seq 500); do
		grep -q ready out 2>/dev/null && return
		sleep 0.02
	done
	die "the workload did not start: $(cat out err)"
}

# The supervisor and the VMM of the run whose CLI is $1; remembered, because they lose their parent.
family() {
	local supervisor
	supervisor=$(pgrep -P "$1" -x mvm-supervisor) && echo "$supervisor $(pgrep -P "$supervisor" -x mvm-vmm)"
}

all_gone() {
	local pid
	for pid in "$@"; do
		for _ in $(seq 500); do
			[ -d "/proc/$pid" ] || continue 2
			sleep 0.02
		done
		die "left behind: $(tr '\0' ' ' <"/proc/$pid/cmdline")"
	done
}

test_signals_are_forwarded() {
	local sig
	for sig in TERM HUP INT; do
		rm -f out
		# a shell in the background ignores SIGINT: start it so that it does not
		setsid bash -c 'trap - INT; exec "$@"' bash "$mvm" run --rootfs "$small/small.ext4" -m 96M -- \
			sh -c "trap 'echo got $sig; exit 9' $sig; echo ready; while :; do sleep 0.1; done" >out 2>err &
		local pid=$!
		started
		kill -"$sig" "$pid"
		wait "$pid"
		equal $? 9
		grep -q "got $sig" out || die "$sig did not arrive"
	done
}

test_second_signal_kills() {
	run --receipt receipt.json -- sh -c 'trap "" TERM; echo ready; while :; do sleep 0.1; done' >out 2>err &
	local pid=$!
	started
	kill -TERM "$pid"
	sleep 0.3
	kill -TERM "$pid"
	wait "$pid"
	equal $? 125
	equal "$(jq -r .verdict receipt.json)" operator
}

test_killed_cli_takes_the_vm_along() {
	run -- sh -c 'echo ready; sleep 600' >out 2>err &
	local pid=$! vm
	started
	vm=$(family "$pid")
	equal "$(echo "$vm" | wc -w)" 2
	kill -KILL "$pid"
	wait "$pid" 2>/dev/null
	# shellcheck disable=SC2086 # two numbers
	all_gone $vm
}

test_killed_supervisor() {
	run -- sh -c 'echo ready; sleep 600' >out 2>err &
	local pid=$! vm
	started
	vm=$(family "$pid")
	kill -KILL "${vm% *}"
	wait "$pid"
	equal $? 125
	grep -q supervisor err || die "the error does not say what happened: $(cat err)"
	# shellcheck disable=SC2086 # two numbers
	all_gone $vm
	expect 0 run -- true # and the next command finds a clean house
	equal "$(find "$XDG_RUNTIME_DIR/mvm" /run/mvm -mindepth 1 2>/dev/null | grep -cvE '/(lock|\.lock|uids|events)$')" 0
}
