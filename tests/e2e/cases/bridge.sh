# --net bridge=: a guest on a bridge of the host's, by addresses of its own. Most of it without VMs, whose place a network
# namespace has (tests/e2e/member.c).
#
# shellcheck source=tests/e2e/world.sh
. "$top/tests/e2e/world.sh"
# shellcheck source=tests/e2e/guests.sh
. "$top/tests/e2e/guests.sh"

own_mac=0e:6d:76:00:00:55

# The host has a bridge, br0, with a neighbour on it, n$$, and leads on to what is outside. Guests as for guests().
bridged() {
	[ -x "$(dirname "$mvm")/mvm-bridge" ] || { echo "SKIP not built: mvm-bridge"; return 1; }
	modprobe -a veth bridge nf_tables_arp 2>/dev/null
	guests "$1" || return 1
	trap 'end_bridge; end_guests; end_world' EXIT
	near=n$$
	mkdir -p /etc/mvm
	ip netns add "$near"
	ip -n "$near" link set lo up
	ip -n "$here" link add br0 type bridge
	ip -n "$here" link add port0 type veth peer name eth0 netns "$near"
	ip -n "$here" link set port0 master br0 up
	ip -n "$here" address add 10.9.0.1/24 dev br0
	ip -n "$here" address add fd09::1/64 dev br0 nodad
	ip -n "$here" link set br0 up
	ip -n "$near" address add 10.9.0.7/24 dev eth0
	ip -n "$near" address add fd09::7/64 dev eth0 nodad
	ip -n "$near" link set eth0 up
	ip netns exec "$here" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
	ip -n "$there" route add 10.9.0.0/24 via 203.0.113.2
	ip -n "$there" -6 route add fd09::/64 via 2001:db8:55::2
	echoes "$near"
}

end_bridge() {
	ip netns pids "$near" | xargs -r kill
	ip netns del "$near"
	rmdir /etc/mvm 2>/dev/null
}

# A folder of its own with mvm, whose helper has its capability, and a policy of these lines.
user_may() {
	mkdir -p own policy
	cp "$(dirname "$mvm")"/{mvm,mvm-net,mvm-bridge,member} own/
	chmod -R go-w own policy
	chmod 755 . own policy
	setcap cap_net_admin+ep own/mvm-bridge || { echo "SKIP no file capabilities here"; return 1; }
	printf '%s\n' "$@" >policy/bridge.conf
	chmod 644 policy/bridge.conf
	member=$PWD/own/member
}

ports() {
	ip -n "$here" -br link show master br0 | grep -c '^mv'
}

on_bridge() {
	[ "$(ports)" = "$1" ]
}

whole=bridge=br0,ip=10.9.0.5/24,gw=10.9.0.1,ip6=fd09::5/64,gw6=fd09::1,mac=$own_mac

# who NAMESPACE ADDRESS: whom an echo server there saw
who() {
	ip netns exec "$1" python3 -c '
import socket, sys
s = socket.create_connection((sys.argv[1], 7), 5)
print(s.recv(100).decode())' "$2"
}

# It is on the bridge by its own addresses and device address, in both directions; the host, its neighbours and what is private
# elsewhere it does not reach.
check_reach() {
	echoes g1
	rows g1 "tcp 10.9.0.7 7 yes" "tcp fd09::7 7 yes" "udp 10.9.0.7 7 yes" "udp fd09::7 7 yes" "ping 10.9.0.7 0 yes" \
		"ping fd09::7 0 yes" "tcp 198.51.100.1 7 yes" "tcp 2001:db8:99::1 7 yes" "tcp 10.9.0.7 9 no" \
		"tcp 10.9.0.1 7 no" "ping 10.9.0.1 0 no" "ping fd09::1 0 no" "udp fd09:: 7 no" "ping fd09:: 0 no" "tcp 203.0.113.2 7 no" "tcp 2001:db8:55::2 7 no" \
		"tcp 203.0.113.1 7 no" "tcp 10.9.8.7 7 no" "tcp fd99::1 7 no" "tcp 169.254.169.254 7 no" "tcp fd00:ec2::254 7 no" \
		"tcp 10.9.0.77 7 no" "tcp 192.0.0.1 7 no"
	equal "$(who g1 10.9.0.7) $(who g1 fd09::7)" "10.9.0.5 fd09::5"
	ip -n "$near" neighbour flush all
	equal "$(who "$near" 10.9.0.5) $(who "$near" fd09::5)" "10.9.0.7 fd09::7"
	equal "$(ip -n "$near" neighbour show dev eth0 | awk '/^(10.9.0.5|fd09::5) / { print $3 }' | sort -u)" "$own_mac"
	equal "$(who "$there" 10.9.0.5) $(who "$there" fd09::5)" "203.0.113.1 2001:db8:55::1"
	until_so grep -q 'refused tcp 10.9.0.1:7 host' said.g1
	until_so grep -q 'refused udp \[fd09::\]:7 host' said.g1 # its routers' address, which the host has as well (RFC 4291)
}

test_reach() {
	bridged 1 || return 0
	joined g1 "net=$whole"
	equal "$ip $ip6" "10.9.0.5 fd09::5"
	check_reach
	equal "$(ports)" 1
	leave g1
	grep -q '^count host' said.g1 || die "$(cat said.g1)"
	grep -qE '^traffic [1-9][0-9]* out, [1-9][0-9]* in, [0-9]+ flows, [1-9][0-9]* begun' said.g1 || die "$(cat said.g1)"
	until_so no_holder
	until_so on_bridge 0
}

# frames NAMESPACE: what comes there until the file `enough` is there: "SOURCE TYPE REST" each
frames() {
	rm -f enough "frames.$1"
	ip netns exec "$1" python3 -c '
import os, socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind(("eth0", 3))
s.settimeout(0.2)
print("listening", flush=True)
while True:
    try:
        frame, of = s.recvfrom(4000)
    except TimeoutError:
        if os.path.exists("enough"):
            break
        continue
    if of[2] != socket.PACKET_OUTGOING:
        print(frame[6:12].hex(":"), frame[12:14].hex(), frame[14:].hex(), flush=True)
' >"frames.$1" 2>&1 &
	listener=$!
	until_so grep -q listening "frames.$1"
}

# send_frames NAMESPACE DEVICE: by other addresses, for others, of kinds that a bridge's others would believe. Each has "spoofed" in it.
send_frames() {
	ip netns exec "$1" python3 - "$2" <<'P'
import socket, struct, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind((sys.argv[1], 0))
own, other, all_, mark = bytes.fromhex("0e6d76000055"), bytes.fromhex("020000000077"), b"\xff" * 6, b"spoofed!"
def ip(source, to, proto, data):
    h = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(data), 0, 0, 64, proto, 0) + source + to
    n = sum(struct.unpack("!10H", h))
    n = (n & 0xffff) + (n >> 16)
    return h[:10] + struct.pack("!H", ~n & 0xffff) + h[12:] + data
def udp(sp, dp, data):
    return struct.pack("!HHHH", sp, dp, 8 + len(data), 0) + data
def ip6(source, to, proto, data):
    return struct.pack("!IHBB", 6 << 28, len(data), proto, 255) + source + to + data
me, him, near, host = (bytes([10, 9, 0, n]) for n in (5, 6, 7, 1))
me6, near6, all6 = bytes.fromhex("fd09" + "00" * 13 + "05"), bytes.fromhex("fd09" + "00" * 13 + "07"), bytes.fromhex("ff02" + "00" * 13 + "01")
for frame in [
    all_ + other + b"\x08\x00" + ip(me, near, 17, udp(7, 7, mark)),
    all_ + own + b"\x08\x00" + ip(him, near, 17, udp(7, 7, mark)),
    all_ + own + b"\x08\x06" + b"\0\1\x08\0\6\4\0\2" + own + host + b"\xff" * 6 + near + mark,
    all_ + own + b"\x08\x06" + b"\0\1\x08\0\6\4\0\2" + other + me + b"\xff" * 6 + near + mark,
    all_ + own + b"\x81\x00\0\1\x08\x00" + ip(me, near, 17, udp(7, 7, mark)),
    all_ + own + b"\x88\xa8\0\1\x81\x00\0\1\x08\x00" + ip(me, near, 17, udp(7, 7, mark)),
    all_ + own + b"\x08\x00" + ip(me, b"\xff" * 4, 17, udp(67, 68, mark)),
    bytes.fromhex("333300000001") + own + b"\x86\xdd" + ip6(bytes.fromhex("fe80" + "00" * 6 + "0c6d76fffe000055"), all6, 58, b"\x86\0\0\0\x40\0\x0e\x10" + bytes(8) + mark),
    bytes.fromhex("333300000001") + own + b"\x86\xdd" + ip6(near6, all6, 58, b"\x88\0\0\0\xa0\0\0\0" + near6 + b"\2\1" + own + mark),
    bytes.fromhex("0180c2000000") + own + b"\0\x26\x42\x42\x03" + mark * 5,
    all_ + own + b"\x88\xcc" + mark,
]:
    s.send(frame)
P
}

# A program in the namespace of the guest's holder, whose root the caller is; its first argument is "out0".
as_caller() {
	ip netns attach bridge$$ "$(holder)"
	ip netns exec bridge$$ python3 -c "$@" || die "the caller's program"
	ip netns del bridge$$
}

# What a guest sends by addresses that are not its own, or to be believed by others, does not get to the bridge, and is counted.
test_spoofed() {
	local before
	bridged 1 || return 0
	joined g1 "net=$whole"
	rows g1 "tcp 10.9.0.7 7 yes"
	frames "$near"
	send_frames g1 eth0
	ip netns exec g1 python3 -c '
import socket
for port in 67, 547:
    s = socket.socket(socket.AF_INET6 if port == 547 else socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("", port))
    s.sendto(b"spoofed!", ("fd09::7" if port == 547 else "10.9.0.7", port + 1 if port == 67 else 546))'
	rows g1 "tcp 10.9.0.7 7 yes" "tcp fd09::7 7 yes"
	# nor by its namespace's root, who is the caller, with another device address
	before=$(ip -n "$here" -s -j link show master br0 | jq '[.[] | select(.ifname | startswith("mv")) | .stats64.rx.packets] | add')
	as_caller '
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind((sys.argv[1], 0))
for i in range(5):
    s.send(b"\xff" * 6 + b"\2\0\0\0\0\x77" + b"\x88\xb5" + b"spoofed!" * 8)' out0
	rows g1 "tcp 10.9.0.7 7 yes"
	(($(ip -n "$here" -s -j link show master br0 | jq '[.[] | select(.ifname | startswith("mv")) | .stats64.rx.packets] | add') > before + 4)) ||
		die "nothing was sent by the namespace"
	touch enough
	wait "$listener"
	! grep -i "$(printf 'spoofed!' | od -An -tx1 | tr -d ' \n')" "frames.$near" || die "that came through"
	grep -q "^$own_mac 0800" "frames.$near" || die "nothing came through at all"
	leave g1
	grep -qE '^count spoofed ([6-9]|[1-9][0-9])' said.g1 || die "$(cat said.g1)"
}

# raw: what makes frames of IPv4 and IPv6, for python3.
raw='
import socket, struct, sys
def add(data):
    data += b"\0" * (len(data) % 2)
    n = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    n = (n & 0xffff) + (n >> 16)
    return struct.pack("!H", ~((n & 0xffff) + (n >> 16)) & 0xffff)
def ip(source, to, data):
    h = struct.pack("!BBHHHBBH", 0x45, 0, 20 + 8 + len(data), 0, 0, 64, 17, 0) + bytes(source) + bytes(to)
    return b"\x08\x00" + h[:10] + add(h) + h[12:] + struct.pack("!HHHH", 7, 4444, 8 + len(data), 0) + data
def advertisement():
    source, to = socket.inet_pton(socket.AF_INET6, "fe80::77"), socket.inet_pton(socket.AF_INET6, "ff02::1")
    prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xc0, 86400, 14400, 0) + socket.inet_pton(socket.AF_INET6, "2001:db8:bad::")
    icmp = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + prefix
    total = add(source + to + struct.pack("!II", len(icmp), 58) + icmp)
    return b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, len(icmp), 58, 255) + source + to + icmp[:2] + total + icmp[4:]
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind((sys.argv[1], 0))
'

# What a bridge gives to the host as its port's, not as its own, is nothing to the host: no router is believed, no datagram heard.
test_host() {
	local listener
	bridged 1 || return 0
	ip netns exec "$here" sysctl -qw net.ipv6.conf.default.accept_ra=2 net.ipv6.conf.default.forwarding=0
	joined g1 "net=$whole"
	rows g1 "tcp 10.9.0.7 7 yes"
	ip netns exec "$here" timeout 60 python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 4444))
print("listening", flush=True)
while True:
    data = s.recv(100)
    print(data.decode(), flush=True)
    if data == b"over":
        break' >heard 2>&1 &
	listener=$!
	until_so grep -q listening heard
	as_caller "$raw"'
for group in b"\x01\x80\xc2\0\0\x0e", b"\x01\x80\xc2\0\0\x03":
    for mac in b"\x02\0\0\0\0\x77", bytes.fromhex("'"${own_mac//:/}"'"):
        s.send(group + mac + advertisement())
        for source in (10, 9, 0, 5), (10, 9, 0, 77), (198, 51, 100, 1), (127, 0, 0, 1):
            for to in (10, 9, 0, 1), (203, 0, 113, 2), (255, 255, 255, 255), (224, 0, 0, 1):
                s.send(group + mac + ip(source, to, b"heard"))' out0
	ip netns exec "$near" python3 -c 'import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"over", ("10.9.0.1", 4444))'
	wait "$listener"
	equal "$(xargs <heard)" "listening over"
	equal "$(ip -n "$here" -6 route show | grep -E 'dev mv|proto ra|2001:db8:bad')" ""
	equal "$(ip -n "$here" -6 address show | grep -A9 ': mv' | grep inet6)" ""
	equal "$(ip -n "$here" -6 address show to 2001:db8:bad::/48)" ""
}

# Where the guest is stays known, whoever else sends by its device address.
test_taken() {
	bridged 1 || return 0
	joined g1 "net=$whole"
	echoes g1
	equal "$(who "$near" 10.9.0.5)" 10.9.0.7
	ip netns exec "$near" python3 -c "$raw"'
for i in range(5):
    s.send(b"\xff" * 6 + bytes.fromhex("'"${own_mac//:/}"'") + b"\x88\xb5" + bytes(50))' eth0
	equal "$(who "$near" 10.9.0.5) $(who "$near" fd09::5)" "10.9.0.7 fd09::7"
}

# The same rules as in every mode; under deny its own network is not among what is named.
test_egress() {
	bridged 3 || return 0
	joined g1 "net=$whole" egress=deny allow-egress=10.9.0.7:7/tcp allow-egress=2001:db8:99::1 allow-egress=203.0.113.2:8
	rows g1 "tcp 10.9.0.7 7 yes" "udp 10.9.0.7 7 no" "ping 10.9.0.7 0 no" "tcp fd09::7 7 no" "tcp 198.51.100.1 7 no" \
		"tcp 2001:db8:99::1 7 yes" "udp 2001:db8:99::1 7 yes" "tcp 203.0.113.2 8 yes" "tcp 203.0.113.2 7 no" \
		"tcp 10.9.0.1 7 no"
	# what others begin with it is answered
	echoes g1
	equal "$(who "$near" 10.9.0.5) $(who "$near" fd09::5)" "10.9.0.7 fd09::7"
	until_so grep -q 'refused tcp 198.51.100.1:7 egress' said.g1
	joined g2 net=bridge=br0,ip=10.9.0.6/24,gw=10.9.0.1 allow-egress=10.9.8.7 allow-egress=10.9.0.1
	rows g2 "tcp 10.9.8.7 7 yes" "ping 10.9.0.1 0 yes" "tcp 172.16.3.3 7 no" "tcp 10.9.0.5 7 yes" "tcp 203.0.113.2 7 no" "tcp fd09::7 7 no"
	# without a gateway the network alone; by IPv6 alone
	joined g3 net=bridge=br0,ip6=fd09::8/64
	rows g3 "tcp fd09::7 7 yes" "tcp fd09::5 7 yes" "tcp 2001:db8:99::1 7 no"
	equal "$(ports)" 3
	leave g1
	grep -qE '^count egress' said.g1 || die "$(cat said.g1)"
}

# said GUEST WORD…: why it was not let in
said() {
	local guest=$1
	shift
	for word in "$@"; do grep -q "^failed .*$word" "said.$guest" || die "'$word' is not said: $(cat "said.$guest")"; done
	equal "$(wc -l <"said.$guest")" 1
}

# An ordinary user, by the policy.
test_user() {
	bridged 2 || return 0
	user_may '# who may have what' '' 'allow user 12345 bridge br0 ports 2 # two' || return 0
	joined g1 "net=$whole" as=12345
	check_reach
	equal "$(stat -c %u "/proc/$(holder)")" 12345
	joined g2 net=bridge=br0,ip=10.9.0.6/24 as=12345
	rows g2 "tcp 10.9.0.7 7 yes" "tcp 10.9.0.5 7 yes"
	equal "$(ports)" 2
	join - net=bridge=br0,ip=10.9.0.8/24 as=12345
	said - "has 2 ports of it already" "end one"
	join - net=bridge=br0,ip=10.9.0.8/24 as=54321
	said - "grants uid 54321 no ports" "allow user 54321 bridge br0 ports 1"
	leave g2
	until_so on_bridge 1
	# the first line that is the user's decides
	printf '%s\n' "allow group 777 bridge br0 ports 9" "allow group 12345 bridge br0 ports 3 isolated" "allow user 12345 bridge br0 ports 1" >policy/bridge.conf
	joined g2 net=bridge=br0,ip=10.9.0.6/24 as=12345
	ip -n "$here" -d link show master br0 | grep -q 'isolated on' || die "$(ip -n "$here" -d link show master br0)"
	join - "net=$whole" as=12345
	said - "another one"
	join - net=bridge=br0,ip=10.9.0.8/24,mac=02:16:3e:00:00:01 as=12345
	said - "only root" "begin with 0e:6d:76"
	leave g1
	leave g2
	until_so on_bridge 0
}

# However many ask at once, no more of them get a port than may.
test_ports_at_once() {
	local i
	bridged 0 || return 0
	user_may 'allow user 12345 bridge br0 ports 3' || return 0
	for ((i = 1; i <= 8; i++)); do
		"${as_host[@]}" "$member" - "net=bridge=br0,ip=10.9.0.$((50 + i))/24" as=12345 >"said.$i" 2>&1 &
		echo $! >"pid.$i"
	done
	# shellcheck disable=SC2016 # expanded by that shell
	until_so sh -c '[ "$(cat said.? | grep -cE "^(ready|failed)")" = 8 ]'
	equal "$(cat said.? | grep -c ^ready)" 3
	equal "$(cat said.? | grep -c '3 ports of it already')" 5
	until_so on_bridge 3
}

# A port is one of so many names of its user's and that bridge's, whoever has it and whatever it is: there are no others.
test_slots() {
	local name
	bridged 0 || return 0
	user_may 'allow user 12345 bridge br0 ports 2' || return 0
	slots() { ip -n "$here" -br link show master br0 | grep -o '^mv[0-9a-z]*' | xargs; }
	join - net=bridge=br0,ip=10.9.0.5/24 as=12345
	name=$(slots)
	[[ $name =~ ^mv00009ix[0-9a-z]{4}00$ ]] || die "$name"
	leave -
	until_so on_bridge 0
	ip -n "$here" link add "$name" type bridge # of one whose helper was killed before it was a port
	join - net=bridge=br0,ip=10.9.0.5/24 as=12345
	equal "$(slots)" "${name%0}1"
	mv pid.- pid.first
	join - net=bridge=br0,ip=10.9.0.6/24 as=12345
	said - "has 2 ports of it already"
	# another user's, and root's, are others
	printf '%s\n' "allow user 12346 bridge br0 ports 1" >policy/bridge.conf
	join - net=bridge=br0,ip=10.9.0.6/24 as=12346
	mv pid.- pid.second
	join - net=bridge=br0,ip=10.9.0.7/24
	equal "$(slots | wc -w)" 3
	ip -n "$here" link del "$name"
	leave -
	leave second
	leave first
	until_so on_bridge 0
}

# What a policy may not be, and what a caller may not have.
test_policy() {
	local line
	bridged 0 || return 0
	user_may 'allow user 12345 bridge br0 ports 2' || return 0
	rm policy/bridge.conf
	join - "net=$whole" as=12345
	said - "there is no /etc/mvm/bridge.conf"
	for line in "allow" "deny user 12345 bridge br0 ports 2" "allow user 12345 bridge br0 ports 0" "allow user 12345 bridge br0 ports 2 isolate" \
		"allow user 12345 bridge / ports 2" "allow user 12345 bridge br0 ports 2 isolated x"; do
		printf '%s\n' "allow user 12345 bridge br0 ports 2" "$line" >policy/bridge.conf
		chmod 644 policy/bridge.conf
		join - "net=$whole" as=12345
		said - "/etc/mvm/bridge.conf, line 2: "
	done
	echo "allow user 12345 bridge br0 ports 2" >policy/bridge.conf
	chmod 664 policy/bridge.conf
	join - "net=$whole" as=12345
	said - "not a file that is root's" "chmod 644"
	chmod 644 policy/bridge.conf
	chown 12345 policy/bridge.conf
	join - "net=$whole" as=12345
	said - "not a file that is root's"
	mv policy/bridge.conf policy/other
	chown 0 policy/other
	ln -s other policy/bridge.conf
	join - "net=$whole" as=12345
	said - "symbolic link"
	mv policy/other policy/bridge.conf
	chmod 777 policy
	join - "net=$whole" as=12345
	said - "not a folder that is root's"
	chmod 755 policy
	setcap -r own/mvm-bridge
	join - "net=$whole" as=12345
	said - "setcap cap_net_admin+ep $PWD/own/mvm-bridge"
	chmod u+s own/mvm-bridge
	join - "net=$whole" as=12345
	said - "chmod u-s"
	chmod u-s own/mvm-bridge
	doctor_says warning "has no capability"
	setcap cap_net_admin,cap_sys_admin+ep own/mvm-bridge
	doctor_says problem "own/mvm-bridge has other capabilities.*setcap cap_net_admin.ep"
	setcap cap_net_admin+ep own/mvm-bridge
	doctor_says ok "by those whom"
	# and no other program may have it, by whatever name it runs
	mkdir named
	cp own/mvm-net named/
	cp own/member named/mvm-bridge
	chmod -R go-w named
	chmod 755 named
	setcap cap_net_admin+ep named/mvm-bridge
	member=$PWD/named/mvm-bridge join - "net=$whole" as=12345
	said - "named/mvm-bridge: has capabilities" "setcap -r"
	equal "$(ports)" 0
}

# doctor_says STATE WORDS: of --net bridge=, by the mvm of user_may()
doctor_says() {
	"${as_host[@]}" own/mvm doctor >told 2>&1
	grep -qE "^net-bridge +$1 .*$2" told || die "$1 $2: $(cat told)"
}

# The helper itself, with its capability, and callers that are no supervisor: each gets a word or nothing, and no port.
test_callers() {
	bridged 0 || return 0
	user_may 'allow user 12345 bridge br0 ports 3' || return 0
	ip -n "$near" link add out0 type bridge
	# shellcheck disable=SC2016 # expanded by that shell
	expect 0 nsenter --net="/run/netns/$here" unshare -m --propagation slave sh -c 'mount --bind policy /etc/mvm; exec "$@"' sh python3 -c '
import array, os, signal, socket, struct, subprocess, sys, time
good = struct.pack("<I16s6s2s", 1, b"br0", b"\x0e\x6d\x76\0\0\x09", b"\0\0")
own, null, user = (os.open(f, os.O_RDONLY) for f in ("/proc/self/ns/net", "/dev/null", "/proc/self/ns/user"))
other = os.open("/run/netns/" + sys.argv[2], os.O_RDONLY)
def ask(what, data, fds, want, before=[], kind=socket.SOCK_SEQPACKET, uid=12345):
    a, b = socket.socketpair(socket.AF_UNIX, kind)
    p = subprocess.Popen(before + [sys.argv[1]], stdin=b, env={"PATH": os.environ["PATH"]}, user=uid, group=uid, extra_groups=[])
    b.close()
    try:
        a.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])
    except OSError:
        pass
    try:
        try:
            said = a.recv(2000)
        except ConnectionResetError: # it ended with the request unread: told once, before its answer
            said = a.recv(2000)
    except OSError:
        said = b""
    said = said[28:].split(b"\0")[0].decode()
    p.wait()
    if p.returncode not in (1, 2) or want not in said or (not want and said):
        print(what, p.returncode, said)
ask("no descriptor", good, [], "its one descriptor")
ask("two", good, [other, other], "its one descriptor")
ask("the host itself", good, [own], "own")
ask("of root", good, [other], "not the caller")
ask("no namespace", good, [null], "no network namespace")
ask("of another kind", good, [user], "no network namespace")
ask("short", good[:-1], [other], "same version")
ask("long", good + b"x", [other], "same version")
ask("nothing", b"", [], "same version")
ask("another version", b"\2" + good[1:], [other], "same version")
ask("a path", good[:4] + b"../br0" + good[10:], [other], "no network device")
ask("a group", good[:20] + b"\3" + good[21:], [other], "no address")
ask("a stream", good, [other], "", kind=socket.SOCK_STREAM)
ask("in a user namespace", good, [other], "no right", before=["unshare", "-U"])
ask("in a user namespace, root", good, [other], "no right", before=["unshare", "-Ur"])
ask("without new rights", good, [other], "no right", before=["setpriv", "--no-new-privs"])
ask("where out0 is already", good, [other], "has a link out0 already", uid=0)
# its end is its own, whatever its caller has done with signals
def deaf():
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
p = subprocess.Popen([sys.argv[1]], stdin=b, user=12345, group=12345, extra_groups=[], preexec_fn=deaf)
for i in range(100):
    time.sleep(0.1)
    if open("/proc/%d/wchan" % p.pid).read() not in ("", "0") or i > 20:
        break
p.send_signal(signal.SIGALRM)
if p.wait() != -signal.SIGALRM:
    print("deaf", p.returncode)
print("asked")' "$PWD/own/mvm-bridge" "$near"
	equal "$out" asked
	equal "$(ports)" 0
}

# Names, of which it asks the resolver of its namespace, and that one the server that was named: here by IPv6 alone, and one of
# the host's own. (A server of the guest's by IPv4, and all kinds of packets: policy.sh.)
test_names() {
	local names="egress=deny allow-egress=open.example:7/tcp allow-egress=rebind.example"
	bridged 1 || return 0
	# shellcheck disable=SC2086 # options are words
	joined g1 "net=bridge=br0,ip6=fd09::5/64,gw6=fd09::1,mac=$own_mac,dns=2001:db8:98::1,dns=203.0.113.1" $names
	equal "$(cat "/etc/netns/g1/resolv.conf")" "nameserver fd6e:82a4:17c9::1"
	rows g1 "tcp6 open.example 7 yes" "tcp6 open.example 8 no" "dns other.example 0 no" "tcp6 rebind.example 7 no" "udp 2001:db8:98::1 53 no"
	until_so grep -q 'refused.*other.example.*name' said.g1
	equal "$(sort -u asked | xargs)" "open.example rebind.example"
	leave g1
	until_so no_holder
	: >asked
	joined g1 "net=bridge=br0,ip=10.9.0.5/24,gw=10.9.0.1,mac=$own_mac,dns=203.0.113.1" egress=deny "allow-egress=*.forged:7"
	rows g1 "tcp right.forged 7 yes" "dns port.forged 0 no" "dns address.forged 0 no"
	equal "$(sort -u asked | xargs)" "address.forged port.forged right.forged"
	leave g1
	until_so no_holder
	serve "$near" near 53
	joined g1 "net=bridge=br0,ip=10.9.0.5/24,gw=10.9.0.1,mac=$own_mac,dns=10.9.0.7" egress=deny allow-egress=open.example:7 # a neighbour
	rows g1 "tcp open.example 7 yes" "udp 10.9.0.7 53 no" "dns other.example 0 no"
	leave g1
	until_so no_holder
	: >asked
	# shellcheck disable=SC2086
	joined g1 "net=bridge=br0,ip=10.9.0.5/24,gw=10.9.0.1,mac=$own_mac,dns=203.0.113.2" $names allow-egress=x.silent
	rows g1 "tcp open.example 7 yes" "dns other.example 0 no" "tcp rebind.example 7 no" "udp 203.0.113.2 53 no" "tcp 203.0.113.2 7 no"
	nobody_else_asks
	no_made_up_errors 203.0.113.2
	leave g1
}

# A machine on the bridge is no guest of the resolver's, whatever it takes the guest for.
nobody_else_asks() {
	ip -n "$near" route add 192.0.0.1/32 via 10.9.0.5
	expect 0 ip netns exec "$near" python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(2)
s.connect(("192.0.0.1", 53))
s.send(b"\0\7\1\0\0\1\0\0\0\0\0\0\4open\7example\0\0\1\0\1")
try:
    print(s.recv(512))
except OSError:
    print("nothing")'
	equal "$out" nothing
	ip -n "$near" route del 192.0.0.1/32
}

# no_made_up_errors SERVER: while a question waits there, the guest sends errors about it, whatever port it has: none arrives.
no_made_up_errors() {
	ip netns exec "$here" tcpdump -nni br0 --immediate-mode -U -w cap.errors "icmp[icmptype] == icmp-unreach" 2>cap.err &
	dumper=$!
	until_so grep -q 'listening on' cap.err
	ip netns exec g1 python3 -c 'import socket; socket.getaddrinfo("x.silent", 7)' 2>/dev/null &
	until_so grep -qx x.silent asked
	made_up_errors g1 "$1" 53 192.0.0.1 32768 61000
	sleep 0.5 # the last one has a way to go
	kill "$dumper"
	wait "$dumper"
	equal "$(tcpdump -nnr cap.errors 2>/dev/null)" ""
}

# What a name has on the guest's own network is not opened, though the host is not on it and it looks public; an address is.
test_names_of_neighbours() {
	local net="net=bridge=br0,ip=10.9.0.5/24,gw=10.9.0.1,ip6=2001:db8:70::5/64,mac=$own_mac,dns=2001:db8:98::1,dns=203.0.113.1"
	bridged 1 || return 0
	ip -n "$near" address add 2001:db8:70::7/64 dev eth0 nodad
	joined g1 "$net" egress=deny allow-egress=near.example allow-egress=open.example:7 # by the one server that it has a way to
	rows g1 "tcp open.example 7 yes" "dns near.example 0 yes" "tcp6 near.example 7 no" "tcp 2001:db8:70::7 7 no"
	until_so grep -q 'refused tcp \[2001:db8:70::7\]:7 private' said.g1
	leave g1
	until_so no_holder
	joined g1 "$net" egress=deny allow-egress=near.example allow-egress=2001:db8:70::7
	rows g1 "tcp6 near.example 7 yes"
	leave g1
}

test_refused() {
	local dns
	bridged 1 || return 0
	join - net=bridge=br7,ip=10.9.0.5/24
	said - "bridge=br7: there is no such device" "ip link add br7 type bridge"
	join - net=bridge=v0,ip=10.9.0.5/24
	said - "that device is no bridge"
	join - net=bridge=br0,ip=10.9.0.5/24,mtu=9000
	said - "mtu=9000: the bridge has 1500"
	join - net=bridge=br0,ip=10.9.0.5/24,mtu=60
	said - "mtu=60: give 68 to"
	join - net=bridge=br0,ip6=fd09::5/64,mtu=1000
	said - "IPv6 wants 1280"
	join - net=bridge=br0
	said - "add ip=ADDRESS/BITS"
	join - net=bridge=br0,ip=10.9.0.5/32
	said - "how many bits"
	join - net=bridge=br0,ip=10.9.0.1/24
	said - "this host's own address"
	join - "net=bridge=a b,ip=10.9.0.5/24"
	said - "no name of a network device"
	until_so no_holder
	equal "$(ports)" 0
	for dns in "" ,dns=fd09::1 ,dns=203.0.113.1; do
		refused "give dns=" -- run --net "bridge=br0,ip=10.9.0.5/24$dns" --egress deny --allow-egress example.org -- true
	done
	for dns in 127.0.0.53 0.0.0.0 224.0.0.1 192.0.0.1 192.0.0.7 10.9.0.5 ::1 :: fe80::1 ff02::1 ::ffff:10.9.0.1 fd6e:82a4:17c9::2 fd09::5; do
		refused "dns=$dns: no name server" -- \
			run --net "bridge=br0,ip=10.9.0.5/24,gw=10.9.0.1,ip6=fd09::5/64,gw6=fd09::1,dns=$dns" --egress deny --allow-egress example.org -- true
	done
	refused "leave the other bridge out" -- run --net bridge=br0,ip=10.9.0.5/24 --net bridge=br1,ip=10.9.1.5/24 -- true
	refused "leave user out" -- run --net bridge=br0,ip=10.9.0.5/24 --net user -- true
	refused "leave --proxy out" -- run --net bridge=br0,ip=10.9.0.5/24 --proxy -- true
	ip -n "$here" link set br0 mtu 9000
	joined g1 net=bridge=br0,ip=10.9.0.5/24,mtu=4000
	equal "$(ip -n g1 -j link show eth0 | jq '.[0].mtu')" 4000
}

# With a VM: its own address on the bridge, a published port over vsock beside it, what it is refused in the receipt.
test_vm() { # with a VM
	bridged 0 || return 0
	"${on_host[@]}" run -d --name box --rootfs "$img" -m 256M -p 127.0.0.1:8080:7 --net "$whole" --receipt receipt.json \
		--allow-egress 172.16.3.3 -- sleep 300 2>stderr || die "$(cat stderr)"
	trap 'remove_all; end_bridge; end_guests; end_world' EXIT
	limit=150 expect 0 "${on_host[@]}" exec box -- python3 -c "$probe" "tcp 10.9.0.7 7,udp fd09::7 7,tcp 198.51.100.1 7,tcp 2001:db8:99::1 7,tcp 172.16.3.3 7,tcp 10.9.8.7 7,ping 10.9.0.1 0,tcp 169.254.169.254 7"
	equal "$(awk '{ print $4 }' stdout | xargs)" "yes yes yes yes yes no no no"
	"${on_host[@]}" exec box -- python3 -c '
import socket
s = socket.create_server(("", 7))
print("up", flush=True)
while True:
    c, peer = s.accept()
    c.sendall(peer[0].encode())
    c.close()' >server 2>&1 &
	until_so grep -q up server
	equal "$(who "$near" 10.9.0.5)" 10.9.0.7
	equal "$(ip netns exec "$here" python3 -c 'import socket; print(socket.create_connection(("127.0.0.1", 8080), 5).recv(99).decode())')" 127.0.0.1
	equal "$(ip -n "$near" neighbour show 10.9.0.5 dev eth0 | awk '{ print $3 }')" "$own_mac"
	expect 0 "$mvm" stats --flows box
	expect 0 "$mvm" stop -t 1 box
	until_so on_bridge 0
	jq -e '.egress.refused | .host > 0 and .metadata > 0 and .private > 0' receipt.json >/dev/null || die "$(jq -c . receipt.json)"
	until_so no_holder
}

# A VM of a user to whom the policy grants a port.
test_rootless() { # with a VM
	local mvm=$mvm elsewhere=/var/tmp/own$$
	bridged 0 || return 0
	trap 'rm -rf "$elsewhere"; end_bridge; end_guests; end_world' EXIT
	mkdir "$elsewhere" && ln -s "$elsewhere" own # where file capabilities count: /tmp may be nosuid
	user_may 'allow user 12345 bridge br0 ports 1' || return 0
	cp "$(dirname "$mvm")"/{mvm-supervisor,mvm-vmm,agent.cpio} "$top/build/kernel/vmlinux" own/
	mvm=$PWD/own/mvm
	mkdir -m 700 theirs && chown 12345 theirs
	# shellcheck disable=SC2016 # expanded by that shell
	by sh -c 'mount --bind "$0" /etc/mvm && exec "$@"' "$PWD/policy" setpriv --reuid 12345 --regid 12345 \
		--groups "$(stat -c %g /dev/kvm)" env XDG_RUNTIME_DIR="$PWD/theirs"
	trap '"${on_host[@]}" ps -aq | xargs -r "${on_host[@]}" rm -f; rm -rf "$elsewhere"; end_bridge; end_guests; end_world' EXIT
	expect 0 "${on_host[@]}" run -d --name box --rootfs "$img" -m 256M --net bridge=br0,ip=10.9.0.5/24,gw=10.9.0.1 \
		--allow-missing cgroup,landlock-net -- sleep 300
	limit=150 expect 0 "${on_host[@]}" exec box -- python3 -c "$probe" "tcp 10.9.0.7 7,tcp 198.51.100.1 7,tcp 10.9.8.7 7,ping 10.9.0.1 0"
	equal "$(awk '{ print $4 }' stdout | xargs)" "yes yes no no"
	equal "$(ports)" 1
	refused "has 1 ports of it already" -- "${on_host[@]}" run --rootfs "$small/small.ext4" -m 96M --net bridge=br0,ip=10.9.0.6/24 \
		--allow-missing cgroup,landlock-net -- true
	expect 0 "${on_host[@]}" rm -f box
	until_so on_bridge 0
	until_so no_holder
}

# Whoever is killed, nothing is left on the bridge.
test_ends() {
	local who pid
	bridged 1 || return 0
	for who in member outside inside; do
		joined g1 "net=$whole"
		equal "$(ports)" 1
		pid=$(holder)
		case $who in
		member) kill -KILL "$(cat pid.g1)" ;;
		outside) kill -KILL "$(awk '/^PPid:/ { print $2 }' "/proc/$pid/status")" ;;
		inside) kill -KILL "$pid" ;;
		esac
		[ $who = member ] || until_so grep -q ^over said.g1
		[ $who = member ] || leave g1
		rm -f pid.g1
		until_so no_holder
		until_so on_bridge 0
	done
	joined g1 "net=$whole"
	rows g1 "tcp 10.9.0.7 7 yes"
}
