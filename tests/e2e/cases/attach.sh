# mvm attach: the streams of a detached VM's own command, and detached VMs with stdin and terminals.

# attached PID…: each is, and hears signals, which it blocks only then
attached() {
	local pid
	for pid in "$@"; do
		# shellcheck disable=SC2016 # expanded by that shell
		until_so sh -c 'mask=$(sed -n "s/^SigBlk:.//p" "/proc/$1/status") && [ $((0x$mask & 0x200)) -ne 0 ]' sh "$pid"
	done
}

# said FILE TEXT: until it is there
said() {
	until_so grep -q -- "$2" "$1"
}

# What was printed before is not there; what comes is, on the stream that it was printed to, and the exit status.
test_output_and_status() {
	tidy_up
	expect 0 detached -i --name out -- sh -c 'echo before; read go; echo after; echo oops >&2; read go; exit 7'
	until_so sh -c "'$mvm' logs out | grep -q before"
	mkfifo in
	"$mvm" attach out <in >seen 2>seen.err &
	local pid=$!
	exec 5>in
	echo >&5
	said seen after
	said seen.err oops
	echo >&5
	wait $pid
	equal $? 7
	exec 5>&-
	equal "$(cat seen)" after
	equal "$(cat seen.err)" oops
	equal "$("$mvm" logs out 2>/dev/null)" $'before\nafter'
}

# All see everything; the input of each arrives; one that leaves takes nobody with it.
test_several() {
	tidy_up
	expect 0 detached -i --name many -- sh -c 'while read -r line; do echo "got $line"; done'
	local n pids=()
	for n in 1 2 3; do
		mkfifo "in$n"
		"$mvm" attach many <"in$n" >"seen$n" 2>&1 &
		pids+=($!)
	done
	exec 5>in1 6>in2 7>in3
	attached "${pids[@]}"
	echo one >&5
	said seen3 'got one'
	echo two >&6
	said seen3 'got two'
	kill -KILL "${pids[0]}"
	echo three >&7
	for n in 2 3; do
		said "seen$n" 'got three'
		equal "$(cat "seen$n")" $'got one\ngot two\ngot three'
	done
	# The end of somebody's input is not the command's.
	exec 6>&-
	echo four >&7
	said seen2 'got four'
	expect 0 "$mvm" stop many
	wait "${pids[1]}"
	equal $? 125
	wait "${pids[2]}"
	equal $? 125
	grep -q 'operator: stopped by the operator' seen3 || die "no reason: $(cat seen3)"
}

# Several MiB each way, byte for byte, and all of it in the log as well.
test_much() {
	tidy_up
	head -c 3000000 /dev/urandom | base64 -w 100 >data
	expect 0 detached -i --name much --log-max 64m -- sh -c "head -c $(stat -c %s data) | tee /tmp/x; md5sum </tmp/x; exit 3"
	"$mvm" attach much <data >seen
	equal $? 3
	equal "$(head -c "$(stat -c %s data)" seen | cmp - data && echo same)" same
	equal "$(tail -n 1 seen)" "$(md5sum <data)"
	"$mvm" logs much >logged
	cmp seen logged || die "the log has something else"
}

test_no_stdin() {
	tidy_up
	expect 0 detached -i --name quiet -- sh -c 'read line; echo "got $line"; exit 4'
	mkfifo in
	(echo wrong && sleep 1000) >in &
	local writer=$!
	"$mvm" attach --no-stdin quiet <in >seen 2>&1 &
	local pid=$!
	attached $pid
	echo right | "$mvm" attach quiet >seen2 2>&1
	equal $? 4
	wait $pid
	equal $? 4
	equal "$(cat seen)" 'got right'
	kill $writer 2>/dev/null
	# Without -i there is no input at all: the command reads its end.
	expect 0 detached --name deaf -- sh -c 'trap "go=1" USR1; echo up; while [ -z "$go" ]; do sleep 0.1; done; read line || echo none; exit 5'
	until_so sh -c "'$mvm' logs deaf | grep -q up"
	echo lost | "$mvm" attach deaf >seen3 2>seen3.err &
	pid=$!
	attached $pid
	kill -USR1 $pid
	wait $pid
	equal $? 5
	equal "$(cat seen3)" none
}

# A reader that has stopped holds the command up for seconds, not for ever, and is told; nothing is lost but to it.
test_slow_one() {
	tidy_up
	expect 0 detached -i --name slow --log-max 64m -- sh -c 'read go; head -c 4000000 /dev/zero | tr "\0" x; echo; echo done; sleep 1000'
	mkfifo pipe
	(exec <pipe; sleep 1000) &
	local reader=$!
	"$mvm" attach slow >pipe 2>slow.err </dev/null &
	local pid=$!
	attached $pid
	echo go | "$mvm" attach slow >seen 2>seen.err &
	local other=$!
	said seen '^done'
	equal "$(wc -c <seen)" 4000006
	until_so grep -q dropped slow.err
	kill $reader
	wait $pid
	equal $? 125
	"$mvm" logs slow | grep -q '^done' || die "not in the log"
	expect 0 "$mvm" kill slow
	wait $other
	equal $? 125
}

test_refused() {
	tidy_up
	refused 'no such VM' -- "$mvm" attach nosuch
	refused 'give one VM' -- "$mvm" attach
	expect 0 detached --name one -- sleep 1000
	refused 'detach-keys' -- "$mvm" attach --detach-keys ctrl-1 one
	expect 0 "$mvm" pause one
	refused paused resume -- "$mvm" attach one
	expect 0 "$mvm" resume one
	# As many as may be, and no more.
	local n pids=()
	for n in 1 2 3 4 5 6 7 8; do
		"$mvm" attach one >/dev/null 2>&1 </dev/null &
		pids+=($!)
	done
	attached "${pids[@]}"
	refused 'as many as may' -- "$mvm" attach one
	kill -HUP "${pids[@]}"
	for n in "${pids[@]}"; do
		wait "$n"
		equal $? 0
	done
	expect 0 "$mvm" stop -t 0s one
	run --name other -- sleep 1000 &
	until_so sh -c "'$mvm' ps | grep -q other.*running"
	refused 'not started with --detach' -- "$mvm" attach other
	expect 0 "$mvm" kill other
	wait
}

# What else speaks on the control socket: wrong numbers of descriptors, and such as are no sockets, are closed, broken
# or never read. The command's output and input go on, and no descriptor stays in the supervisor.
test_suspect_clients() {
	tidy_up
	expect 0 detached -i --name firm -- sh -c 'while read -r line; do echo "got $line"; done'
	local supervisor folder before
	supervisor=$("$mvm" ps --format json | jq '.[0].supervisor')
	folder=$("$mvm" inspect firm --format json | jq -r .folder)
	before=$(find "/proc/$supervisor/fd" -type l | wc -l)
	cat >client.py <<-'END'
		import errno, os, select, socket, struct, sys

		VIEW, ANSWER = 16, 128
		os.chdir(sys.argv[1])  # a socket's name is short

		def ask(fds, payload=b""):
		    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		    s.settimeout(20)
		    s.connect("control")
		    head = struct.pack("=IHHIi", 0x544D564D, 1, VIEW, len(payload), 0)
		    socket.send_fds(s, [head + payload], fds)
		    data = s.recv(65536)
		    if not data:
		        return s, None
		    _, _, kind, length, code = struct.unpack("=IHHIi", data[:16])
		    assert kind == ANSWER and length == len(data) - 16, data
		    return s, code

		def attach(fds):
		    while True:  # those that have just gone may still count
		        s, code = ask(list(fds))
		        if code == 0:
		            return s
		        assert code == errno.EBUSY, (fds, code)

		null = os.open("/dev/null", os.O_RDWR)
		for fds, payload in [([], b""), ([null], b""), ([null] * 2, b""), ([null] * 4, b""), ([null] * 3, b"x")]:
		    assert ask(fds, payload)[1] != 0, (fds, payload)

		# Pipes that block, a file, an epoll, the control socket of another, a pair whose other end is closed.
		read_end, write_end = os.pipe()
		file = os.open("/proc/self/exe", os.O_RDONLY)
		poll = select.epoll().fileno()
		other = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		other.connect("control")
		a, b = socket.socketpair()
		b.close()
		held = []
		for three in [(read_end, write_end, write_end), (file, file, file), (poll, poll, poll), (null, null, null),
		              (other.fileno(),) * 3, (a.fileno(),) * 3]:
		    held.append(attach(three))
		for s in held:
		    s.close()
		# Messages that are none, and some that are not for those who are attached.
		for message in [b"", b"x", b"x" * 60000, struct.pack("=IiII", 6, 0, 0, 0), struct.pack("=IiII", 99, 1, 2, 0),
		                struct.pack("=IiII", 1, 77, 0, 0), struct.pack("=IiII", 2, -1, 0, 0)]:
		    s = attach([null] * 3)
		    s.send(message)
		    s.close()
	END
	expect 0 python3 client.py "$folder"
	mkfifo in
	"$mvm" attach firm <in >seen 2>&1 &
	local pid=$!
	exec 5>in
	echo line >&5
	said seen 'got line'
	exec 5>&-
	kill -HUP $pid
	wait $pid
	equal $? 0
	until_so sh -c "[ \$(find /proc/$supervisor/fd -type l | wc -l) -eq $before ]"
	equal "$("$mvm" ps --format json | jq -r '.[0].state')" running
}

# Signals go to the command; the second one leaves.
test_signals() {
	tidy_up
	expect 0 detached --name sig -- sh -c 'trap "echo usr1" USR1; trap "echo int" INT; echo up; while :; do sleep 0.1; done'
	until_so sh -c "'$mvm' logs sig | grep -q up"
	"$mvm" attach sig >seen 2>&1 </dev/null &
	local pid=$!
	attached $pid
	kill -USR1 $pid
	said seen usr1
	# A background process of a script's ignores SIGINT; mvm blocks it, and reads it all the same.
	kill -TERM $pid
	wait $pid
	equal $? 143
	expect 0 "$mvm" wait sig
	equal "$out" 143
	expect 0 detached --name deaf -- sh -c 'trap "echo term" TERM; echo up; while :; do sleep 0.1; done'
	"$mvm" attach deaf >seen2 2>&1 </dev/null &
	pid=$!
	attached $pid
	until_so sh -c "'$mvm' logs deaf | grep -q up"
	until_so sh -c "kill -TERM $pid; sleep 0.3; ! kill -0 $pid"
	wait $pid
	equal $? 0
	equal "$("$mvm" ps --format json | jq -r '.[0].state')" running
	# Nobody reads what it prints: it ends, and the VM does not.
	expect 0 detached --name loud -- sh -c 'while :; do echo line; sleep 0.05; done'
	expect 0 bash -c "'$mvm' attach loud </dev/null | head -n 2"
	equal "$out" $'line\nline'
	equal "$("$mvm" ps --format json | jq -r '.[] | select(.name == "loud") | .state')" running
}

tm() {
	tmux -L "mvm$$" -f tmux.conf "$@"
}

wait_for() { # wait_for TEXT: until the screen shows it
	for _ in $(seq 400); do
		tm capture-pane -p 2>/dev/null | grep -qF -- "$1" && return
		sleep 0.05
	done
	die "the screen never showed '$1': $(tm capture-pane -p)"
}

# A shell on a terminal of its own: entered, resized, left by the keys, entered again, ended.
test_terminal() {
	tidy_up
	expect 0 detached -it --name shell -- sh
	equal "$("$mvm" ps --format json | jq -r '.[0].state')" running
	echo 'set -g status off' >tmux.conf # else a row of the terminal is tmux's own
	trap 'tm kill-server 2>/dev/null; remove_all; nothing_there' EXIT
	tm new-session -d -x 100 -y 30 "TERM=xterm $mvm attach shell; echo left=\$?; $mvm attach --detach-keys x,y shell; echo status=\$?; sleep 60"
	tm send-keys 'stty size' Enter
	wait_for '30 100'
	tm resize-window -x 120 -y 40
	tm send-keys 'clear; stty size' Enter
	wait_for '40 120'
	tm send-keys 'clear; mark=4' Enter
	tm send-keys 'sleep 100' Enter
	tm send-keys C-c
	tm send-keys 'echo still-$((40+2))' Enter
	wait_for 'still-42'
	tm send-keys C-p C-q
	wait_for 'left=0'
	equal "$("$mvm" ps --format json | jq -r '.[0].state')" running
	# The terminal is its own again, and the shell the same; the first of the keys alone is the shell's.
	tm send-keys 'echo x-${mark}2' Enter
	wait_for 'x-42'
	tm send-keys x y
	wait_for 'status=0'
	tm send-keys C-c
	until_so sh -c "echo 'exit 11' | '$mvm' attach shell >/dev/null; [ \$? -eq 11 ]"
	"$mvm" logs shell | grep -q 'still-42' || die "the log lacks what was on the terminal"
	expect 0 "$mvm" wait shell
	equal "$out" 11
}

# With a terminal and without -i: nothing that is typed reaches it, and its own input does not end: the signal ends cat.
test_terminal_without_input() {
	tidy_up
	expect 0 detached -t --name tty -- sh -c 'tty; stty size; cat </dev/tty & cat=$!
		trap "wait $cat; echo end=\$?; exit 0" USR1; echo up; while :; do sleep 0.1; done'
	until_so sh -c "'$mvm' logs tty | grep -q up"
	echo lost | "$mvm" attach tty >seen 2>&1 &
	local pid=$!
	attached $pid
	kill -USR1 $pid
	wait $pid
	equal $? 0
	! grep lost seen || die "it reached the terminal"
	case $("$mvm" logs tty) in */dev/pts/*'24 80'*end=138*) ;; *) die "no terminal: $("$mvm" logs tty)" ;; esac
}

# One with a name that is started again has its stdin and terminal again.
test_start_again() {
	tidy_up
	expect 0 detached -i --name again -- sh -c 'read line; echo "got $line"'
	expect 0 bash -c "echo first | '$mvm' attach again"
	equal "$out" 'got first'
	expect 0 "$mvm" start again
	expect 0 bash -c "echo second | '$mvm' attach again"
	equal "$out" 'got second'
	# With its streams from the first byte on.
	expect 0 bash -c "echo third | '$mvm' start -ai again"
	equal "$out" 'got third'
	expect 0 detached --name quick -- sh -c 'echo out; echo err >&2; exit 3'
	expect 0 "$mvm" wait quick
	for _ in 1 2 3; do
		expect 3 "$mvm" start -a quick
		equal "$out,$err" out,err
	done
	refused 'one VM' -- "$mvm" start -a quick again
	refused 'no such VM' -- "$mvm" start -a nosuch
	# Left, it runs on.
	expect 0 detached --name left -- sh -c 'trap "" HUP; echo up; sleep 1000'
	expect 0 "$mvm" kill left
	"$mvm" start -a left >seen 2>&1 &
	local pid=$!
	said seen up
	kill -HUP $pid
	wait $pid
	equal $? 0
	equal "$("$mvm" ps --format json | jq -r '.[0].state')" running
	until_so sh -c "! pgrep -P $pid"
}
