# Further commands in a VM that runs.

exec_set_up() {
	tidy_up
	expect 0 detached --name box "$@" -- sleep 1000
}

# in COMMAND…
in_box() {
	"$mvm" exec box "$@"
}

test_exec() {
	exec_set_up
	expect 5 "$mvm" exec box -- sh -c 'echo out; echo err >&2; exit 5'
	equal "$out" out
	equal "$err" err
	expect 127 "$mvm" exec box /nonexistent
	[[ $err == *nonexistent* ]] || die "no word of what is missing: $err"
	expect 126 "$mvm" exec box /etc
	expect 137 "$mvm" exec box -- sh -c 'kill -9 $$'
	expect 0 "$mvm" exec -e A=5 -w /tmp box -- sh -c 'echo $A; pwd; id -u; hostname'
	equal "$(echo "$out" | tr '\n' ' ')" "5 /tmp 0 $("$mvm" ps --format json | jq -r '.[0].id') "
	expect 0 "$mvm" exec -u 65534 box id -u
	equal "$out" 65534
	equal "$(echo data | in_box -- cat)" "" # no stdin without -i
	equal "$(echo data | "$mvm" exec -i box cat)" data
	head -c 20000000 /dev/urandom >random
	"$mvm" exec -i box cat <random | cmp - random || die "20 MB came back otherwise"
	# It is the same machine: its files and processes are there.
	in_box -- sh -c 'echo kept >/tmp/file'
	equal "$(in_box cat /tmp/file)" kept
	in_box ps | grep -q 'sleep 1000' || die "the VM's command is not seen"
}

test_exec_is_refused() {
	exec_set_up
	refused command -- "$mvm" exec box
	refused VM -- "$mvm" exec
	refused nosuch -- "$mvm" exec nosuch true
	refused memory "VM's" -- "$mvm" exec -m 64m box true
	refused rootfs -- "$mvm" exec --rootfs x box true
	refused nobody-here -- "$mvm" exec -u nobody-here box true
	refused /no/such -- "$mvm" exec -w /no/such box true
	expect 0 "$mvm" stop -t 0 box
	refused box -- "$mvm" exec box true
}

# A signal goes to its command alone; a client that dies takes it along.
test_exec_and_signals() {
	exec_set_up
	"$mvm" exec box -- sh -c 'trap "echo got; exit 4" TERM; echo up; while :; do sleep 0.05; done' >one &
	local one=$!
	"$mvm" exec box -- sleep 777 &
	local two=$!
	for _ in $(seq 200); do
		! grep -q up one || break
		sleep 0.05
	done
	kill -TERM $one
	wait $one
	equal $? 4
	equal "$(tr '\n' ' ' <one)" "up got "
	equal "$(in_box ps | grep -c 'sleep [7]77')" 1
	kill -KILL $two
	for _ in $(seq 200); do
		[ "$(in_box ps | grep -c 'sleep [7]77')" != 0 ] || return 0
		sleep 0.05
	done
	die "the command outlived its client"
}

# The VM ends under it: it says so, and does not wait for ever.
test_exec_and_the_end() {
	exec_set_up
	"$mvm" exec box -- sleep 777 2>said &
	local one=$!
	in_box true
	expect 0 "$mvm" kill box
	wait $one
	local status=$?
	[ $status = 125 ] || [ $status = 137 ] || die "status $status"
	expect 0 "$mvm" start box
	"$mvm" exec box -- sleep 777 2>said &
	one=$!
	in_box true
	kill -KILL "$("$mvm" ps --format json | jq '.[0].vmm')"
	wait $one
	equal $? 125
	grep -q 'VM has ended' said || die "said: $(cat said)"
}

# What a command leaves behind keeps no client.
test_exec_with_a_background_child() {
	exec_set_up
	expect 0 "$mvm" exec box -- sh -c 'sleep 500 & echo done'
	equal "$out" done
}

test_exec_storm() {
	exec_set_up
	for i in $(seq 50); do
		"$mvm" exec box -- echo "$i" &
	done >all
	wait
	equal "$(sort -n all | md5sum)" "$(seq 50 | md5sum)"
	for i in $(seq "${EXECS:-40}"); do
		equal "$(in_box echo "$i")" "$i"
	done
	# 64 at once and no more: the next is told so.
	local clients=()
	for i in $(seq 64); do
		"$mvm" exec box -- sleep 100 &
		clients+=($!)
	done
	for _ in $(seq 200); do
		! in_box true 2>/dev/null || { sleep 0.1; continue; }
		break
	done
	refused 'as many commands' -- "$mvm" exec box true
	kill "${clients[@]}"
	wait
	for _ in $(seq 200); do
		! in_box true 2>/dev/null || return 0
		sleep 0.1
	done
	die "no room again after they ended"
}

test_exec_terminal() {
	command -v script >/dev/null || { echo "SKIP no script(1) on this machine"; return; }
	exec_set_up
	expect 3 script -qefc "stty rows 31 cols 91; '$mvm' exec -it box -- sh -c 'tty; stty size; exit 3'" /dev/null
	[[ $out == *pts/*31\ 91* ]] || die "no terminal of that size: $out"
}
