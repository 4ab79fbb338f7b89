#!/usr/bin/env bash
#
# What tools/lab promises, seen from its outside. Prints one ok or not ok line per
# promise and exits 1 if one is broken. With arguments, runs only the tests whose
# names contain one of them.
#
# SC2016: what stands in single quotes is for the shell in the lab. SC2094: fifos.
# shellcheck disable=SC2016,SC2094

set -u

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$top" || exit 1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
only=("$@")
count=0 failed=0

# Every lab here has an end, whatever goes wrong.
lab() { timeout --foreground -k 5 180 tools/lab "$@"; }

ok() { # RC NAME: RC is 0 when the promise holds
	count=$((count + 1))
	if [ "$1" = 0 ]; then
		echo "ok $count - $2"
	else
		echo "not ok $count - $2"
		failed=$((failed + 1))
		[ -s "$work/err" ] && sed 's/^/# /' "$work/err" | tail -20
	fi
}

skip() { # NAME REASON
	count=$((count + 1))
	echo "ok $count - $1 # SKIP $2"
}

status() { # WANT NAME ARG...: the lab's exit status
	local want=$1 name=$2 got
	shift 2
	lab "$@" </dev/null >"$work/out" 2>"$work/err"
	got=$?
	ok "$([ $got = "$want" ]; echo $?)" "$name"
	[ $got = "$want" ] || echo "# status $got, not $want"
}

output() { # WANT NAME ARG...: stdout, with status 0
	local want=$1 name=$2 got
	shift 2
	got=$(lab "$@" </dev/null 2>"$work/err") && [ "$got" = "$want" ]
	ok $? "$name"
	[ "$got" = "$want" ] || echo "# printed '$got', not '$want'"
}

# ---- the tests ------------------------------------------------------------------

test_status() {
	status 0 'a command that succeeds: 0' -- true
	status 7 'a command that exits 7: 7' -- sh -c 'exit 7'
	status 137 'a command killed by SIGKILL: 137' -- sh -c 'kill -KILL $$'
	status 143 'a command killed by SIGTERM: 143' -- sh -c 'kill -TERM $$'
	status 127 'a command that is not there: 127' -- /nonexistent/command
	status 126 'a command that cannot be executed: 126' -- /etc/passwd
}

test_options() {
	tools/lab --no-such-option -- true >"$work/out" 2>"$work/err"
	ok $(($? != 125)) 'an unknown option is refused with 125'
	grep -q -- --no-such-option "$work/err"
	ok $? 'and is named'
	tools/lab true >"$work/out" 2>&1
	ok $(($? != 125)) 'a command without -- is refused'
	tools/lab --smp 0 -- true >"$work/out" 2>&1
	ok $(($? != 125)) 'no CPUs is refused'
	tools/lab --help | grep -q '^usage:'
	ok $? '--help helps'
}

test_kvm() {
	output "crw-rw---- root kvm" '/dev/kvm is there, for root and group kvm' -- stat -c '%A %U %G' /dev/kvm
	lab -- tools/kvm-kind >"$work/out" 2>"$work/err"
	ok $? 'kvm-kind calls it hardware'
	output 'lab 2' '--smp and the host name' --smp 2 -- sh -c 'echo $(uname -n) $(nproc)'
}

test_streams() {
	lab -- sh -c 'echo out; echo err >&2' </dev/null >"$work/out" 2>"$work/err"
	[ "$(cat "$work/out")" = out ] && [ "$(cat "$work/err")" = err ]
	ok $? 'stdout and stderr stay apart and carry nothing else'

	head -c 50000000 /dev/urandom >"$work/in"
	lab -- cat <"$work/in" 2>"$work/err" | cmp - "$work/in"
	ok $? '50 MB of random bytes come back as they went'

	lab -- sh -c 'cat >&2' <"$work/in" 2>"$work/copy"
	cmp "$work/copy" "$work/in" >"$work/err" 2>&1
	ok $? 'and through stderr'

	output '' 'an empty stdin ends at once' -- cat
	lab -- cat <&- >"$work/out" 2>"$work/err"
	ok $? 'so does a closed one'
	[ "$( (echo a; echo b) | lab -- sh -c 'cat; echo end' 2>"$work/err")" = "$(printf 'a\nb\nend')" ]
	ok $? 'the end of stdin leaves stdout open'

	{
		lab -- yes 2>"$work/err"
		echo $? >"$work/status"
	} | head -1 >"$work/out"
	[ "$(cat "$work/out" "$work/status")" = "$(printf 'y\n141')" ]
	ok $? 'a reader that goes away gives the command SIGPIPE'

	# The reader starts only when the writer must have filled every buffer on the way.
	mkfifo "$work/go"
	lab -- sh -c 'echo go >&2; head -c 20000000 /dev/zero' 2>"$work/go" | {
		read -r _ <"$work/go"
		sleep 1 # nothing announces a writer that blocks; too short only weakens the test
		wc -c
	} >"$work/out"
	[ "$(cat "$work/out")" = 20000000 ]
	ok $? 'a slow reader loses nothing'
}

test_tree() {
	output "$top" 'the command starts where the caller stands' -- pwd
	mkdir "$work/here"
	echo there >"$work/here/file"
	(cd "$work/here" && timeout 180 "$top/tools/lab" -- sh -c 'cat file; echo new >file; cat file' </dev/null >../out 2>../err)
	[ "$(cat "$work/out" "$work/here/file")" = "$(printf 'there\nnew\nthere')" ]
	ok $? 'also below /tmp; what it writes stays in the lab'
	output 'b c' '--env' --env A=b --env 'B=c' -- sh -c 'echo $A $B'
}

test_results() {
	mkdir "$work/results"
	status 0 '/results is written' --results "$work/results" -- \
		sh -ec 'mkdir /results/d; head -c 1000000 /dev/zero >/results/d/f; chmod 640 /results/d/f; ln -s f /results/d/l; mv /results/d /results/e'
	[ "$(stat -c '%s %a' "$work/results/e/f")" = '1000000 640' ] && [ -L "$work/results/e/l" ]
	ok $? 'and found on the host'
}

test_user() {
	output 'labuser labuser kvm' '--user makes the user, member of kvm' --user labuser -- sh -c 'echo $(id -un) $(id -Gn)'
	status 0 'who can use /dev/kvm, a home, a run-time folder and stdout by name' --user labuser -- \
		sh -ec 'tools/kvm-kind >/dev/stdout; touch $HOME/f $XDG_RUNTIME_DIR/f; [ $(stat -c %a $XDG_RUNTIME_DIR) = 700 ]'
	status 1 'and is not root' --user labuser -- touch /etc/passwd
	getent passwd labuser >"$work/err"
	ok $(($? == 0)) 'and is unknown outside'
}

test_disk() {
	truncate -s 64M "$work/one"
	truncate -s 32M "$work/two"
	status 0 '--disk: a file system made, written and unmounted at the end' --disk "$work/one" --disk "$work/two" -- \
		sh -ec 'mkfs.ext4 -q /dev/vda; mkdir /run/d; mount /dev/vda /run/d; echo kept >/run/d/f; dd if=/dev/zero of=/run/d/g bs=4096 count=16 oflag=direct; printf second >/dev/vdb'
	e2fsck -fn "$work/one" >"$work/err" 2>&1
	ok $? 'is clean on the host'
	[ "$(debugfs -R 'cat f' "$work/one" 2>/dev/null)" = kept ] && [ "$(head -c 6 "$work/two")" = second ]
	ok $? 'and holds what was written; the second disk too'
}

test_cgroup() {
	output cgroup2fs '--cgroup v2' -- stat -fc %T /sys/fs/cgroup
	status 0 'with its controllers for groups below' -- grep -q 'cpu.*memory.*pids' /sys/fs/cgroup/cgroup.subtree_control
	status 0 '--cgroup v1' --cgroup v1 -- sh -ec 'mkdir /sys/fs/cgroup/memory/t; echo 1000000 >/sys/fs/cgroup/memory/t/memory.limit_in_bytes; ! [ -e /sys/fs/cgroup/unified ]'
	status 0 '--cgroup hybrid' --cgroup hybrid -- sh -ec 'mkdir /sys/fs/cgroup/cpu/t /sys/fs/cgroup/unified/t'
}

test_kernel() {
	output 6.1 '--kernel 6.1' --kernel 6.1 -- sh -c 'uname -r | cut -d. -f1-2'
	output 6.12 '--kernel 6.12' --kernel 6.12 -- sh -c 'uname -r | cut -d. -f1-2'
	status 0 'modules load when they are needed' -- sh -ec 'modprobe dm-flakey; modprobe nf_tables; modprobe ext4; ip link add v type veth peer name w'
}

test_icount() {
	status 0 '--icount' --icount -- true
}

test_failure() {
	status 125 'a panic: 125' -- sh -c 'echo c >/proc/sysrq-trigger'
	grep -q 'kernel panicked: Kernel panic - not syncing: sysrq' "$work/err"
	ok $? 'and is named'
	status 125 'the lab switched off from inside: 125' -- sh -c 'echo o >/proc/sysrq-trigger; sleep 60'
	status 125 'a kernel that does not come up: 125' --append rdinit=/nonexistent -- true
	[ "$(grep -c 'once more' "$work/err")" = 1 ]
	ok $? 'and it was tried twice'
	LAB_TIMEOUT=6 status 124 'LAB_TIMEOUT bounds a lab: 124' -- sleep 100
	status 124 '--timeout: 124' --timeout 5 -- sleep 100
	status 125 'a QEMU that refuses: 125' --memory 900000G -- true
}

# Starts a lab in the background and waits until its command runs; sets pid, the
# lab's process, and qemu.
start_lab() {
	mkfifo "$work/up"
	tools/lab -- sh -c 'echo up; sleep 1000' </dev/null >"$work/up" 2>"$work/err" &
	pid=$!
	read -r -t 120 <"$work/up"
	rm "$work/up"
	qemu=$(pgrep -P "$pid")
}

test_ending() {
	local sig got
	for sig in INT TERM KILL; do
		start_lab
		kill -$sig "$pid"
		wait "$pid" 2>/dev/null
		got=$?
		ok $((got != 128 + $(kill -l $sig))) "SIG$sig ends the lab with status $((128 + $(kill -l $sig)))"
		timeout 10 tail -s 0.05 --pid="$qemu" -f /dev/null
		ok $? "and its QEMU"
	done
	start_lab
	kill -KILL "$qemu"
	wait "$pid"
	ok $(($? != 125)) "QEMU killed: 125"
}

test_two_at_once() {
	local first=0
	# Each goes on only when the other is up: the results folder is the one thing shared.
	mkdir "$work/shared"
	lab --results "$work/shared" -- sh -c 'echo one >/tmp/f; touch /results/1; until [ -e /results/2 ]; do sleep 0.1; done; cat /tmp/f' \
		</dev/null >"$work/one" 2>"$work/err" &
	lab --results "$work/shared" -- sh -c 'echo two >/tmp/f; touch /results/2; until [ -e /results/1 ]; do sleep 0.1; done; cat /tmp/f' \
		</dev/null >"$work/two" 2>"$work/err" || first=1
	wait $! && [ $first = 0 ] && [ "$(cat "$work/one" "$work/two")" = "$(printf 'one\ntwo')" ]
	ok $? 'two labs at once do not see each other'
}

test_terminal() {
	if ! command -v script >/dev/null; then
		skip 'a terminal outside is one inside' 'no script(1) (package bsdutils)'
		return
	fi
	# Typed once the command asks for it, and no end of input before it ended: script(1) turns one into ^D,
	# which the terminal echoes wherever the output happens to be.
	rm -f "$work/keys"
	mkfifo "$work/keys"
	timeout 180 script -qefc "tools/lab -- sh -c 'test -t 0 && test -t 1 && test -t 2 && tty; echo ready; read x; echo got \$x; exit 5'" \
		/dev/null <"$work/keys" >"$work/out" 2>"$work/err" &
	exec 9>"$work/keys"
	until grep -q '^ready' "$work/out" || ! kill -0 $! 2>/dev/null; do sleep 0.1; done
	echo typed >&9
	wait $!
	ok $(($? != 5)) 'a terminal outside is one inside, the status comes through'
	exec 9>&-
	grep -q '^/dev/pts/0' "$work/out" && grep -q '^got typed' "$work/out"
	ok $? 'and what is typed arrives'
}

test_systemd() {
	if ! [ -x /lib/systemd/systemd ]; then
		skip '--systemd' 'no systemd on this machine'
		return
	fi
	status 7 '--systemd: the status comes through' --systemd -- sh -c 'exit 7'
	output $'systemd\nrunning' 'systemd is pid 1 and content' --systemd -- sh -c 'cat /proc/1/comm; systemctl is-system-running'
	status 0 'the command may use its own cgroup' --systemd -- \
		sh -ec 'c=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup); mkdir $c/leaf; echo $$ >$c/leaf/cgroup.procs; echo "+memory +pids" >$c/cgroup.subtree_control'
	status 0 'systemd-run' --systemd -- systemd-run --wait --pipe -q true
	output user@1001.service 'systemd-run --user, with --user' --systemd --user labuser -- \
		sh -c 'systemd-run --user --scope -q -p Delegate=yes cat /proc/self/cgroup | grep -o "user@[0-9]*.service" | sed "s/@[0-9]*/@1001/"'
	lab --systemd --cgroup hybrid -- sh -ec 'test -d /sys/fs/cgroup/unified; test -d /sys/fs/cgroup/memory' </dev/null >"$work/out" 2>"$work/err"
	ok $? 'with --cgroup hybrid'
}

# ---- running them -----------------------------------------------------------------

for t in $(declare -F | sed -n 's/^declare -f test_//p'); do
	if [ ${#only[@]} -gt 0 ]; then
		wanted=0
		for o in "${only[@]}"; do
			case $t in *"$o"*) wanted=1 ;; esac
		done
		[ $wanted = 1 ] || continue
	fi
	: >"$work/err"
	"test_$t"
done
echo "1..$count"
[ $failed = 0 ]
