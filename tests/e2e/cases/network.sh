# Named networks: who reaches whom, by which names and addresses, and that nothing stays. Most of it without VMs, whose place a
# network namespace has (tests/e2e/member.c).
#
# shellcheck source=tests/e2e/world.sh
. "$top/tests/e2e/world.sh"
# shellcheck source=tests/e2e/guests.sh
. "$top/tests/e2e/guests.sh"

# closed_to_others IP IP6 PORT: neither the host, by whatever device of its own, nor who is outside and has a way to the
# network by the host, which passes on what it can, reaches that member.
closed_to_others() {
	local rows="tcp $1 $3,tcp $2 $3,udp $1 $3,udp $2 $3,ping $1 0,ping $2 0" pid
	ip netns exec "$here" python3 -c "$probe" "$rows" >host
	equal "$(grep -c ' no$' host)" 6
	ip -n "$here" link show other0 >/dev/null 2>&1 || ip -n "$here" link add other0 up type veth peer name other1
	ip -n "$here" address replace 10.66.0.1/24 dev other0
	ip netns exec "$here" python3 -c '
import socket, sys
for to in sys.argv[2:]:
    for device in "v0", "lo", "other0":
        s = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        s.settimeout(2)
        print(device, to, s.connect_ex((to, int(sys.argv[1]))) == 0)
' "$3" "$1" "$2" >host
	equal "$(grep -c ' False$' host)" 6
	ip netns exec "$here" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
	ip -n "$there" route replace "$1" via 203.0.113.2
	ip -n "$there" -6 route replace "$2" via 2001:db8:55::2
	ip netns exec "$here" tcpdump -nni v0 -c 6 "(dst host $1 or dst host $2) and (dst port $3 or icmp or icmp6)" >came 2>&1 &
	pid=$!
	until_so grep -q 'listening on' came
	ip netns exec "$there" python3 -c "$probe" "$rows" >outside
	equal "$(grep -c ' no$' outside)" 6
	until_so grep -q '^6 packets captured' came # they came to the host
	wait $pid
	ip netns exec "$here" sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0
}

# Members reach each other, and neither another network, nor the host, nor what is outside, nor the network itself.
test_internal() {
	local a a6 b b6 other
	guests 3 || return 0
	expect 0 "$mvm" network create inner --internal
	expect 0 "$mvm" network create other
	joined g1 net=inner name=redis
	a=$ip a6=$ip6
	joined g2 net=inner name=app
	b=$ip b6=$ip6
	joined g3 net=other name=third
	other=$ip
	echoes g1
	echoes g2
	rows g2 "tcp $a 7 yes" "tcp $a6 7 yes" "udp $a 7 yes" "udp $a6 7 yes" "ping $a 0 yes" "ping $a6 0 yes" \
		"tcp redis 7 yes" "tcp6 redis 7 yes" "tcp redis.inner 7 yes" "tcp REDIS.Inner 7 yes" "tcp nobody 7 no" "tcp open.example 7 no" \
		"tcp $a 9 no" "tcp ${a%.*}.1 7 no" "tcp ${a%.*}.77 7 no" "tcp $other 7 no" "tcp third.other 7 no" \
		"tcp 198.51.100.1 7 no" "tcp 203.0.113.2 7 no" "tcp 2001:db8:99::1 7 no" "udp 198.51.100.1 53 no"
	rows g1 "tcp $b 7 yes" "tcp app 7 yes" "tcp6 app 7 yes" "tcp $b6 7 yes"
	rows g3 "tcp $a 7 no" "tcp $b 7 no" "tcp redis.inner 7 no" "tcp 198.51.100.1 7 yes"
	closed_to_others "$a" "$a6" 7
	! grep -q . asked 2>/dev/null || [ "$(sort -u asked)" = redis.inner ] || die "asked: $(cat asked)"
	expect 0 "$mvm" network inspect inner --format json
	equal "$(jq -c '[.internal, [.members[] | .name, .ip]]' stdout)" "[true,[\"redis\",\"$a\",\"app\",\"$b\"]]"
	refused "2 VMs are on it" "redis, app" -- "$mvm" network rm inner
	leave g1
	grep -qE '^traffic [1-9][0-9]* out, [1-9][0-9]* in, [1-9][0-9]* flows, [1-9][0-9]* begun' said.g1 || die "$(cat said.g1)"
	rows g2 "tcp $a 7 no" "tcp redis 7 no"
	joined g1 net=inner name=redis
	[ "$ip" != "$a" ] || die "an address was given away at once: $ip"
	rows g2 "tcp $ip 7 yes" "tcp redis 7 yes"
	leave g1
	leave g2
	leave g3
	until_so no_holder
	expect 0 "$mvm" network rm inner other
	equal "$(ls /run/mvm/networks)" ""
}

# What a member sends by another's address goes nowhere.
test_spoofed() {
	local a b b6
	guests 3 || return 0
	expect 0 "$mvm" network create inner --internal
	joined g1 net=inner
	a=$ip
	joined g2 net=inner
	b=$ip b6=$ip6
	joined g3 net=inner
	echoes g1
	rows g3 "tcp $a 7 yes"
	ip -n g3 address add "$b/32" dev eth0
	ip -n g3 address add "$b6/128" dev eth0 nodad
	ip netns exec g3 python3 -c '
import socket, sys
for own, to in (sys.argv[1], sys.argv[3]), (sys.argv[2], sys.argv[4]):
    s = socket.socket(socket.AF_INET6 if ":" in own else socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((own, 0))
    s.settimeout(1)
    for i in range(5):
        s.sendto(b"x", (to, 7))
    try:
        s.recv(10)
        print("answered")
    except TimeoutError:
        pass
' "$b" "$b6" "$a" "${b6%:*}:2" >spoof
	equal "$(cat spoof)" ""
	ip -n g3 address del "$b/32" dev eth0
	# a SYN with data, with options of IP, one that ends at the gateway: conntrack and what is behind it would differ
	ip netns exec g3 python3 -c '
import socket, struct, sys
own, to = (socket.inet_aton(a) for a in sys.argv[1:])
def syn(port, data):
    tcp = struct.pack("!HHIIBBHHH", port, 7, 1, 0, 5 << 4, 2, 1024, 0, 0) + data
    whole = own + to + struct.pack("!HH", 6, len(tcp)) + tcp + b"\0" * (len(tcp) % 2)
    total = sum(struct.unpack("!%dH" % (len(whole) // 2), whole))
    total = (total & 0xffff) + (total >> 16)
    total = ~((total & 0xffff) + (total >> 16)) & 0xffff
    return tcp[:16] + struct.pack("!H", total) + tcp[18:]
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
s.settimeout(2)
there = (sys.argv[2], 0)
s.sendto(syn(2001, b"x" * 80), there)
s.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"\1\1\1\0")
s.sendto(syn(2002, b""), there)
s.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"")
s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
s.sendto(syn(2003, b""), there)
s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 64)
s.sendto(syn(2004, b""), there)
answered = set()
try:
    while True:
        packet = s.recv(2000)[20:]
        if packet[:2] == b"\0\7":
            answered.add(struct.unpack("!H", packet[2:4])[0])
except TimeoutError:
    pass
print(sorted(answered))
' "$(ip -n g3 -4 -j address show dev eth0 | jq -r '.[0].addr_info[0].local')" "$a" >syns
	equal "$(cat syns)" "[2004]"
	# another device address, and an answer for another by ARP
	ip netns exec g3 python3 -c '
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0x0806))
own = s.getsockname()[4]
for frm in b"\2\0\0\0\0\1", own:
    s.send(b"\xff" * 6 + frm + b"\x08\x06" + b"\0\1\x08\0\6\4\0\2" + own + bytes([10, 209, 0, 2]) + b"\xff" * 6 + bytes([10, 209, 0, 1]))
'
	rows g1 "tcp $b 9 no"
	rows g3 "tcp $a 7 yes"
	leave g3
	grep -qE '^count spoofed ([89]|[1-9][0-9])' said.g3 || die "$(cat said.g3)"
}

# What leaves the network is each member's own policy's; what it refuses is told to that one.
test_egress() {
	local b
	guests 3 || return 0
	expect 0 "$mvm" network create net
	joined g1 net=net name=a
	joined g2 net=net name=b egress=deny allow-egress=open.example:7/tcp "allow-egress=*.wild.example" allow-egress=rebind.example
	b=$ip
	joined g3 net=net name=c egress=deny allow-egress=10.9.8.7 allow-egress=203.0.113.2:8
	echoes g2
	: >heard
	: >asked
	rows g1 "tcp 198.51.100.1 7 yes" "udp 198.51.100.1 7 yes" "ping 198.51.100.1 0 yes" "tcp 2001:db8:99::1 7 yes" "ping 2001:db8:99::1 0 yes" \
		"tcp open.example 7 yes" "tcp6 open.example 7 yes" "tcp alias.example 7 yes" "tcp nobody.net 7 no" "tcp b 7 yes" "tcp $b 7 yes" \
		"tcp 169.254.169.254 7 no" "tcp 168.63.129.16 7 no" "tcp fd00:ec2::254 7 no" "tcp 203.0.113.2 7 no" "tcp 2001:db8:55::2 7 no" \
		"tcp 203.0.113.1 7 no" "tcp 10.9.8.7 7 no" "tcp 192.168.3.3 7 no" "tcp fd99::1 7 no" "tcp 64:ff9b::a09:807 7 no" \
		"udp 192.0.0.9 53 no" "tcp 192.0.0.10 7 no" "tcp 127.0.0.2 9 no" "tcp 10.209.0.1 7 no" "tcp 10.209.0.200 7 no"
	! grep -q nobody asked || die "asked: $(cat asked)"
	rows g2 "tcp a 9 no" "tcp open.example 7 yes" "tcp6 open.example 7 yes" "udp open.example 7 no" "tcp a.wild.example 8 yes" \
		"tcp evil.example 7 no" "tcp rebind.example 7 no" "tcp 198.51.100.2 7 no" "udp 192.0.0.9 53 no"
	! grep -q evil asked || die "asked: $(cat asked)"
	rows g3 "tcp 10.9.8.7 7 yes" "tcp 203.0.113.2 8 yes" "tcp 203.0.113.2 7 no" "tcp 198.51.100.1 7 no" "tcp open.example 7 no" "tcp $b 7 yes"
	! grep -qE ' (169.254.169.254|fd99::1|192.168.3.3|198.51.100.2) ' heard || die "heard: $(cat heard)"
	until_so grep -q 'refused name evil.example name' said.g2
	grep -q 'refused tcp 169.254.169.254:7 metadata' said.g1 || die "$(cat said.g1)"
	! grep -q 169.254 said.g2 said.g3 || die "told to another: $(cat said.g2 said.g3)"
	leave g1
	leave g3
	rows g2 "tcp open.example 7 yes"
	grep -q '^count host' said.g1 || die "$(cat said.g1)"
	grep -q '^count egress' said.g3 || die "$(cat said.g3)"
}

# A server outside that keeps what it accepts: how many there are now is in `held`. Each hears something: Debian 12's pasta gives
# up a connection without a byte after 23 s.
holds() {
	rm -f held
	nsenter --net="/run/netns/$there" python3 -c '
import os, selectors, socket
sel, n = selectors.DefaultSelector(), 0
for a in "198.51.100.1", "2001:db8:99::1":
    s = socket.create_server((a, 9999), family=socket.AF_INET6 if ":" in a else socket.AF_INET, backlog=2000)
    sel.register(s, 1, True)
def tell():
    with open("held.new", "w") as f:
        print(n, file=f)
    os.rename("held.new", "held")
tell()
while True:
    for key, _ in sel.select():
        if key.data:
            c = key.fileobj.accept()[0]
            c.sendall(b"x")
            sel.register(c, 1, False)
            n += 1
        else:
            try:
                if key.fileobj.recv(100):
                    continue
            except OSError:
                pass
            sel.unregister(key.fileobj)
            key.fileobj.close()
            n -= 1
    tell()
' &
	until_so test -e held
}

# hold GUEST ADDRESS N: opens so many, says how many it has, and keeps them until end_guests().
hold() {
	rm -f "holds.$1"
	ip netns exec "$1" python3 -c '
import select, socket, sys, time
to, n = sys.argv[1], int(sys.argv[2])
socks, poll = {}, select.poll()
for i in range(n):
    s = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_STREAM)
    s.setblocking(False)
    s.connect_ex((to, 9999))
    socks[s.fileno()] = s
    poll.register(s, select.POLLOUT)
got, end = 0, time.monotonic() + 8
while time.monotonic() < end and got < n:
    for fd, _ in poll.poll(1000):
        got += not socks[fd].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        poll.unregister(fd)
print(got, flush=True)
time.sleep(1000)
' "$2" "$3" >"holds.$1" 2>&1 &
	until_so grep -q . "holds.$1"
}

# One member takes what it can of what all share, and another finds room.
test_shares() {
	guests 2 || return 0
	expect 0 "$mvm" network create net
	nofile=2048 joined g1 net=net
	joined g2 net=net
	holds
	hold g1 198.51.100.1 1100
	(($(cat holds.g1) > 300 && $(cat holds.g1) < 800)) || die "it has $(cat holds.g1)"
	rows g2 "tcp 198.51.100.1 7 yes"
	hold g2 198.51.100.1 1
	equal "$(cat holds.g2)" 1
	until_so grep -q 'refused tcp 198.51.100.1:9999 flows' said.g1
	! grep -q flows said.g2 || die "$(cat said.g2)"
}

# What a member had open outside ends when it leaves, also where neither side says anything; another's stays.
test_leaving() {
	guests 2 || return 0
	expect 0 "$mvm" network create net
	joined g1 net=net
	joined g2 net=net
	holds
	hold g1 198.51.100.1 20
	hold g1 2001:db8:99::1 20
	hold g2 198.51.100.1 3
	until_so grep -qx 43 held
	leave g1
	until_so grep -qx 3 held
	leave g2
	until_so grep -qx 0 held
}

# A VM's own namespace, --net user, is made of the same parts; here without the VM, too (user.sh has it with).
test_user() {
	local group pid
	guests 2 || return 0
	: >heard
	: >asked
	joined g1 net=user
	# what pasta keeps is counted as long
	pid=$(pgrep -x -n mvm-net)
	equal "$(nsenter -t "$pid" -n sh -c 'cd /proc/sys/net/netfilter && cat nf_conntrack_tcp_timeout_close_wait nf_conntrack_tcp_timeout_fin_wait \
		nf_conntrack_tcp_timeout_max_retrans nf_conntrack_tcp_timeout_unacknowledged' | sort -u)" 7260
	# mvm-net and all that it started is in a cgroup of the VM's own, where there is one to be had
	group=$(printf 'mvm-%012x-net' "$(cat pid.g1)")
	if find /sys/fs/cgroup -maxdepth 6 -name "$group" 2>/dev/null | grep -q .; then
		pid=$(cat pid.g1)
		for _ in 1 2 3; do # the one outside; number 1; pasta
			pid=$(pgrep -P "$pid" | head -n 1)
			grep -q "pids.*/$group\$\|^0::.*/$group\$" "/proc/$pid/cgroup" || die "$pid: $(cat "/proc/$pid/comm" "/proc/$pid/cgroup")"
		done
	fi
	rows g1 "tcp 198.51.100.1 7 yes" "udp 2001:db8:99::1 7 yes" "tcp open.example 7 yes" "tcp 10.9.8.7 7 no" "tcp 203.0.113.2 7 no" \
		"tcp 169.254.169.254 7 no" "tcp 192.0.0.1 7 no"
	joined g2 net=user egress=deny allow-egress=open.example:7/tcp "allow-egress=*.wild.example" allow-egress=rebind.example
	rows g2 "tcp open.example 7 yes" "tcp6 open.example 7 yes" "udp open.example 7 no" "tcp a.wild.example 8 yes" "tcp evil.example 7 no" \
		"tcp rebind.example 7 no" "tcp 198.51.100.2 7 no" "udp 192.0.0.9 53 no" "tcp 192.0.0.1 53 no"
	! grep -q evil asked || die "asked: $(cat asked)"
	until_so grep -q 'refused name evil.example name' said.g2
	leave g1
	leave g2
	grep -q '^count metadata 1' said.g1 || die "$(cat said.g1)"
	grep -q '^count egress' said.g2 || die "$(cat said.g2)"
	until_so no_holder
	equal "$(find /sys/fs/cgroup -maxdepth 6 -name "$group" 2>/dev/null)" ""
}

test_isolated() {
	local a
	guests 2 || return 0
	expect 0 "$mvm" network create apart --isolated
	joined g1 net=apart name=a
	a=$ip
	joined g2 net=apart name=b
	echoes g1
	rows g2 "tcp $a 7 no" "udp $a 7 no" "ping $a 0 no" "tcp $ip6 9 no" "tcp 198.51.100.1 7 yes"
	until_so grep -q "refused tcp $a:7 isolated" said.g2
	leave g2
	grep -q '^count isolated' said.g2 || die "$(cat said.g2)"
}

# A guest between two networks; by each of them it reaches what is there, and out by the first that leads out.
test_two_networks() {
	local a b
	guests 3 || return 0
	expect 0 "$mvm" network create back --internal
	expect 0 "$mvm" network create front
	joined g1 net=back
	a=$ip
	joined g2 net=front
	b=$ip
	joined g3 net=back net=front
	echoes g1
	echoes g2
	rows g3 "tcp $a 7 yes" "tcp $b 7 yes" "tcp 198.51.100.1 7 yes"
	rows g2 "tcp $a 7 no"
	equal "$("$mvm" network ls --format json | jq -c '[.[] | [.name, (.members | length)]] | sort')" '[["back",2],["front",2]]'
}

# As many as there are: all reach each other, and each has its name.
test_many() {
	local n=6 i
	[ -z "${LONG:-}" ] || n=64
	guests $n || return 0
	expect 0 "$mvm" network create crowd --internal
	for ((i = 1; i <= n; i++)); do
		joined "g$i" net=crowd "name=vm$i"
		echoes "g$i"
	done
	for ((i = 1; i <= n; i++)); do
		expect 0 ip netns exec "g$i" python3 -c '
import socket, sys
n, own = int(sys.argv[1]), int(sys.argv[2])
for k in range(1, n + 1):
    if k != own:
        for family in socket.AF_INET, socket.AF_INET6:
            to = socket.getaddrinfo(f"vm{k}", 7, family)[0][4]
            s = socket.create_connection(to[:2], 10)
            assert s.recv(100)
            s.close()
print("all")
' $n "$i"
		equal "$out" all
	done
	equal "$("$mvm" network inspect crowd --format json | jq '.members | length')" "$n"
}

# Whoever is killed, what they leave is no hindrance.
test_ends() {
	local pid who
	guests 2 || return 0
	expect 0 "$mvm" network create net
	for who in member pasta resolver steward; do
		joined g1 net=net name=a
		joined g2 net=net name=b
		pid=$(holder)
		ip netns exec g1 python3 -c '
import socket
for i in range(1500):
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("10.209.0.3", 1000 + i))
for i in range(100):
    socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b"x", ("2001:db8:99::1", 1000 + i))
'
		(($(nsenter -t "$pid" -n cat /proc/sys/net/netfilter/nf_conntrack_count) > 100)) || die "it opened nothing"
		case $who in
		member) kill -KILL "$(cat pid.g1)" ;;
		pasta) pkill -KILL -P "$pid" -f '^pasta' ;;
		resolver) pkill -KILL -P "$pid" -o -x mvm-net ;;
		steward) kill -KILL "$pid" ;;
		esac
		if [ $who = member ]; then
			until_so sh -c "[ \$('$mvm' network inspect net --format json | jq '.members | length') = 1 ]"
			# what it had opened is forgotten, though nobody closed it
			(($(nsenter -t "$pid" -n cat /proc/sys/net/netfilter/nf_conntrack_count) < 5)) || die "its connections stay"
			equal "$(nsenter -t "$pid" -n ip -br link | grep -c ^vm)" 1
			! nsenter -t "$pid" -n nft list ruleset | grep -q _0 || die "rules of one that left"
		else
			until_so grep -q ^over said.g1
			until_so grep -q ^over said.g2
			leave g1
		fi
		leave g2
		rm -f pid.*
		until_so no_holder
	done
	joined g1 net=net
	rows g1 "tcp 198.51.100.1 7 yes"
}

# Whoever is killed while it is all made, at one moment after the other, nothing stays: no process, no namespace, no tap
# or rule (these are the namespace's), no socket or lock; and the next one joins.
test_killed_while_made() {
	local who mode step took before at killed turn=0
	guests 0 || return 0
	command -v bc >/dev/null || { echo "SKIP no bc"; return; }
	expect 0 "$mvm" network create net
	modprobe -a veth bridge nf_tables_arp 2>/dev/null
	ip -n "$here" link add br0 type bridge
	ip -n "$here" address add 10.77.0.1/24 dev br0
	ip -n "$here" link set br0 up
	for mode in net=user "net=user egress=deny allow-egress=open.example" net=net "proxy=true egress=deny allow-egress=open.example" \
		net=bridge=br0,ip=10.77.0.5/24,gw=10.77.0.1; do
		took=$(date +%s%N)
		joined - $mode
		took=$((($(date +%s%N) - took) / 1000000))
		leave -
		until_so no_holder
		until_so on_bridge 0
		before=$(left)
		for who in member mvm-net nft $(case $mode in *bridge*) echo mvm-bridge{,,,} ;; *) echo pasta resolver ;; esac); do
			turn=$((turn % 8 + 1))
			[ "$who" != mvm-bridge ] || turn=$((at = ${at:-0} % 4 + 1))
			for step in ${LONG:+1 2 3 4 5 6 7 8} $([ "${LONG:-}" ] || echo $turn); do # each at another moment
				rm -f said.-
				[ $who != mvm-bridge ] || kill_bridge $((step - 1))
				{ "${as_host[@]}" "$(dirname "$mvm")/member" - $mode >said.- 2>&1 & } 2>/dev/null
				echo $! >pid.-
				[ $who = mvm-bridge ] || sleep "$(bc <<<"scale=3; $took * $step / 8000")"
				case $who in
				member) kill -KILL "$(cat pid.-)" ;;
				resolver) pkill -KILL -n -x mvm-net ;; # the youngest
				mvm-net) pkill -KILL -o -x mvm-net ;;
				mvm-bridge) ;; # that is done
				pasta) pkill -KILL -f '^pasta ' ;; # whose name may be passt.avx2
				*) pkill -KILL -x $who ;;
				esac
				[ $who = member ] || until_so grep -qE '^(ready|failed)' said.-
				kill "$(cat pid.-)" 2>/dev/null
				wait "$(cat pid.-)" 2>/dev/null
				rm pid.-
				until_so no_holder
				until_so on_bridge 0
				until_so eval '! pgrep -x "pas(ta|st)(\.avx2)?|nft|mvm-bridge" >/dev/null'
				equal "$(left)" "$before"
				equal "$("$mvm" network ls --format json | jq -c '[.[] | .members | length]')" "[0]"
				[ $who != mvm-bridge ] || ! grep -q ^failed said.- || killed=yes
			done
		done
	done
	[ "${killed:-}" ] || die "mvm-bridge was never met"
	join - net=net
	leave -
}

# kill_bridge MS: mvm-bridge, which will be there for a few milliseconds, so many after it began.
kill_bridge() {
	rm -f watching
	python3 -c '
import os, sys, time
open("watching", "w")
end, others = time.monotonic() + 20, set()
while time.monotonic() < end and not (os.path.exists("said.-") and os.path.getsize("said.-")):
    for pid in set(os.listdir("/proc")) - others:
        try:
            comm = open(f"/proc/{pid}/comm").read() if pid.isdigit() else ""
        except OSError:
            continue
        if comm == "mvm-bridge\n":
            time.sleep(int(sys.argv[1]) / 1000)
            os.kill(int(pid), 9)
            sys.exit()
        if comm[:-1] not in ("sh", "member", "nsenter", "unshare"): # these become others
            others.add(pid)
' "$1" &
	until_so test -e watching
}

# The ports on br0 that are of members.
on_bridge() {
	[ "$(ip -n "$here" -br link show master br0 | grep -c '^mv')" = "$1" ]
}

# What may be left after the next command: namespaces that a process has or that are mounted, files of networks, sockets.
left() {
	"$mvm" ps -aq
	find /proc/[0-9]*/ns/net -printf '%l\n' 2>/dev/null | sort -u | wc -l
	find /run/mvm -mindepth 1 ! -path /run/mvm/uids
	awk '$8 ~ /mvm/ { print $8 }' /proc/net/unix
	ip netns exec "$here" nft list ruleset
	ip -n "$here" -br link | awk '{ print $1 }'
}

# Who comes while the last one goes, at any moment and killed or not, is on the network; and then nobody is left.
test_races() {
	local w
	guests 0 || return 0
	expect 0 "$mvm" network create busy --internal
	come_and_go() {
		local k pid
		for ((k = 0; k < 5; k++)); do
			"$(dirname "$mvm")/member" - net=busy "name=w$1" >"busy.$1.$k" 2>&1 &
			pid=$!
			until_so grep -qE '^(ready|failed)' "busy.$1.$k"
			if ((RANDOM % 3)); then kill $pid; else kill -KILL $pid; fi
			if ((RANDOM % 2)); then wait $pid; fi
		done
	}
	for w in 1 2 3 4; do come_and_go $w 2>/dev/null & done
	# shellcheck disable=SC2016 # expanded by that shell
	until_so sh -c '[ "$(cat busy.* | grep -cE "^(ready|failed)")" = 20 ]'
	equal "$(cat busy.* | grep -c ^ready)" 20
	until_so no_holder
}

# A member that asks without sense and without end; others are answered, and nothing of it is tracked.
test_questions() {
	local pid resolver
	guests 2 || return 0
	expect 0 "$mvm" network create net
	joined g1 net=net name=a
	joined g2 net=net name=b
	ip netns exec g1 python3 -c '
import os, socket
server = ("10.209.0.1", 53)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(20000):
    s.sendto(os.urandom(i % 1400), server)
    s.sendto(b"\1\2\1\0\0\1\0\0\0\0\0\0\5b" + b"%04d" % (i % 9999) + b"\7example\0\0\1\0\1", server)
    if i % 10 == 0:
        u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        u.sendto(b"x" * 12, server)
        u.close()
print("asked", flush=True)
' >asker 2>&1 &
	pid=$!
	rows g2 "tcp open.example 7 yes" "tcp a 9 no" "udp open.example 7 yes"
	equal "$(ip netns exec g2 getent ahostsv4 a.net | awk 'NR == 1 { print $1 }')" 10.209.0.2
	wait $pid
	grep -q asked asker || die "$(cat asker)"
	equal "$(ip netns exec g2 getent ahostsv4 a.net | awk 'NR == 1 { print $1 }')" 10.209.0.2
	# a type that nobody here reads is passed on, and so is that there is none
	ip netns exec g2 python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
for name in b"\4open\7example", b"\1a\3net", b"\6nobody\3net":
    s.sendto(b"\7\7\1\0\0\1\0\0\0\0\0\0" + name + b"\0\0\x10\0\1", ("10.209.0.1", 53))
    a = s.recv(2000)
    print(a[:2] == b"\7\7", a[2] & 4, a[3] & 15, a[7])
' >types
	equal "$(cat types)" "True 0 0 1
True 4 0 0
True 4 3 0"
	pid=$(holder)
	(($(nsenter -t "$pid" -n cat /proc/sys/net/netfilter/nf_conntrack_count) < 600)) || die "many connections are tracked"
	for resolver in $(pgrep -P "$pid" -x mvm-net); do
		equal "$(awk '/^CapEff:|^CapPrm:|^CapBnd:/ { print $2 }' "/proc/$resolver/status" | sort -u)" 0000000000000000
		equal "$(awk '/^Seccomp:/ { print $2 }' "/proc/$resolver/status")" 2
	done
	equal "$(awk '/^CapEff:/ { print $2 }' "/proc/$pid/status")" 0000000000001000
}

# 64 questions wait for the name server at once, and 16 of a member: four members take all places. Who has most gives one up for a fifth.
test_fair() {
	local n
	guests 5 || return 0
	expect 0 "$mvm" network create net
	for n in 1 2 3 4 5; do joined "g$n" net=net; done
	: >asked
	limit=60 expect 0 python3 -c '
import ctypes, os, select, socket, time
libc, poll, of = ctypes.CDLL(None, use_errno=True), select.poll(), {}
def ask(guest, i, name):
    ns = os.open(f"/run/netns/g{guest}", os.O_RDONLY)
    assert libc.setns(ns, 0x40000000) == 0
    os.close(ns)
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    labels = b"".join(bytes([len(l)]) + l.encode() for l in name.split("."))
    s.sendto(i.to_bytes(2, "big") + b"\1\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1", ("10.209.0.1", 53))
    of[s.fileno()] = s, guest, i
    poll.register(s, select.POLLIN)
def answers(seconds):
    end, got = time.monotonic() + seconds, []
    while time.monotonic() < end:
        for fd, _ in poll.poll(100):
            s, guest, i = of[fd]
            got.append((guest, i, s.recv(2000)[3] & 15))
            poll.unregister(fd)
    return got
for guest in 1, 2, 3, 4:
    for i in range(16):
        ask(guest, i, f"g{guest}x{i}.silent")
end = time.monotonic() + 4
while len(open("asked").readlines()) < 64 and time.monotonic() < end:
    time.sleep(0.01)
ask(1, 16, "one.too.many.silent")
print(*answers(0.5))
ask(5, 0, "open.example")
got = answers(0.5)
print(len(got), [a for a in got if a[0] == 5], [code for guest, i, code in got if guest != 5])
'
	equal "$out" "(1, 16, 2)
2 [(5, 0, 0)] [2]"
}

test_refused() {
	guests 2 || return 0
	expect 0 "$mvm" network create net --subnet 10.77.0.0/29 --subnet6 fd12:3456:789a::/64
	refused "there is one" -- "$mvm" network create net
	refused "overlaps with 10.77.0.0/29 of the network net" -- "$mvm" network create b --subnet 10.0.0.0/8
	refused "overlaps with fd12:3456:789a::/64 of the network net" -- "$mvm" network create b --subnet6 fd12:3456:789a::/48
	ip -n "$here" address add 10.55.1.1/24 dev v0
	refused "overlaps with this host's route to 10.55.1.0/24 (v0)" -- nsenter --net="/run/netns/$here" "$mvm" network create b --subnet 10.55.0.0/16
	refused "not private" -- "$mvm" network create b --subnet 8.8.8.0/24
	refused "not private" -- "$mvm" network create b --subnet6 2001:db8::/64
	refused "write 10.1.2.0/24" -- "$mvm" network create b --subnet 10.1.2.3/24
	refused "8 to 30 bits" -- "$mvm" network create b --subnet 10.1.2.0/31
	for bad in none user tap socket bridge host a/b .. ''; do
		refused "no name" -- "$mvm" network create "$bad"
	done
	refused "no such network" "mvm network ls" -- "$mvm" network rm nix
	refused "no such network" -- "$mvm" network inspect nix
	join g1 net=nix
	grep -q 'no such network.*mvm network create nix' said.g1 || die "$(cat said.g1)"
	joined g1 net=net,ip=10.77.0.5,ip6=fd12:3456:789a::77 name=redis
	equal "$ip $ip6" "10.77.0.5 fd12:3456:789a::77"
	join g2 net=net,ip=10.77.0.5
	grep -q 'ip=10.77.0.5: taken by the VM redis' said.g2 || die "$(cat said.g2)"
	join g2 net=net,ip6=fd12:3456:789a::77
	grep -q 'taken by the VM redis' said.g2 || die "$(cat said.g2)"
	for bad in 10.77.0.0 10.77.0.1 10.77.0.7 10.77.0.8 10.99.0.1; do
		join g2 net=net,ip=$bad
		grep -q "ip=$bad: no address of a VM in 10.77.0.0/29" said.g2 || die "$(cat said.g2)"
	done
	join g2 net=net,mtu=1000
	grep -q 'IPv6 wants 1280' said.g2 || die "$(cat said.g2)"
	refused "leave gw=, gw6= and dns= out" -- run --net net,dns=1.1.1.1 -- true
	refused "is on it already" -- run --net net --net net -- true
	ip -n "$here" route del default
	ip -n "$here" -6 route del default
	leave g1
	until_so no_holder
	join g1 net=net
	grep -q 'no default route' said.g1 || die "$(cat said.g1)"
	# names that nobody could be asked for
	ip -n "$here" route add default via 203.0.113.1
	echo 'nameserver ::1' >resolv.conf
	join g1 net=net egress=deny allow-egress=open.example
	grep -q 'no name server' said.g1 || die "$(cat said.g1)"
	until_so no_holder
	expect 0 "$mvm" network create in --internal
	joined g1 net=in
	join g2 net=in egress=deny
	grep -q 'nothing leads out' said.g2 || die "$(cat said.g2)"
}

# refusal WORD…: why the last one did not join; what helps is among it
refusal() {
	local word
	for word in "$@"; do grep -q "^failed .*$word" said.- || die "'$word' is not said: $(cat said.-)"; done
	equal "$(wc -l <said.-)" 1
}

# changed SCRIPT [OPTION…]: who joins as the user 12345 on a host that this shell program has changed before.
changed() {
	local as_host=("${as_host[@]}" sh -c "$1"' && exec "$@"' sh)
	join - "${@:2}" as=12345
	until_so no_holder
}

# No device, a device that is not ours or none, no namespace: each with the command that helps.
test_not_allowed() {
	local how
	guests 0 || return 0
	ip -n "$here" tuntap add dev tap0 mode tap user 0
	mkdir empty
	: >none && chmod 000 none
	for how in net=user net=tap=tap0; do
		changed "mount --bind '$PWD/empty' /dev/net" $how
		refusal "/dev/net/tun: No such file or directory" "modprobe tun"
		changed "mount --bind '$PWD/none' /dev/net/tun" $how
		refusal "/dev/net/tun: Permission denied" "chmod 666 /dev/net/tun"
		changed "mount --bind /dev/null /dev/net/tun" $how
		refusal "/dev/net/tun: .*Inappropriate" "mknod -m 666 /dev/net/tun c 10 200"
	done
	changed : net=tap=tap0
	refusal "tap=tap0: not yours" "ip tuntap del dev tap0 mode tap && ip tuntap add dev tap0 mode tap user 12345 && ip link set tap0 up"
	changed : net=tap=tap1
	refusal "no such device" "ip tuntap add dev tap1 mode tap user 12345 && ip link set tap1 up"
	# what that says helps
	ip netns exec "$here" sh -c 'ip tuntap del dev tap0 mode tap && ip tuntap add dev tap0 mode tap user 12345 && ip link set tap0 up'
	changed : net=tap=tap0
	grep -q ^ready said.- || die "$(cat said.-)"
	leave -
	# a user namespace with all ids as outside, in which there may be no other
	as_host+=(sh -c '
		unshare --user sh -c '\''read -r _; exec "$@"'\'' sh "$@" <&3 &
		until [ "$(readlink "/proc/$!/ns/user")" != "$(readlink /proc/self/ns/user)" ]; do sleep 0.05; done
		echo 0 0 4294967295 >"/proc/$!/gid_map" && echo 0 0 4294967295 >"/proc/$!/uid_map" && echo >&3
		wait' sh)
	mkfifo go
	exec 3<>go
	changed 'echo 0 >/proc/sys/user/max_user_namespaces' net=user
	refusal "no user namespace" "sysctl -w user.max_user_namespaces=65536"
}

# ---- with VMs ----

internet() {
	make_internet || return 1
	trap 'remove_all; until_so no_holder; "$mvm" network ls --format json | jq -r ".[].name" | xargs -r "$mvm" network rm; end_world' EXIT
}

ask_redis='
import socket, sys, time
def ask(to, words):
    c = socket.create_connection((to, 6379), 5)
    c.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in words))
    return c.recv(100).decode().strip(":\r\n")
for to in sys.argv[1:]:
    try:
        print(to, ask(to, ["INCR", "asked"]))
    except OSError as e:
        print(to, "no")
'

redis_up() {
	"${on_host[@]}" run -d --name "redis$$" --rootfs "$img" -m 256M --net back "$@" -- \
		redis-server --protected-mode no --bind 0.0.0.0 :: --save "" >/dev/null || die "no redis"
	until_so sh -c "'$mvm' logs redis$$ | grep -q 'Ready to accept'"
}

# redis in one VM serves a program in another, by name; a third on another network, the host and who is outside do not reach it.
test_redis() { # with a VM
	local ip ip6
	internet || return 0
	expect 0 "$mvm" network create back --internal
	expect 0 "$mvm" network create other
	redis_up
	expect 0 "$mvm" network inspect back --format json
	ip=$(jq -r '.members[0].ip' stdout) ip6=$(jq -r '.members[0].ip6' stdout)
	limit=120 expect 0 "${on_host[@]}" run --name "app$$" --rm --rootfs "$img" -m 256M --net back --receipt app.json -- python3 -c "$ask_redis" "redis$$" "redis$$.back" "$ip" "$ip6"
	equal "$out" "redis$$ 1
redis$$.back 2
$ip 3
$ip6 4"
	equal "$(jq -c '[.egress.refused.egress, .egress.refused.spoofed]' app.json)" '[0,0]'
	limit=120 expect 0 "${on_host[@]}" run --rootfs "$img" -m 256M --net other --receipt other.json -- python3 -c "$ask_redis" "redis$$" "redis$$.back" "$ip" "$ip6"
	equal "$(grep -c ' no$' stdout)" 4
	equal "$(jq -c '[.egress.refused.private >= 1, .egress.policy]' other.json)" '[true,"allow"]'
	jq -e --arg to "tcp $ip:6379" '.egress.refused_to[] | select(.to == $to)' other.json >/dev/null || die "$(jq -c .egress other.json)"
	closed_to_others "$ip" "$ip6" 6379
	# two networks: out by the one, and to redis by the other
	limit=120 expect 0 "${on_host[@]}" run --rootfs "$img" -m 256M --net back --net other --egress deny --allow-egress 198.51.100.1:7 -- \
		python3 -c "$ask_redis
for to in '198.51.100.1', '198.51.100.2':
    try:
        print(to, socket.create_connection((to, 7), 5).recv(10))
    except OSError:
        print(to, 'no')
" "redis$$"
	equal "$out" "redis$$ 5
198.51.100.1 b'tcp'
198.51.100.2 no"
	refused "redis$$" "end it first" -- "$mvm" network rm back
	expect 0 "$mvm" inspect --security --format json "redis$$"
	equal "$(jq -r '.security.layers[] | select(.name == "descriptors") | .state' stdout)" ok
	# who is killed leaves
	kill -KILL "$(jq -r .supervisor <("$mvm" ps --format json | jq '.[0]'))"
	until_so no_holder
	expect 0 "$mvm" network rm back
}

# Published ports, restarts and the end of the network's process, with a VM that goes on.
test_vm() { # with a VM
	local port
	internet || return 0
	expect 0 "$mvm" network create back
	redis_up -p 6379 --restart always
	port=$("$mvm" ps --format json | jq -r '.[0].ports' | sed 's/.*:\([0-9]*\)->.*/\1/')
	ip netns exec "$here" python3 -c "
import socket
c = socket.create_connection(('127.0.0.1', $port), 10)
c.sendall(b'PING\r\n')
assert c.recv(10) == b'+PONG\r\n'
"
	expect 0 "$mvm" exec "redis$$" -- sh -c 'kill 1 2>/dev/null; pkill redis-server || true'
	until_so sh -c "[ \"\$('$mvm' ps --format json | jq '.[0].restarts')\" -ge 1 ]"
	until_so sh -c "'$mvm' network inspect back --format json | jq -e '.members | length == 1'"
	kill -KILL "$(holder)"
	until_so sh -c "'$mvm' logs redis$$ 2>&1 | grep -q 'off the network back'"
	until_so "$mvm" exec "redis$$" -- true # it may still boot
	expect 0 "$mvm" rm -f "redis$$"
}

# As a user with no rights at all. The third machine, on another network of the same user's, is a stand-in.
test_rootless() { # with a VM
	local theirs
	guests 1 || return 0
	mkdir -m 700 theirs && chown 12345 theirs && chmod 777 .
	by setpriv --reuid 12345 --regid 12345 --groups "$(stat -c %g /dev/kvm)" env XDG_RUNTIME_DIR="$PWD/theirs"
	trap '"${on_host[@]}" ps -aq | xargs -r "${on_host[@]}" rm -f; end_guests; end_world' EXIT
	expect 0 "${on_host[@]}" network create back
	expect 0 "${on_host[@]}" network create other
	redis_up_theirs() {
		"${on_host[@]}" run -d --name "redis$$" --rootfs "$img" -m 256M --net back --allow-missing cgroup,landlock-net -- \
			redis-server --protected-mode no --bind 0.0.0.0 :: --save "" >/dev/null
	}
	redis_up_theirs || die "no redis"
	until_so sh -c "${on_host[*]@Q} logs redis$$ | grep -q 'Ready to accept'"
	limit=120 expect 0 "${on_host[@]}" run --rootfs "$img" -m 256M --net back --allow-missing cgroup,landlock-net -- python3 -c "$ask_redis
print(socket.create_connection(('198.51.100.1', 7), 5).recv(10))
" "redis$$"
	equal "$out" "redis$$ 1
b'tcp'"
	equal "$(ps -o uid= -p "$(holder)" | tr -d ' ')" 12345
	expect 0 "${on_host[@]}" network inspect back --format json
	theirs=($(jq -r '.members[0] | .ip, .ip6' stdout))
	closed_to_others "${theirs[@]}" 6379
	XDG_RUNTIME_DIR=$PWD/theirs joined g1 net=other as=12345
	rows g1 "tcp ${theirs[0]} 6379 no" "tcp ${theirs[1]} 6379 no" "tcp redis$$ 6379 no" "tcp redis$$.back 6379 no" "tcp 198.51.100.1 7 yes"
	leave g1
	# root's networks are others
	refused "no such network" -- "$mvm" network inspect back
	expect 0 "${on_host[@]}" rm -f "redis$$"
	until_so no_holder
	expect 0 "${on_host[@]}" network rm back other
}

# So many VMs, each of which reaches each other by name.
test_vms() { # with a VM
	local n=4 i
	internet || return 0
	[ -z "${LONG:-}" ] || n=64
	expect 0 "$mvm" network create crowd --internal
	for ((i = 1; i <= n; i++)); do
		# shellcheck disable=SC2016 # expanded by that shell
		expect 0 "${on_host[@]}" run -d --name "vm$i" --rootfs "$small/small.ext4" -m 96M --net crowd -- sh -c '
			for k in $(seq 1 "$0"); do
				until ping -q -c 1 -w 3 "$(nslookup -type=a "vm$k.crowd" | sed -n "s/^Address: //p")"; do sleep 0.3; done
			done >/dev/null 2>&1
			echo all; sleep 100000' $n
	done
	for ((i = 1; i <= n; i++)); do # an emulated machine takes its time for so many
		timeout $((150 + 20 * n)) sh -c "until '$mvm' logs vm$i | grep -qx all; do sleep 0.3; done" || die "vm$i does not reach all"
	done
	equal "$("$mvm" network ls --format json | jq '.[0].members | length')" "$n"
	remove_all
	until_so no_holder
}
