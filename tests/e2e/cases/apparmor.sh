# The layer lsm: a VMM in its AppArmor profile, root's and an ordinary user's, and hosts where the profile is not loaded.
# Loading one needs root: so do these tests, which then are an ordinary user themselves where that makes a difference.
# shellcheck disable=SC2016,SC2154 # expanded by shells within; $mvm and others are the runner's

profile=$top/tools/apparmor/mvm-vmm

# What this host lacks anyway is no matter of these tests: an old kernel's Landlock.
OLD=
case $(uname -r) in 5.* | 6.[0-6].* | 6.[0-6]-*) OLD=landlock-net ;; esac
export OLD

# Programs, so that timeout and & take them as they are:
#   with_conf TEXT COMMAND…    /etc/mvm.conf as given, "none": without one
#   user COMMAND…              as somebody who is in /dev/kvm's group, and nothing else
#   vm LAYERS OPTION…          a VM that may lack these, as a list
write_programs() {
	mkdir bin
	cat >bin/with_conf <<-'SH'
		#!/bin/bash
		text=$1
		shift
		rm -rf etc
		mkdir etc
		cp /etc/passwd /etc/group /etc/hosts /etc/ld.so.cache etc/
		[ "$text" = none ] || printf '%b' "$text" >etc/mvm.conf
		exec unshare -m sh -c 'mount --bind "$PWD/etc" /etc && exec "$@"' sh "$@"
	SH
	cat >bin/user <<-'SH'
		#!/bin/bash
		exec setpriv --reuid 12345 --regid 12345 --groups "$(stat -c %g /dev/kvm)" env -u XDG_RUNTIME_DIR "$@"
	SH
	cat >bin/vm <<-'SH'
		#!/bin/bash
		layers=$1
		shift
		[ -z "$OLD" ] || layers=$layers${layers:+,}$OLD
		exec run ${layers:+--allow-missing="$layers"} "$@"
	SH
	chmod 755 bin/*
	PATH=$PWD/bin:$PATH
}

# Where no test can be made it says so; the lab always can.
possible() {
	[ "$(id -u)" -eq 0 ] || { echo "SKIP needs root, to load a profile"; return 1; }
	[ "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" = Y ] || { echo "SKIP AppArmor is off"; return 1; }
	[ -d /sys/kernel/security/apparmor ] || mount -t securityfs securityfs /sys/kernel/security || die "no securityfs"
	command -v apparmor_parser >/dev/null || die "no apparmor_parser"
	trap 'kill $(jobs -p) 2>/dev/null; unload; [ ! -e /etc/apparmor.d/mvm-vmm ] || apparmor_parser -K -r /etc/apparmor.d/mvm-vmm' EXIT
	unload
	write_programs
}

# load [OPTION…]
load() {
	apparmor_parser -K -r "$@" "$profile" || die "the profile is refused"
}

unload() {
	apparmor_parser -K -R "$profile" 2>/dev/null || true
}

# A VM in the background, of `COMMAND… OPTION… --`: $cli, $vmm, $id. Ended by stop_vm.
start_vm() {
	"$@" sh -c 'echo ready; sleep 600' >vm.out 2>vm.err &
	cli=$!
	for _ in $(seq 3000); do
		! grep -q ready vm.out || break
		kill -0 "$cli" 2>/dev/null || die "no VM: $(cat vm.out vm.err)"
		sleep 0.02
	done
	vmm=$(pgrep -P "$(pgrep -P "$cli" -x mvm-supervisor)")
	id=$(basename "$(dirname "$(grep -l "\"vmm\":$vmm," /run/mvm/*/state.json /tmp/mvm-12345/*/state.json 2>/dev/null)")")
}

stop_vm() {
	kill -TERM "$cli"
	wait "$cli" || true
	equal "$(grep -c fault vm.err)" 0
}

# inspect [PROGRAM…]: what it says, to such a one
inspect() {
	expect 0 "$@" "$mvm" inspect "$id" --security --format json
}

layer() {
	jq -r ".security.layers[] | select(.name == \"lsm\") | $1" stdout
}

# What the kernel logged of the profile since the mark, but for its being loaded.
mark() {
	mark=mvm-test-$RANDOM$RANDOM
	echo "$mark" >/dev/kmsg
}

logged() {
	dmesg | sed -n "/$mark/,\$p" | grep 'apparmor=.*mvm-vmm' | grep -v 'operation="profile_'
}

guest='
import os, socket, sys
os.write(os.open("/dev/vdb", os.O_WRONLY), b"written")
os.sync()
print(os.read(os.open("/dev/vdc", os.O_RDONLY), 4096) == bytes(4096), sys.stdin.readline().strip())
for port in 500, 501, 502:
    s = socket.socket(socket.AF_VSOCK)
    s.connect((2, port))
    s.sendall(b"x%d" % port)
    print(s.recv(100).decode())
    s.close()
'
servers='
import os, socket, threading
def serve(s):
    while True:
        c = s.accept()[0]
        while data := c.recv(65536):
            c.sendall(data)
        c.close()
u = socket.socket(socket.AF_UNIX)
u.bind("echo.sock")
u.listen(16)
four = socket.create_server(("127.0.0.1", 0))
six = socket.create_server(("::1", 0), family=socket.AF_INET6)
for s in u, six:
    threading.Thread(target=serve, args=(s,), daemon=True).start()
open("ports.new", "w").write("%d %d\n" % (four.getsockname()[1], six.getsockname()[1]))
os.rename("ports.new", "ports")
serve(four)
'
# Runs its arguments with a socket of each kind as standard input and output, tells it something and hears it back.
through_sockets='
import socket, subprocess, sys
def pair(family, address):
    listener = socket.socket(family)
    listener.bind((address, 0))
    listener.listen(1)
    ours = socket.create_connection(listener.getsockname()[:2])
    return ours, listener.accept()[0]
for ours, theirs in socket.socketpair(), pair(socket.AF_INET, "127.0.0.1"), pair(socket.AF_INET6, "::1"):
    with subprocess.Popen(sys.argv[1:], stdin=theirs, stdout=theirs) as p:
        theirs.close()
        ours.sendall(b"hello\n")
        ours.shutdown(socket.SHUT_WR)
        got = b""
        while data := ours.recv(100):
            got += data
    print(p.returncode, got.decode().strip())
'

# All that a VMM may be handed: disks of both kinds, a console file, streams, ports that its supervisor dials. Nothing of
# it is denied.
test_a_vm_with_everything() {
	possible || return 0
	command -v python3 >/dev/null || die "no python3"
	load
	truncate -s 1M rw.img ro.img
	python3 -c "$servers" &
	for _ in $(seq 500); do [ ! -s ports ] || break; sleep 0.02; done
	read -r four six <ports
	mark
	echo "a line" >in
	expect 0 bash -c 'exec "$@" <in' bash debian ${OLD:+--allow-missing=$OLD} -i -c 2 --disk rw.img --disk ro.img,ro --console console \
		--receipt r.json --allow-port 500=unix:echo.sock --allow-port "501=tcp:127.0.0.1:$four" --allow-port "502=tcp:[::1]:$six" \
		-- python3 -c "$guest"
	equal "$(echo "$out" | tr '\n' ' ')" "True a line x500 x501 x502 "
	equal "$(head -c 7 rw.img)" written
	[ -s console ] || die "nothing on the console"
	equal "$(jq -r '[.verdict, (.isolation.missing - ["landlock-net"] | length), (.isolation.in_force | index("lsm") != null)] | join(" ")' r.json)" \
		"exited 0 true"
	expect 0 python3 -c "$through_sockets" vm "" -i -- cat
	equal "$out" $'0 hello\n0 hello\n0 hello'
	equal "$(logged)" ""
}

test_inspected() {
	possible || return 0
	local task
	load
	mark
	start_vm vm "" -c 2 --
	inspect
	equal "$(layer '"\(.state) \(.required) \(.measure) \(.found)"')" "ok true R66 AppArmor: mvm-vmm (enforce)"
	equal "$(jq -r .security.read.lsm stdout)" "mvm-vmm (enforce)"
	for task in "/proc/$vmm/task"/*; do
		equal "$(cat "$task/attr/apparmor/current")" "mvm-vmm (enforce)"
	done
	# who asked whether the profile is there stayed what it was
	equal "$(cat "/proc/$(pgrep -P "$cli" -x mvm-supervisor)/attr/apparmor/current")" "$(cat /proc/self/attr/apparmor/current)"
	expect 0 "$mvm" inspect "$id" --security
	grep -Eq '^lsm +ok +.*mvm-vmm \(enforce\)' stdout || die "$out"
	stop_vm
	equal "$(logged)" ""
}

test_an_ordinary_users() {
	possible || return 0
	local sysctl=kernel.apparmor_restrict_unprivileged_unconfined had
	load
	mark
	start_vm user vm cgroup -c 2 --
	equal "$(cat "/proc/$vmm/attr/apparmor/current")" "mvm-vmm (enforce)"
	inspect user
	equal "$(layer '"\(.state) \(.found)"')" "ok AppArmor: mvm-vmm (enforce)"
	stop_vm
	equal "$(logged)" ""
	expect 0 user "$mvm" doctor
	grep -Eq '^lsm +ok +AppArmor, with the profile mvm-vmm' stdout || die "$out"
	load -C
	refused lsm "forbids nothing" aa-enforce -- with_conf 'allow-missing =\n' user vm cgroup -- true
	load
	expect 0 with_conf 'allow-missing =\n' user vm cgroup -- true
	# where the processes of such users leave no confinement, but add one
	had=$(sysctl -n $sysctl 2>/dev/null) || return 0
	sysctl -qw $sysctl=1
	mark
	start_vm user vm cgroup -c 2 --
	sysctl -qw $sysctl="$had"
	case $(cat "/proc/$vmm/attr/apparmor/current") in
	"mvm-vmm//&unconfined (enforce)" | "unconfined//&mvm-vmm (enforce)") ;;
	*) die "$(cat "/proc/$vmm/attr/apparmor/current")" ;;
	esac
	inspect user
	equal "$(layer .state)" ok
	stop_vm
	equal "$(logged | grep DENIED)" ""
}

test_not_loaded() {
	possible || return 0
	local who layers
	mark
	for who in env user; do # env: as root
		layers=
		[ $who = env ] || layers=cgroup
		# by default it goes on, and says so
		expect 0 with_conf none $who vm "$layers" --receipt /tmp/r.$who -- true
		equal "$(jq -c '[.isolation.missing[] | select(. == "lsm")]' /tmp/r.$who)" '["lsm"]'
		expect 0 with_conf 'uid-range = 1900000000-1900065535\n' $who vm "$layers" -- true
		# where it is demanded it does not
		refused jail lsm "sudo apparmor_parser -r /etc/apparmor.d/mvm-vmm" --allow-missing=lsm -- \
			with_conf 'allow-missing =\n' $who vm "$layers" -- true
		refused lsm "not loaded" -- with_conf 'allow-missing = landlock-net,cgroup # not lsm\n' $who vm "" -- true
		# and goes on again where it was named
		expect 0 with_conf 'allow-missing =\n' $who vm "lsm${layers:+,$layers}" --receipt /tmp/r.$who -- true
		jq -e '.isolation | (.missing | index("lsm")) and (.in_force | index("lsm") | not)' /tmp/r.$who >/dev/null || die "$(jq .isolation /tmp/r.$who)"
		expect 0 with_conf 'allow-missing = lsm,landlock-net,cgroup\n' $who vm "" -- true
		rm -f /tmp/r.$who
	done
	# nobody's log fills with VMs that start without it
	equal "$(logged)" ""
	start_vm vm "" --
	inspect
	equal "$(layer '"\(.state) \(.allowed)"')" "missing true"
	equal "$(jq -r '"\(.security.read.lsm) \(.security.holds)"' stdout)" "unconfined true"
	stop_vm
	expect 0 "$mvm" doctor
	grep -Eq '^lsm +warning +.*not loaded; remedy: sudo apparmor_parser -r /etc/apparmor.d/mvm-vmm$' stdout || die "$out"
	# it is asked for anew each time
	load
	expect 0 with_conf 'allow-missing =\n' vm "" -- true
}

test_complain_mode_forbids_nothing() {
	possible || return 0
	load -C
	refused lsm "forbids nothing" aa-enforce -- with_conf 'allow-missing =\n' vm "" -- true
	expect 0 with_conf none vm "" --receipt r.json -- true
	jq -e '.isolation.missing | index("lsm")' r.json >/dev/null || die "$(jq .isolation r.json)"
	expect 0 "$mvm" doctor
	grep -Eq '^lsm +warning +.*forbids nothing; remedy: sudo aa-enforce mvm-vmm' stdout || die "$out"
}

# Nobody has to mount it.
test_without_securityfs() {
	possible || return 0
	local without='umount -l /sys/kernel/security; exec "$@"'
	refused lsm "not loaded" -- with_conf 'allow-missing =\n' unshare -m sh -c "$without" sh vm "" -- true
	load
	expect 0 with_conf 'allow-missing =\n' unshare -m sh -c "$without" sh vm "" -- true
	expect 0 with_conf 'allow-missing =\n' unshare -m sh -c "$without" sh user vm cgroup -- true
}

# What the caller may not change into is missing, and said so.
test_a_caller_that_is_confined() {
	possible || return 0
	load
	echo 'profile mvm-test-caller flags=(attach_disconnected) {
		file, capability, network, mount, umount, pivot_root, signal, ptrace, dbus, unix,
	}' >caller
	apparmor_parser -K -r caller || die "the caller's profile"
	refused lsm "change_profile -> mvm-vmm," -- with_conf 'allow-missing =\n' aa-exec -p mvm-test-caller -- vm "" -- true
	expect 0 with_conf none aa-exec -p mvm-test-caller -- vm "" --receipt r.json -- true
	jq -e '.isolation.missing | index("lsm")' r.json >/dev/null || die "$(jq .isolation r.json)"
	apparmor_parser -K -R caller
}

# The profile by itself, around a static program that is in no jail: all of it succeeds, and nothing of it in the profile.
test_what_it_denies() {
	possible || return 0
	local box=/bin/busybox what victim
	[ -x $box ] || die "no static busybox"
	load
	echo secret >file
	mkdir mnt
	sleep 600 &
	victim=$!
	while read -r what; do
		# shellcheck disable=SC2086 # words
		timeout 20 $box ${what//VICTIM/$victim} >plain 2>&1 </dev/null || die "$what fails anyway: $(cat plain)"
		rm -rf made link
		umount mnt 2>/dev/null
		# shellcheck disable=SC2086
		! timeout 20 aa-exec -p mvm-vmm -- $box ${what//VICTIM/$victim} >confined 2>&1 </dev/null ||
			die "$what was let through: $(cat confined)"
		grep -Eiq 'denied|not permitted' confined || die "$what failed for another reason: $(cat confined)"
	done <<-'END'
		cat file
		ls .
		touch made
		mkdir made
		ln file link
		chmod 600 file
		chown 1:1 file
		kill -CONT VICTIM
		env /bin/busybox true
		nsenter -t VICTIM -n /bin/busybox true
		mount -t tmpfs none mnt
		unshare -n /bin/busybox true
		ip link
		ping -c 1 127.0.0.1
		chroot / /bin/busybox true
	END
	kill -0 $victim || die "it was killed"
	# what it may do: answer on what it has, and end
	equal "$(aa-exec -p mvm-vmm -- $box echo fine)" fine
	# no program of the host's: not even its libraries are found; and none is started
	! aa-exec -p mvm-vmm -- /bin/true 2>confined || die "/bin/true ran"
	! aa-exec -p mvm-vmm -- $box sh -c /bin/true 2>confined || die "a shell started /bin/true"
	grep -qi denied confined || die "$(cat confined)"
}
