# The supervisor and the CLI against a stand-in for the VMM (tests/e2e/fake_vmm.c), which plays VMM
# and agent, well and badly. Needs a /dev/kvm that opens, and nothing from it.

# shellcheck source=tests/e2e/fake.sh
. "$top/tests/e2e/fake.sh"

fake() {
	fake_set_up
	"$fakes/mvm" run --rootfs "$fakes/app.img" "$@"
}
export -f fake

fake_options=()

# bad MODE STATUS VERDICT WORD…: the mode gives that status and verdict, stderr holds each word, nothing is left.
bad() {
	local mode=$1 status=$2 verdict=$3 word
	shift 3
	limit=30 expect "$status" bash -c 'fake "$@"' bash --receipt receipt.json "${fake_options[@]}" --cmdline "fake=$mode" -- echo x
	[ "$(jq -r .verdict receipt.json)" = "$verdict" ] || die "$mode: $(jq -r .verdict receipt.json), wanted $verdict: $err"
	for word in "$@"; do
		case $err in *"$word"*) ;; *) die "$mode: the error does not say '$word': $err" ;; esac
	done
	case $err in *[$'\001'-$'\010\033\200'-$'\237']*) die "$mode: control bytes came through" ;; esac
	nothing_left
}

# Other runs may be alive on this machine: their folders name a supervisor that is not ours.
nothing_left() {
	local left folder pid
	for folder in /run/mvm/* "$XDG_RUNTIME_DIR"/mvm/*; do
		[ -d "$folder" ] || continue
		pid=$(jq -r .supervisor "$folder/state.json" 2>/dev/null) || continue # just being made
		[ -e "/proc/$pid/exe" ] && [ "$(readlink "/proc/$pid/exe")" != "$fakes/mvm-supervisor" ] && continue
		[ ! -d "$folder" ] || die "left behind: $folder"
	done
	for left in $(pgrep -x mvm-vmm); do
		[ "$(readlink "/proc/$left/exe")" != "$fakes/mvm-vmm" ] || die "a VMM is left: $left"
	done
}

test_exit_statuses_and_streams() {
	expect 0 bash -c 'fake -- echo hello world'
	equal "$out" "hello world"
	equal "$err" ""
	expect 7 bash -c 'fake -- exit 7'
	expect 137 bash -c 'fake -- killed 9'
	expect 0 bash -c 'fake -- both'
	equal "$out" "to stdout"
	equal "$err" "to stderr"
	expect 127 bash -c 'fake -- fail 1 "nope: not found"'
	equal "$err" "mvm: nope: not found"
	expect 126 bash -c 'fake -- fail 2 "text: not executable"'
	expect 125 bash -c 'fake -- fail 3 "no such user"'
	nothing_left
}

test_stdin_only_with_i() {
	equal "$(echo hi | fake -i -- cat)" hi
	equal "$(echo hi | fake -- cat)" ""
	fake -i -- cat </dev/null >got || die "empty input"
	equal "$(cat got)" ""
}

test_bytes_survive_every_way_of_passing() {
	head -c 20000000 /dev/urandom >data
	fake -i -- cat <data >back || die "file to file"
	cmp data back || die "file to file"
	# shellcheck disable=SC2002 # the pipe is what is tested
	cat data | fake -i -- cat | cat >back
	cmp data back || die "pipe to pipe"
	fake -i -- cat <data | { sleep 0.5; cat; } >back
	cmp data back || die "slow reader"
	: >back
	fake -i -- cat <data >>back
	cmp data back || die "appending"
}

test_a_slow_reader_outlasts_every_grace() {
	head -c 400000 /dev/zero | tr '\0' x >data
	fake -i -- cat <data | { sleep 5; cat; } >back
	cmp data back || die "output was lost after the end of the VM was asked for"
}

test_stdout_closed_early() {
	fake -- yes 2>err | head -1 >got
	equal "${PIPESTATUS[0]}" 141
	equal "$(cat got)" y
	equal "$(cat err)" ""
}

test_stdout_full() {
	[ -w /dev/full ] || { echo "SKIP no /dev/full"; return; }
	fake -- echo x >/dev/full 2>err
	equal $? 125
	grep -q 'stdout: cannot be written: No space left' err || die "$(cat err)"
}

test_closed_standard_descriptors() {
	fake -- echo x <&- >out 2>&- || die "closed stdin and stderr"
	equal "$(cat out)" x
	fake -- exit 3 >&-
	equal $? 3
}

test_receipt_full_disk() {
	fake --receipt /dev/full -- exit 4 2>err
	equal $? 4
	grep -q 'receipt: /dev/full: cannot be written' err || die "$(cat err)"
	fake --receipt fd:7 -- exit 5 7</dev/null 2>err
	equal $? 125
	fake --receipt fd:8 -- exit 5 8>&- 2>err
	equal $? 125
}

test_hostile_vmm() {
	bad garbage 125 vmm-fault "control protocol"
	bad long-message 125 vmm-fault "control protocol"
	bad unknown-type 125 vmm-fault "control protocol"
	bad unasked-pong 125 vmm-fault "not asked"
	bad unasked-closed 125 vmm-fault "not given"
	bad wrong-version 125 vmm-fault "control protocol"
	bad deaf-flood 125 vmm-fault "does not read"
	bad close-control 125 vmm-fault "did not end"
	bad ended-twice 125 vmm-fault "ended twice"
	bad odd-end 125 vmm-fault "999"
	bad refused-ports 0 exited
	bad dial-flood 0 exited
	bad pass-descriptor 0 exited
	bad log-flood 0 exited "dropped" "the reason"
	bad check-fds 0 exited
}

# --pcap: what comes is written; who sends something else is no VMM any more; who sends without end is not heard on.
test_capture() { # for the long run
	fake_set_up
	captured() {
		rm -f net.sock cap peer
		python3 -c '
import socket
s = socket.socket(socket.AF_UNIX)
s.bind("net.sock")
s.listen(1)
print("listening", flush=True)
c, _ = s.accept()
while c.recv(65536):
    pass
' >peer &
		until_so grep -qs listening peer
		bad "$@"
		wait
		equal "$(tcpdump -Knqtr cap 2>/dev/null | wc -l)" "$(jq .capture.frames receipt.json)"
		equal "$(stat -c %s cap)" "$(jq .capture.bytes receipt.json)"
	}
	fake_options=(--net "socket=$PWD/net.sock" --pcap cap --pcap-max 128k)
	captured capture-flood 0 exited "--pcap: cap: full with 128k"
	equal "$(jq -c '[.capture.ended, .capture.bytes <= 131072, .capture.frames > 75]' receipt.json)" '["full",true,true]'
	captured capture-garbage 125 vmm-fault "the VMM sent a frame to capture that is none"
	equal "$(jq -c '[.capture.ended, .capture.frames]' receipt.json)" '["error",1]'
	captured capture-crash 125 vmm-fault crashed
	equal "$(jq -c '[.capture.ended, .capture.frames]' receipt.json)" '["run",20]'
	fake_options=(--net "socket=$PWD/net.sock" --pcap cap)
	captured capture 0 exited
	equal "$(jq -c '[.capture.ended, .capture.frames, .capture.dropped]' receipt.json)" '["run",3000,0]'
	captured check-fds 0 exited
}

test_dying_vmm() {
	bad crash-early 125 vmm-fault SEGV
	bad sigsys 125 vmm-fault SIGSYS
	bad exit-early 125 vmm-fault "wrong version"
	bad setup 125 refused "no segment"
	equal "$(jq -r .word_of receipt.json)" vmm
	bad late-setup 125 vmm-fault "after its guest had spoken"
	equal "$(jq -r .word_of receipt.json)" host
	bad panic 125 guest-panic "panicked" "console: Kernel panic"
	equal "$(jq -r .word_of receipt.json)" vmm
	bad poweroff 125 guest-poweroff
	bad forged-then-panic 125 guest-panic
	bad hang-after-exit 125 vmm-fault "did not end"
}

test_hostile_agent() {
	bad agent-garbage 125 guest-panic "broke its protocol"
	bad agent-large-frame 125 guest-panic "broke its protocol"
	bad agent-no-hello 125 guest-panic "broke its protocol"
	bad agent-repeats 125 guest-panic "broke its protocol"
	bad agent-error 125 refused "cannot be mounted"
	bad agent-gone 125 guest-panic "went away"
}

test_time_outs() {
	expect 124 bash -c 'fake --boot-timeout 300ms --receipt r.json --cmdline fake=hang -- echo x'
	equal "$(jq -r .verdict r.json)" boot-timeout
	expect 124 bash -c 'fake --timeout 300ms --receipt r.json -- sleep'
	equal "$(jq -r .verdict r.json)" timeout
	expect 124 bash -c 'fake --timeout 300ms --receipt r.json --cmdline fake=hang -- echo x'
	equal "$(jq -r .verdict r.json)" timeout
	nothing_left
}

# A reader that does not read is part of the run: it holds the end up no longer than the time-out and a grace.
test_time_out_while_nobody_reads() {
	fake_set_up
	head -c 4000000 /dev/zero >data
	mkfifo pipe
	exec 8<>pipe
	limit=20 expect 124 bash -c 'fake --timeout 1s --receipt r.json -- yes >pipe'
	equal "$(jq -r .verdict r.json)" timeout
	grep -q 'nobody read it' stderr || die "mvm itself waited: $err"
	rm r.json
	limit=20 expect 124 bash -c 'fake -i --timeout 1s --receipt r.json -- cat <data >pipe'
	equal "$(jq -r .verdict r.json)" timeout
	grep -q 'nobody read it' stderr || die "mvm itself waited: $err"
	equal "$(jq -r .word_of r.json)" host
	nothing_left
}

# Hashing a large image holds nobody up for good: whoever asks for the end gets it, without the digest.
test_digest_is_given_up_on_a_signal() {
	fake_set_up
	cp "$fakes/app.img" large.img
	truncate -s 4T large.img 2>/dev/null || truncate -s 15T large.img 2>/dev/null || { echo "SKIP no sparse file of 4 TiB"; return; }
	"$fakes/mvm" run --rootfs large.img --receipt r.json -- echo x >out 2>err &
	local pid=$! sup
	for _ in $(seq 500); do grep -q x out && break; sleep 0.02; done
	sup=$(pgrep -P "$pid" -x mvm-supervisor)
	for _ in $(seq 500); do pgrep -P "$sup" -x mvm-vmm >/dev/null || break; sleep 0.02; done
	kill -TERM "$pid"
	wait "$pid"
	equal $? 0
	equal "$(jq -r .verdict r.json)" exited
	equal "$(jq -r .image.sha256 r.json)" null
	[ "$(jq -r .kernel.sha256 r.json)" != null ] || die "the kernel's digest is missing, too"
	nothing_left
}

# in_the_end NAME: its VMM is gone, its supervisor is not
in_the_end() {
	local supervisor
	supervisor=$("$mvm" ps --format json | jq -r --arg name "$1" '.[] | select(.name == $name) | .supervisor')
	for _ in $(seq 500); do
		! pgrep -P "$supervisor" -x mvm-vmm >/dev/null || { sleep 0.02; continue; }
		[ -e "/proc/$supervisor" ] || die "the supervisor is gone, too"
		return
	done
	die "the VMM does not end"
}

# Nor those who speak on the control socket, which is answered meanwhile.
test_stopped_while_it_hashes() {
	tidy_up
	fake_set_up
	cp "$fakes/app.img" large.img
	truncate -s 4T large.img 2>/dev/null || truncate -s 15T large.img 2>/dev/null || { echo "SKIP no sparse file of 4 TiB"; return; }
	local action
	for action in 'stop' 'kill'; do
		expect 0 "$fakes/mvm" run -d --name "hash$$" --rootfs large.img --receipt r.json -- sleep
		expect 0 "$mvm" kill -s TERM "hash$$"
		in_the_end "hash$$"
		expect 0 "$mvm" ps
		expect 0 "$mvm" "$action" "hash$$"
		limit=30 expect 0 "$mvm" wait "hash$$"
		equal "$(jq -r .verdict r.json)" signalled
		equal "$(jq -r .image.sha256 r.json)" null
		[ "$(jq -r .kernel.sha256 r.json)" != null ] || die "the kernel's digest is missing, too"
		expect 0 "$mvm" rm "hash$$"
	done
	nothing_left
}

# Somebody reads slowly what the VM had printed before its end: others are answered meanwhile.
test_killed_while_one_reads_slowly() {
	local pid
	tidy_up
	fake_set_up
	expect 0 "$fakes/mvm" run -d --name "slow$$" --rootfs "$fakes/app.img" -- fill
	"$mvm" attach "slow$$" >out 2>err </dev/null &
	pid=$!
	for _ in $(seq 500); do "$mvm" events --filter "name=slow$$,event=attach" 2>/dev/null | grep -q attach && break; sleep 0.02; done
	kill -STOP $pid
	expect 0 "$mvm" kill -s USR1 "slow$$"
	in_the_end "slow$$"
	expect 0 "$mvm" kill "slow$$"
	limit=30 expect 0 "$mvm" wait "slow$$"
	kill -CONT $pid
	wait $pid
	expect 0 "$mvm" rm "slow$$"
	nothing_left
}

# What is printed while the VM is to end is logged no faster than before.
test_flood_while_it_stops() {
	local size
	tidy_up
	fake_set_up
	expect 0 "$fakes/mvm" run -d --name "spill$$" --log-max 1g --rootfs "$fakes/app.img" -- spill
	expect 0 "$mvm" stop -t 0s "spill$$"
	size=$("$mvm" logs "spill$$" | wc -c)
	[ "$size" -gt 1000000 ] || die "no flood: $size bytes"
	[ "$size" -lt 40000000 ] || die "$size bytes in two seconds"
	expect 0 "$mvm" rm "spill$$"
	nothing_left
}

# A part is code that runs as the caller: one that somebody else owns or may write is refused by name.
test_parts_of_somebody_else() {
	local part
	fake_set_up
	mkdir own
	cp "$fakes"/{mvm,mvm-supervisor,mvm-vmm,agent.cpio,vmlinux} own/
	expect 0 own/mvm run --rootfs "$fakes/app.img" -- exit 0
	for part in mvm-supervisor mvm-vmm agent.cpio vmlinux; do
		chmod o+w "own/$part"
		refused "own/$part" chmod -- own/mvm run --rootfs "$fakes/app.img" -- exit 0
		chmod o-w "own/$part"
		[ "$(id -u)" -eq 0 ] || continue
		chown 12345 "own/$part"
		refused "own/$part" "somebody else" -- own/mvm run --rootfs "$fakes/app.img" -- exit 0
		chown 0 "own/$part"
	done
	expect 0 own/mvm run --rootfs "$fakes/app.img" -- exit 0
}

ready() {
	for _ in $(seq 500); do
		grep -q ready out 2>/dev/null && return
		sleep 0.02
	done
	die "did not start: $(cat out err 2>/dev/null)"
}

test_signals() {
	local sig
	fake_set_up
	for sig in HUP USR1 TERM; do
		rm -f out
		fake -- sleep >out 2>err &
		local shell=$! pid
		ready
		pid=$(pgrep -P "$shell" -x mvm || echo "$shell")
		kill -"$sig" "$pid"
		wait "$shell"
		equal $? $((128 + $(kill -l "$sig")))
	done
	nothing_left
}

test_killed_cli_and_supervisor() {
	fake_set_up
	local pid sup vmm
	"$fakes/mvm" run --rootfs "$fakes/app.img" -- sleep >out 2>err &
	pid=$!
	ready
	sup=$(pgrep -P "$pid" -x mvm-supervisor) vmm=$(pgrep -P "$(pgrep -P "$pid" -x mvm-supervisor)")
	kill -KILL "$pid"
	wait "$pid" 2>/dev/null
	for _ in $(seq 500); do [ -d "/proc/$sup" ] || [ -d "/proc/$vmm" ] || break; sleep 0.02; done
	[ ! -d "/proc/$sup" ] && [ ! -d "/proc/$vmm" ] || die "the VM outlived its command"
	nothing_left
	rm -f out
	"$fakes/mvm" run --rootfs "$fakes/app.img" -- sleep >out 2>err &
	pid=$!
	ready
	kill -KILL "$(pgrep -P "$pid" -x mvm-supervisor)"
	wait "$pid"
	equal $? 125
	grep -q 'supervisor died' err || die "$(cat err)"
	expect 0 bash -c 'fake -- exit 0' # removes what the dead one left
	nothing_left
}

# The id of the run that this mvm started.
id_of() {
	local sup folder
	sup=$(pgrep -P "$1" -x mvm-supervisor)
	for folder in /run/mvm/* "$XDG_RUNTIME_DIR"/mvm/*; do
		[ "$(jq -r .supervisor "$folder/state.json" 2>/dev/null)" != "$sup" ] || basename "$folder"
	done
}

said() {
	for _ in $(seq 500); do
		! grep -q "$1" out || return 0
		sleep 0.02
	done
	die "not '$1': $(cat out err)"
}

test_update() {
	fake_set_up
	local pid id
	"$fakes/mvm" run --rootfs "$fakes/app.img" --receipt r.json -- sleep >out 2>err &
	pid=$!
	ready
	id=$(id_of "$pid")
	expect 0 "$fakes/mvm" update "$id" --blk-bps 10m --blk-iops=7
	said "limits 3 7 10485760"
	expect 0 "$fakes/mvm" update --blk-iops 0 "${id:0:11}"
	said "limits 1 0 0"
	refused "no such VM" "$id" -- "$fakes/mvm" update ffffffffffff --blk-iops 1
	refused "no such VM" -- "$fakes/mvm" update ../x --blk-iops 1
	refused "nothing to change" -- "$fakes/mvm" update "$id"
	refused "which VM" -- "$fakes/mvm" update --blk-iops 1
	refused "one VM" -- "$fakes/mvm" update "$id" "$id" --blk-iops 1
	refused "needs a value" -- "$fakes/mvm" update "$id" --blk-iops
	refused "no limit" -- "$fakes/mvm" update "$id" --blk-bps 1
	refused "cannot be changed" -- "$fakes/mvm" update "$id" --memory 1g
	kill -TERM "$pid"
	wait "$pid"
	refused "no such VM" -- "$fakes/mvm" update "$id" --blk-iops 1
	equal "$(jq -r .id r.json)" "$id"
	nothing_left
}

# Four clients that say nothing, as many that wait behind them, and one that talks nonsense: all are got rid of.
test_control_socket_is_bounded() {
	fake_set_up
	command -v python3 >/dev/null || { echo "SKIP no python3 on this machine"; return; }
	local pid id
	"$fakes/mvm" run --rootfs "$fakes/app.img" -- sleep >out 2>err &
	pid=$!
	ready
	id=$(id_of "$pid")
	for folder in /run/mvm/$id "$XDG_RUNTIME_DIR/mvm/$id"; do [ ! -d "$folder" ] || break; done
	python3 - "$folder/control" <<-'PY' || die "a client was kept"
		import socket, sys, time
		def new():
		    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		    s.settimeout(0)
		    for _ in range(2000): # its queue may be full: there is nothing to wait for but time
		        try:
		            s.connect(sys.argv[1])
		            s.settimeout(20)
		            return s
		        except BlockingIOError:
		            time.sleep(0.01)
		    raise TimeoutError("the supervisor takes no more clients")
		bad = new()
		bad.send(b"nonsense")
		assert bad.recv(99) == b"", "nonsense was answered"
		silent = [new() for _ in range(24)]
		for s in silent:
		    assert s.recv(99) == b""
	PY
	expect 0 "$fakes/mvm" update "$id" --blk-iops 9
	said "limits 1 9 0"
	kill -TERM "$pid"
	wait "$pid"
	nothing_left
}

test_image_locks() {
	fake_set_up
	cp "$fakes/app.img" own.img
	"$fakes/mvm" run --rw --rootfs own.img -- sleep >out 2>err &
	local pid=$!
	ready
	refused own.img "in use by another VM" -- "$fakes/mvm" run --rootfs own.img -- exit 0
	kill -TERM "$pid"
	wait "$pid"
	"$fakes/mvm" run --rootfs own.img -- sleep >out2 2>err &
	pid=$!
	mv out2 out
	ready
	expect 0 "$fakes/mvm" run --rootfs own.img -- exit 0
	refused own.img "in use by another VM" -- "$fakes/mvm" run --rw --rootfs own.img -- exit 0
	kill -TERM "$pid"
	wait "$pid"
	nothing_left
}

test_planted_state_folder() {
	[ "$(id -u)" -ne 0 ] || { echo "SKIP root's folder is /run/mvm"; return; }
	fake_set_up
	mkdir real && ln -s real mvm
	XDG_RUNTIME_DIR=$PWD refused mvm link -- "$fakes/mvm" run --rootfs "$fakes/app.img" -- exit 0
	rm mvm && mkdir mvm && chmod 777 mvm
	XDG_RUNTIME_DIR=$PWD refused mvm 700 -- "$fakes/mvm" run --rootfs "$fakes/app.img" -- exit 0
}

test_terminal() {
	fake_set_up
	cat >inner <<-IN
		stty rows 33 cols 77
		before=\$(stty -g)
		$fakes/mvm run --rootfs $fakes/app.img -- size </dev/tty &
		sleep 1; stty rows 44 cols 88; kill -WINCH \$!; sleep 0.5; kill -TERM \$!; wait \$!; echo "status \$?"
		[ "\$(stty -g | cut -d: -f1-3)" = "\$(echo "\$before" | cut -d: -f1-3)" ] && echo restored
	IN
	script -qec "bash inner" /dev/null </dev/null >typescript 2>&1
	for word in "33 77" "44 88" "status 143" restored; do
		grep -q "$word" typescript || die "no '$word': $(cat -v typescript)"
	done
}
