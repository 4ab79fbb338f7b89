# Bytes: identical, separate, half-closed, cut off.
test_big_binary_both_ways() {
	head -c 200000000 /dev/urandom >data
	limit=300
	timeout 300 "$mvm" run -i --rootfs "$small/small.ext4" -m 128M -- cat <data >back
	equal $? 0
	cmp data back || die "not identical"
	rm -f data back
}

test_stdin_only_when_asked() {
	echo hello | "$mvm" run --rootfs "$small/small.ext4" -m 96M -- cat >got
	equal $? 0
	equal "$(cat got)" ""
	echo hello | "$mvm" run -i --rootfs "$small/small.ext4" -m 96M -- cat >got
	equal "$(cat got)" hello
}

test_stdin_ends() {
	printf 'a\nb\n' | "$mvm" run -i --rootfs "$small/small.ext4" -m 96M -- wc -l >got
	equal "$(tr -d ' \n' <got)" 2
}

test_stdout_closed_early() {
	# `yes` would write for ever: the broken pipe must reach it as SIGPIPE.
	timeout 60 "$mvm" run --receipt receipt.json --rootfs "$small/small.ext4" -m 96M -- yes | head -1 >got
	equal "${PIPESTATUS[0]}" 141
	equal "$(cat got)" y
	equal "$(jq -r .verdict receipt.json)" signalled
}

test_slow_reader_loses_nothing() {
	"$mvm" run --rootfs "$small/small.ext4" -m 96M -- sh -c 'i=0; while [ $i -lt 20000 ]; do echo "line $i"; i=$((i+1)); done' |
		{ sleep 1; cat; } >got
	equal "$(wc -l <got)" 20000
	equal "$(tail -1 got)" "line 19999"
}

test_time_out_while_output_is_unread() { # for the long run
	mkfifo pipe
	exec 8<>pipe
	# the first ends, or would if it could: its output is more than what the sockets on the way hold. The second writes on
	limit=60 expect 124 bash -c 'run --timeout 8s --receipt r.json -- head -c 1500000 /dev/zero >pipe'
	equal "$(jq -r .verdict r.json)" timeout
	grep -q 'nobody read it' stderr || die "mvm itself waited: $err"
	rm r.json
	limit=60 expect 124 bash -c 'run --timeout 8s --receipt r.json -- yes >pipe'
	equal "$(jq -r .verdict r.json)" timeout
	grep -q 'nobody read it' stderr || die "mvm itself waited: $err"
}

test_background_children_do_not_hold_the_run() {
	expect 0 run -- sh -c 'sleep 600 & echo done'
	equal "$out" "done"
}

test_stderr_and_stdout_order_free_but_whole() {
	expect 0 run -- sh -c 'seq 5000; seq 5000 >&2'
	equal "$(wc -l <stdout)" 5000
	equal "$(wc -l <stderr)" 5000
}

test_no_descriptors_leak_into_the_workload() {
	expect 0 run -- sh -c 'ls /proc/self/fd | sort -n | tr "\n" " "'
	equal "$out" "0 1 2 3 " # 3 is ls's own look at the folder
}
