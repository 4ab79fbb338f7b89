# mvm under a service manager: what it tells it, and the unit that make install puts there.

# A manager's socket at $1; a datagram a line (its line feeds as spaces) in the file `told`.
manager() {
	cat >manager.py <<-'PY'
		import socket, sys
		name = sys.argv[1]
		s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
		s.bind("\0" + name[1:] if name[0] == "@" else name)
		out = open("told", "w")
		print("ready", file=out, flush=True)
		while True:
		    print(s.recv(4096).decode().replace("\n", " "), file=out, flush=True)
	PY
	python3 manager.py "$1" &
	manager=$!
	trap 'kill $manager; kill -KILL $vm 2>/dev/null' EXIT
	vm=$$.none
	until_so grep -q ready told
}

test_notifies() {
	command -v python3 >/dev/null || { echo "SKIP no python3 on this machine"; return; }
	manager "$PWD/socket"
	NOTIFY_SOCKET=$PWD/socket run -- sh -c 'env | grep -c NOTIFY; exit 3' >out 2>err
	equal "$?" 3
	equal "$(cat out)" 0
	until_so grep -q READY=1 told
	equal "$(grep -cE '^READY=1 STATUS=VM [0-9a-f]{12} runs$' told)" 1
	! grep -q WATCHDOG told || die "nobody asked for a watchdog: $(cat told)"
	# A manager that has gone is said once, and ends nothing.
	NOTIFY_SOCKET=$PWD/nobody expect 0 run -- true
	equal "$(wc -l <stderr)" 1
	case $err in *NOTIFY_SOCKET*) ;; *) die "$err" ;; esac
	# Further commands tell nobody.
	expect 0 detached --name entered -- sleep 100
	NOTIFY_SOCKET=$PWD/socket expect 0 "$mvm" exec entered -- true
	"$mvm" rm -f entered
	equal "$(grep -c READY=1 told)" 1
}

# The watchdog is answered for the VM: no answer of its I/O loop, no WATCHDOG=1.
test_watchdog() {
	command -v python3 >/dev/null || { echo "SKIP no python3 on this machine"; return; }
	manager "@mvm-test-$$"
	NOTIFY_SOCKET=@mvm-test-$$ WATCHDOG_USEC=400000 run --name watched -- sleep 1000 2>err &
	vm=$!
	until_so sh -c '[ "$(grep -c WATCHDOG=1 told)" -gt 5 ]'
	local vmm before
	vmm=$("$mvm" ps --format json | jq -r '.[] | select(.name == "watched") | .vmm')
	kill -STOP "$vmm"
	# One answer may be on its way; then there are none, though pings go on for a second.
	sleep 0.3
	before=$(grep -c WATCHDOG=1 told)
	sleep 1
	equal "$(grep -c WATCHDOG=1 told)" "$before"
	kill -CONT "$vmm"
	until_so sh -c "[ \"\$(grep -c WATCHDOG=1 told)\" -gt $((before + 2)) ]"
	# Paused on purpose it is well.
	"$mvm" pause watched
	before=$(grep -c WATCHDOG=1 told)
	until_so sh -c "[ \"\$(grep -c WATCHDOG=1 told)\" -gt $((before + 2)) ]"
	"$mvm" resume watched
	kill -TERM $vm
	until_so grep -q STOPPING=1 told
	wait $vm
	equal "$?" 143
	"$mvm" rm watched
	# a number that is none, and another process's
	for bad in "WATCHDOG_USEC=x" "WATCHDOG_USEC=400000 WATCHDOG_PID=1"; do
		before=$(grep -c WATCHDOG=1 told)
		# shellcheck disable=SC2086 # two words
		NOTIFY_SOCKET=@mvm-test-$$ expect 0 env $bad "$work_bin" run --rootfs "$small/small.ext4" -m 96M -- sleep 1
		equal "$(grep -c WATCHDOG=1 told)" "$before"
	done
}
work_bin=$mvm

unit_set_up() {
	[ "$(cat /proc/1/comm)" = systemd ] && [ "$(id -u)" = 0 ] || { echo "SKIP systemd is not pid 1 here, or not ours to command"; exit 0; }
	# The unit sees no home, /tmp or /root, where this tree may lie.
	place=/srv/mvm-e2e
	mkdir -p "$place" && mount --bind "$top" "$place" || die "no place for the unit to see"
	sed "s|@PREFIX@/bin/mvm|${mvm/#$top/$place}|" "$top/tools/systemd/mvm@.service" >/run/systemd/system/mvm@.service
	mkdir -p /etc/mvm "/run/systemd/system/mvm@e2e.service.d"
	# shellcheck disable=SC2089
	printf '{"rootfs": "%s", "memory": "96m", "args": ["sh", "-c", "trap \\"exit 0\\" TERM; while :; do sleep 0.1; done"]}\n' \
		"${small/#$top/$place}/small.ext4" >/etc/mvm/e2e.json
	chmod 600 /etc/mvm/e2e.json # the unit's user need not read it
	trap 'systemctl kill -s KILL mvm@e2e; systemctl stop mvm@e2e; systemctl reset-failed mvm@e2e; umount "$place"; rmdir "$place"; rm -rf /etc/mvm /run/systemd/system/mvm@*' EXIT
}

property() {
	systemctl show -P "$1" mvm@e2e
}

unit_vmm() {
	cat /sys/fs/cgroup/system.slice/system-mvm.slice/mvm@e2e.service/mvm-*/cgroup.procs
}

test_unit() {
	unit_set_up
	systemctl daemon-reload
	systemctl start mvm@e2e || die "$(journalctl -u mvm@e2e --no-pager | tail -20)"
	equal "$(property ActiveState) $(property SubState)" "active running"
	case $(property StatusText) in "VM "*" runs") ;; *) die "$(property StatusText)" ;; esac
	local vmm
	vmm=$(unit_vmm)
	equal "$(cat "/proc/$vmm/comm")" mvm-vmm
	[ "$(stat -c %u "/proc/$vmm")" -ne 0 ] || [ "$(awk '/^Uid/ { print $2 }' "/proc/$vmm/status")" -ne 0 ] || die "root's"
	[ "$(cat /sys/fs/cgroup/system.slice/system-mvm.slice/mvm@e2e.service/mvm-*/memory.max)" -lt 200000000 ] || die "no limit"
	until_so sh -c "journalctl -o json MVM_EVENT=started | jq -r ._SYSTEMD_UNIT | grep -q mvm@e2e"
	systemctl stop mvm@e2e
	equal "$(property ActiveState) $(property Result)" "inactive success"
	[ ! -e "/proc/$vmm" ] || die "the VM is still there"
	[ ! -e /run/mvm-e2e ] || die "left behind: $(ls -R /run/mvm-e2e)"
}

test_unit_watchdog() {
	unit_set_up
	printf '[Service]\nWatchdogSec=4\nRestartSec=0\n' >/run/systemd/system/mvm@e2e.service.d/watchdog.conf
	systemctl daemon-reload
	systemctl start mvm@e2e || die "$(journalctl -u mvm@e2e --no-pager | tail -20)"
	local vmm
	vmm=$(unit_vmm)
	kill -STOP "$vmm"
	until_so sh -c '[ "$(systemctl show -P NRestarts mvm@e2e)" -ge 1 ]'
	until_so [ ! -e "/proc/$vmm" ]
	until_so sh -c '[ "$(systemctl show -P SubState mvm@e2e)" = running ]'
	[ "$(unit_vmm)" != "$vmm" ] || die "the same VM"
	systemctl stop mvm@e2e
	equal "$(property ActiveState)" inactive
}

# unit_says URL: what is answered there
unit_says() {
	curl -sf --max-time 30 "$1"
}

# A port whose socket systemd has: its first client starts the VM, which has no network of the host's.
test_unit_socket() {
	unit_set_up
	trap 'systemctl stop mvm@e2e.socket; systemctl kill -s KILL mvm@e2e; systemctl stop mvm@e2e; systemctl reset-failed mvm@e2e; umount "$place"; rmdir "$place"; rm -rf /etc/mvm /run/systemd/system/mvm@*' EXIT
	sed 's/:8080/:8099/' "$top/tools/systemd/mvm@web.socket" >/run/systemd/system/mvm@e2e.socket
	jq '.publish = ["127.0.0.1:8099:80"] | .args = ["sh", "-c", "echo it is the guest >/tmp/index.html; httpd -f -p 127.0.0.1:80 -h /tmp & trap \"kill $!\" TERM; wait"]' \
		/etc/mvm/e2e.json >json && cat json >/etc/mvm/e2e.json
	systemctl daemon-reload
	systemctl start mvm@e2e.socket
	equal "$(property ActiveState)" inactive
	equal "$(unit_says http://127.0.0.1:8099/)" "it is the guest"
	equal "$(property ActiveState)" active
	equal "$(unit_says http://127.0.0.1:8099/)" "it is the guest"
	# The socket stays systemd's: a VM that has ended is started by the next client.
	systemctl stop mvm@e2e
	equal "$(unit_says http://127.0.0.1:8099/)" "it is the guest"
	# One that is published to nothing is an error, not an open port that never answers.
	systemctl stop mvm@e2e.socket mvm@e2e
	jq 'del(.publish)' /etc/mvm/e2e.json >json && cat json >/etc/mvm/e2e.json
	systemctl start mvm@e2e.socket
	unit_says http://127.0.0.1:8099/ && die "answered"
	until_so sh -c 'journalctl -u mvm@e2e --no-pager | grep -q "add -p 127.0.0.1:8099:PORT"'
}

# With the drop-in a VM has --net user, as nobody's user.
test_unit_network() {
	unit_set_up
	trap 'kill "$server"; ip link del mvmout; systemctl kill -s KILL mvm@e2e; systemctl stop mvm@e2e; systemctl reset-failed mvm@e2e; umount "$place"; rmdir "$place"; rm -rf /etc/mvm /run/systemd/system/mvm@*' EXIT
	modprobe -a tun dummy nf_tables nft_ct nft_limit nft_log nft_connlimit nft_masq nft_nat nft_reject_inet nfnetlink_log 2>/dev/null
	chmod 666 /dev/net/tun
	ip link add mvmout type dummy
	ip address add 198.51.100.7/24 dev mvmout
	ip link set mvmout up
	ip route add default via 198.51.100.1 dev mvmout
	mkdir www && echo it is the host >www/index.html
	busybox httpd -f -p 198.51.100.7:8098 -h "$PWD/www" 2>heard & # python3's looks for its own name first
	server=$!
	until_so curl -sf -o /dev/null http://198.51.100.7:8098/
	cp "$top/tools/systemd/network.conf" /run/systemd/system/mvm@e2e.service.d/
	# The host's own address is reached where it is named.
	jq '.net = ["user"] | ."allow-egress" = ["198.51.100.7/32"] | .args = ["sh", "-c", "printf \"GET / HTTP/1.0\\r\\n\\r\\n\" | nc 198.51.100.7 8098; trap \"exit 0\" TERM; while :; do sleep 0.1; done"]' \
		/etc/mvm/e2e.json >json && cat json >/etc/mvm/e2e.json
	systemctl daemon-reload
	systemctl start mvm@e2e || die "$(journalctl -u mvm@e2e --no-pager | tail -20)"
	until_so sh -c 'journalctl -u mvm@e2e --no-pager | grep -q "it is the host"'
	systemctl stop mvm@e2e
	equal "$(property ActiveState) $(property Result)" "inactive success"
	pgrep -f '^pasta ' && die "pasta is still there"
	pgrep -x mvm-net && die "mvm-net is still there"
	true
}

# The unit's sandbox, as systemd itself judges it.
test_unit_exposure() {
	command -v systemd-analyze >/dev/null || { echo "SKIP no systemd-analyze on this machine"; return; }
	sed "s|@PREFIX@/bin/mvm|$mvm|" "$top/tools/systemd/mvm@.service" >"$PWD/mvm@x.service"
	cat "$PWD/mvm@x.service" "$top/tools/systemd/network.conf" >"$PWD/mvm@y.service"
	systemd-analyze security --offline=true --threshold=20 "$PWD/mvm@x.service" >security 2>&1 ||
		die "$(grep -v '✓' security)"
	systemd-analyze security --offline=true --threshold=28 "$PWD/mvm@y.service" >network 2>&1 ||
		die "$(grep -v '✓' network)"
	# Each line that is left open is explained.
	cat security network | grep '^✗' | awk '{ print $2 }' | sed 's/=.*//' | sort -u | while read -r setting; do
		grep -q "$setting" "$top/tools/systemd/README.md" || die "README.md does not explain $setting"
	done || exit 1
}
