# shellcheck shell=bash
# For the cases that want guests without VMs: a network namespace in each one's place (tests/e2e/member.c), in the world of
# tests/e2e/world.sh.

# A host with nothing but a network of its own, and namespaces for that many guests: g1, g2 …
guests() {
	local n
	[ -x "$(dirname "$mvm")/member" ] || { echo "SKIP not built: make $(dirname "$mvm")/member"; return 1; }
	make_internet || return 1
	install -d -m 700 /run/mvm # as mvm run has it
	trap 'end_guests; end_world' EXIT
	# shellcheck disable=SC2016 # expanded by that shell
	as_host=(nsenter --net="/run/netns/$here" unshare -m --propagation slave
		sh -c 'mount --bind "$0" /etc/resolv.conf; [ ! -d policy ] || mount --bind policy /etc/mvm; exec "$@"' "$PWD/resolv.conf")
	for ((n = 1; n <= $1; n++)); do
		ip netns add "g$n"
		ip -n "g$n" link set lo up
		ip netns exec "g$n" sysctl -qw net.ipv4.ping_group_range="0 2147483647"
	done
}

end_guests() {
	local file n
	for file in pid.*; do [ ! -e "$file" ] || kill "$(cat "$file")" 2>/dev/null; done
	until_so no_holder
	for n in $(ip netns list | awk '/^g[0-9]+/ { print $1 }'); do
		ip netns pids "$n" | xargs -r kill
		ip netns del "$n"
		rm -rf "/etc/netns/$n"
	done
	"$mvm" network ls --format json | jq -r '.[].name' | xargs -r "$mvm" network rm
	# of members that were killed: no folder names it, as a supervisor's does
	find /sys/fs/cgroup -maxdepth 6 -name 'mvm-00000*-net' -exec rmdir {} + 2>/dev/null
}

# A process that has ended may wait for whoever became its parent.
no_holder() {
	local pid
	for pid in $(pgrep -x mvm-net); do
		grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null || return 1
	done
}

# The first of its processes.
holder() {
	local pid
	for pid in $(pgrep -x mvm-net); do
		grep -q '^State:.Z' "/proc/$pid/status" && continue
		grep -q '^NSpid:.*[[:space:]]1$' "/proc/$pid/status" && echo "$pid" && return
	done
}

# join GUEST OPTION=VALUE…: the guest's own word is in said.GUEST; its addresses in $ip and $ip6. $member: another copy of the
# stand-in, with another installation of mvm beside it. A folder `policy` here is its /etc/mvm. $nofile: descriptors.
join() {
	local guest=$1
	shift
	rm -f "said.$guest"
	prlimit --nofile="${nofile:-$(ulimit -Hn)}" "${as_host[@]}" "${member:-$(dirname "$mvm")/member}" "$guest" "$@" >"said.$guest" 2>&1 &
	echo $! >"pid.$guest"
	until_so grep -qE '^(ready|failed)' "said.$guest"
	read -r _ ip ip6 <"said.$guest"
}

joined() {
	join "$@"
	grep -q ^ready "said.$1" || die "$*: $(cat "said.$1")"
}

leave() {
	kill "$(cat "pid.$1")"
	until_so sh -c "! kill -0 $(cat "pid.$1")"
	rm "pid.$1"
}

# Echo servers at port 7 of all that the guest has.
echoes() {
	rm -f "echoes.$1"
	ip netns exec "$1" python3 -c '
import selectors, socket
sel = selectors.DefaultSelector()
for family in socket.AF_INET, socket.AF_INET6:
    for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM:
        s = socket.socket(family, kind)
        if family == socket.AF_INET6:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.bind(("", 7))
        if kind == socket.SOCK_STREAM:
            s.listen(100)
        sel.register(s, 1, kind)
print("up", flush=True)
while True:
    for key, _ in sel.select():
        if key.data == socket.SOCK_STREAM:
            c, peer = key.fileobj.accept()
            c.sendall(peer[0].encode())
            c.close()
        else:
            data, peer = key.fileobj.recvfrom(2000)
            key.fileobj.sendto(data, peer)
' >"echoes.$1" 2>&1 &
	until_so grep -q up "echoes.$1"
}

# made_up_errors GUEST TO PORT OTHER FIRST LAST: it sends TO errors (host unreachable) about datagrams of TO:PORT for OTHER, at each
# port from FIRST to before LAST.
made_up_errors() {
	local guest=$1
	shift
	expect 0 ip netns exec "$guest" python3 -c '
import socket, struct, sys, time
to, port, other, first, last = sys.argv[1:]
def checksum(data):
    n = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    n = (n & 0xffff) + (n >> 16)
    return struct.pack("!H", ~(n + (n >> 16)) & 0xffff)
def header(n):
    h = struct.pack("!BBHHHBBH", 0x45, 0, 20 + n, 0, 0, 64, socket.IPPROTO_UDP, 0) + socket.inet_aton(to) + socket.inet_aton(other)
    return h[:10] + checksum(h) + h[12:]
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
for n in range(int(first), int(last)):
    data = struct.pack("!BBHI", 3, 1, 0, 0) + header(20) + struct.pack("!HHHH", int(port), n, 20, 0) + b"made up here"
    s.sendto(data[:2] + checksum(data) + data[4:], (to, 0))
    if n % 64 == 0:
        time.sleep(0.002) # the tap holds so many
' "$@"
}

# rows GUEST ROW…: a row is "KIND ADDRESS-OR-NAME PORT yes|no", of what the guest tries.
rows() {
	local guest=$1 rows="" want="" kind to port may
	shift
	for row in "$@"; do
		read -r kind to port may <<<"$row"
		rows+="${rows:+,}$kind $to $port"
		want+="$kind $to $port $may"$'\n'
	done
	limit=120 expect 0 ip netns exec "$guest" python3 -c "$probe" "$rows"
	[ "$out"$'\n' = "$want" ] || die "$guest: $(diff <(echo "$out") <(printf %s "$want")) $(cat "said.$guest")"
}
