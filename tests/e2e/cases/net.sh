# --net: a tap's and a socket's way in and out, what is not let out, limits, and what goes wrong.

mac=02:00:00:00:00:aa

# A tap of this test's own with both families' addresses; root alone makes one.
tap() {
	[ "$(id -u)" -eq 0 ] || { echo "SKIP needs root, to make a tap"; return 1; }
	tap=t$$
	modprobe tun 2>/dev/null
	ip tuntap add dev "$tap" mode tap
	trap 'ip link del "$tap" 2>/dev/null' EXIT
	ip address add 10.9.7.1/24 dev "$tap"
	ip address add fd09::1/64 dev "$tap" nodad
	ip link set "$tap" up
}

# The other end of a socket: answers ARP for everybody, UDP by sending it back, and leaves when it is told "end".
peer='
import socket, struct, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(1)
print("listening", flush=True)
s, _ = listener.accept()
def need(n):
    data = b""
    while len(data) < n:
        more = s.recv(n - len(data))
        if not more:
            sys.exit(0)
        data += more
    return data
def send(frame):
    s.sendall(struct.pack(">I", len(frame)) + frame)
me = bytes.fromhex("020000000001")
while True:
    frame = need(struct.unpack(">I", need(4))[0])
    kind = frame[12:14]
    if kind == b"\x08\x06" and frame[21] == 1:
        send(frame[6:12] + me + frame[12:21] + b"\x02" + me + frame[38:42] + frame[22:32])
    elif kind == b"\x08\x00" and frame[23] == 17:
        if frame[42:] == b"end":
            sys.exit(0)
        ip = bytearray(frame[14:34])
        ip[12:16], ip[16:20] = ip[16:20], ip[12:16]
        send(frame[6:12] + me + kind + bytes(ip) + frame[36:38] + frame[34:36] + frame[38:40] + b"\0\0" + frame[42:])
'

start_peer() {
	rm -f peer.out # of one before
	python3 -c "$peer" "$PWD/net.sock" >peer.out 2>peer.err &
	peer_pid=$!
	until grep -qs listening peer.out || ! kill -0 "$peer_pid" 2>/dev/null; do sleep 0.05; done
}

# Bytes both ways, whole, by each family; the guest's side is set up before the command runs.
test_tap() {
	local port
	tap || return 0
	head -c 20000000 /dev/urandom >sent
	python3 -c '
import hashlib, socket
s = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
print(s.getsockname()[1], flush=True)
data = open("sent", "rb").read()
for _ in range(2):
    c, _ = s.accept()
    c.sendall(data)
    c.shutdown(socket.SHUT_WR)
    got = b""
    while True:
        more = c.recv(1 << 20)
        if not more:
            break
        got += more
    print(hashlib.sha256(got).hexdigest(), flush=True)
    c.close()
' >server.out &
	until read -r port <server.out && [ "$port" ]; do sleep 0.05; done
	limit=200 expect 0 debian --net "tap=$tap,ip=10.9.7.2/24,gw=10.9.7.1,ip6=fd09::2/64,gw6=fd09::1,dns=10.9.7.1,dns=fd09::1,mac=$mac" \
		--receipt receipt.json -- python3 -c '
import hashlib, socket, sys
for address in "10.9.7.1", "fd09::1":
    s = socket.create_connection((address, int(sys.argv[1])))
    got = b""
    while True:
        more = s.recv(1 << 20)
        if not more:
            break
        got += more
    s.sendall(got)
    s.close()
    print(hashlib.sha256(got).hexdigest())
print(open("/sys/class/net/eth0/address").read().strip(), open("/sys/class/net/eth0/mtu").read().strip())
print(open("/etc/resolv.conf").read().split())
' "$port"
	wait
	sum=$(sha256sum <sent | cut -d' ' -f1)
	equal "$out" "$(printf '%s\n' "$sum" "$sum" "$mac 1500" "['nameserver', '10.9.7.1', 'nameserver', 'fd09::1']")"
	equal "$(tail -n 2 server.out)" "$(printf '%s\n' "$sum" "$sum")"
	[ "$(jq '.devices.nets[0].rx_bytes' receipt.json)" -gt 40000000 ] || die "$(jq -c .devices.nets receipt.json)"
	[ "$(jq '.devices.nets[0].tx_bytes' receipt.json)" -gt 40000000 ] || die "$(jq -c .devices.nets receipt.json)"
	# segments of up to 64 KiB went over it
	[ "$(jq '.devices.nets[0].tx_packets' receipt.json)" -lt 20000 ] || die "$(jq -c .devices.nets receipt.json)"
	equal "$(jq -r '.asked.net[0]' receipt.json)" \
		"tap=$tap,ip=10.9.7.2/24,gw=10.9.7.1,ip6=fd09::2/64,gw6=fd09::1,dns=10.9.7.1,dns=fd09::1,mac=$mac,mtu=1500"
}

# What root in the guest sends in another's name, seen from the host: it never came out.
test_what_is_not_let_out() {
	tap || return 0
	python3 -c '
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind((sys.argv[1], 0))
print("ready", flush=True)
while True:
    frame, address = s.recvfrom(65536)
    if address[2] != socket.PACKET_OUTGOING and b"MARK" in frame:
        print(frame[frame.index(b"MARK") + 4:][:1].decode(), flush=True)
        if b"MARKz" in frame:
            break
' "$tap" >seen &
	until_so grep -q ready seen
	expect 0 debian --net "tap=$tap,ip=10.9.7.2/24,ip6=fd09::2/64,mac=$mac" --receipt receipt.json -- python3 -c '
import socket, struct
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
me, other, all = bytes.fromhex("0200000000aa"), bytes.fromhex("0200000000bb"), b"\xff" * 6
def ip4(source, to, mark, options=b""):
    n = 20 + len(options)
    return struct.pack(">BBHHHBBH4s4s", 0x40 | n // 4, 0, n + 5, 0, 0, 64, 253, 0, socket.inet_aton(source), socket.inet_aton(to)) + options + b"MARK" + mark
def ip6(source, next, payload, to="ff02::1"):
    return struct.pack(">IHBB", 6 << 28, len(payload), next, 255) + socket.inet_pton(10, source) + socket.inet_pton(10, to) + payload
four, six, arp = b"\x08\x00", b"\x86\xdd", b"\x08\x06"
for frame in [
    all + me + four + ip4("10.9.7.2", "10.9.7.1", b"a"),
    all + other + four + ip4("10.9.7.2", "10.9.7.1", b"b"),
    all + me + four + ip4("10.9.7.3", "10.9.7.1", b"c"),
    all + me + four + ip4("10.9.7.2", "127.0.0.1", b"d"),
    all + me + four + ip4("10.9.7.2", "10.9.7.1", b"e", b"\x83\x07\x04\x0a\x09\x07\x01\x00"),
    all + me + b"\x81\x00\x00\x05" + four + ip4("10.9.7.2", "10.9.7.1", b"f"),
    all + me + six + ip6("fe80::ff:fe00:aa", 58, b"\x86\x00\x00\x00" + b"\0" * 12 + b"MARKg"),
    all + me + six + ip6("fd09::3", 253, b"MARKh"),
    all + me + arp + bytes.fromhex("0001080006040001") + me + socket.inet_aton("10.9.7.1") + b"\0" * 6 + b"MARKi",
    all + me + b"\x88\xcc" + b"MARKj",
    all + me + four + ip4("10.9.7.2", "10.9.7.1", b"k") + b"x" * 1500,
    all + me + six + ip6("fd09::2", 253, b"MARKl"),
    all + me + four + ip4("10.9.7.2", "10.9.7.1", b"z"),
]:
    try:
        s.send(frame)
    except OSError as e:
        print(e.errno)
'
	wait
	equal "$out" 90 # Linux itself sends nothing beyond the MTU: EMSGSIZE
	equal "$(tail -n +2 seen | tr -d '\n')" alz
	equal "$(jq -c '.devices.nets[0] | [.dropped_mac, .dropped_address >= 4, .dropped_route, .dropped_router, .dropped_kind]' receipt.json)" \
		'[1,true,1,1,2]'
	grep -q 'net0: a packet of the guest' stderr || die "nothing was logged: $err"
}

test_socket() {
	start_peer
	expect 0 debian --net "socket=$PWD/net.sock,ip=10.9.7.2/24,mtu=9000" --receipt receipt.json -- python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(20)
s.connect(("10.9.7.1", 7))
for size in 1, 100, 1472, 1473, 8972:
    s.send(bytes(size))
    print(len(s.recv(65536)))
for i in range(200):
    s.send(b"%d" % i * 100)
    assert s.recv(65536) == b"%d" % i * 100, i
print(open("/sys/class/net/eth0/mtu").read().strip())
'
	equal "$out" "$(printf '%s\n' 1 100 1472 1473 8972 9000)"
	wait "$peer_pid" || die "the peer: $(cat peer.err)" # it saw the VM's end
	equal "$(jq '.devices.nets[0].rx_dropped' receipt.json)" 0
}

# A host's end that goes is a cable that was pulled; a tap can be had by another, then.
test_host_end_goes() {
	start_peer
	expect 0 debian --net "socket=$PWD/net.sock,ip=10.9.7.2/24" -- python3 -c '
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("10.9.7.1", 7))
print(open("/sys/class/net/eth0/carrier").read().strip())
s.send(b"end")
while open("/sys/class/net/eth0/carrier").read().strip() != "0":
    time.sleep(0.05)
print("down")
'
	equal "$out" "$(printf '%s\n' 1 down)"
	grep -q 'net0: the link is down' stderr || die "nothing was said: $err"
}

# Two devices, in order; of two default routes the first counts, and the first who names a server is asked.
test_two_devices() {
	local first
	start_peer
	mv net.sock first.sock
	first=$peer_pid
	start_peer
	expect 0 debian --net "socket=$PWD/first.sock,ip=10.9.1.2/24,gw=10.9.1.1" \
		--net "socket=$PWD/net.sock,ip=10.9.2.2/24,gw=10.9.2.1,dns=10.9.2.3" -- sh -c '
		awk "\$2 == \"00000000\" { print \$1, \$3 }" /proc/net/route; cat /etc/resolv.conf'
	equal "$out" "$(printf '%s\n' "eth0 0101090A" "nameserver 10.9.2.3")"
	wait "$first" "$peer_pid"
}

# No bytes beyond the bucket's; what is lifted while packets wait lets them go.
test_limits() {
	local pid
	start_peer
	expect 0 debian --net "socket=$PWD/net.sock,ip=10.9.7.2/24" --net-bps 100k -- python3 -c '
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(60)
s.connect(("10.9.7.1", 7))
t = time.monotonic()
for _ in range(250):
    s.send(bytes(1400))
    s.recv(65536)
print(int((time.monotonic() - t) * 100))
'
	# 250 frames of 1442 bytes, one second's worth at once
	[ $((250 * 1442)) -le $((102400 * (out + 110) / 100)) ] || die "all in $out/100 s"
	wait "$peer_pid"
	rm net.sock
	start_peer
	debian --net "socket=$PWD/net.sock,ip=10.9.7.2/24" --net-pps 5 --name "net$$" -- python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("10.9.7.1", 7))
for i in range(2000): # seven minutes, if nothing is lifted
    s.send(b"x")
    if i == 3:
        print("ready", flush=True)
    s.recv(100)
print("done")
' >out 2>err &
	pid=$!
	until grep -q ready out || ! kill -0 "$pid"; do sleep 0.05; done
	expect 0 "$mvm" update "net$$" --net-pps 0
	refused --net-bps -- "$mvm" update "net$$" --net-bps 1
	wait "$pid" || die "$(cat err)"
	grep -q done out || die "$(cat out err)"
	expect 0 "$mvm" rm "net$$"
}

# While the host's end sends as fast as it can, all through it, disk, streams and further commands work.
test_flooded() {
	local flood
	tap || return 0
	truncate -s 8M disk
	expect 0 detached --name box --net "tap=$tap,ip=10.9.7.2/24,mac=$mac" --disk disk -- sleep 1000
	trap 'jobs -p | xargs -r kill; "$mvm" rm -f box >/dev/null; ip link del "$tap" 2>/dev/null' EXIT
	python3 -c '
import itertools, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
for n in itertools.count():
    try:
        s.sendto(bytes(1400), ("10.9.7.2" if n % 2 else "10.9.7.255", 9))
    except OSError:
        pass
' &
	flood=$!
	until_so eval '[ "$(cat /sys/class/net/$tap/statistics/tx_packets)" -gt 5000 ]'
	expect 0 "$mvm" exec box -- sh -c 'dd if=/dev/vdb of=/dev/null bs=64k && dd if=/dev/zero of=/dev/vdb bs=64k count=128 conv=fsync && echo done'
	equal "$out" done
	expect 0 bash -c 'head -c 1000000 /dev/urandom >sent; "$mvm" exec -i box -- cat <sent | cmp - sent'
	kill $flood || die "the flood ended before"
	wait $flood
	expect 0 "$mvm" stop box
}

# What a guest does not listen to costs it nothing: groups that it did not join, others' addresses; until it listens to all.
test_filter() {
	tap || return 0
	python3 -c '
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind((sys.argv[1], 0))
mine, me, other = b"\2\0\0\0\0\1", bytes.fromhex("0200000000aa"), bytes.fromhex("0200000000bb")
print("ready", flush=True)
while True:
    frame, address = s.recvfrom(65536)
    if address[2] == socket.PACKET_OUTGOING or b"AGAIN" not in frame:
        continue
    for to, mark in (other, b"u"), (b"\1\0\x5e\1\2\3", b"m"), (b"\1\0\x5e\0\0\xfb", b"j"), (b"\xff" * 6, b"b"), (me, b"o"), (me, b"z"):
        s.send(to + mine + b"\x88\xb5" + b"MARK" + mark + bytes(60))
' "$tap" >ready &
	trap 'kill %1; ip link del "$tap" 2>/dev/null' EXIT
	until_so grep -q ready ready
	limit=120 expect 0 debian --net "tap=$tap,mac=$mac" --receipt receipt.json -- python3 -c '
import socket, struct, time
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88b5))
s.bind(("eth0", 0))
s.settimeout(20)
g = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
def seen():
    s.send(b"\xff" * 6 + bytes.fromhex("0200000000aa") + b"\x88\xb5" + b"AGAIN")
    marks = ""
    while not marks.endswith("z"):
        frame = s.recv(100)
        if b"MARK" in frame:
            marks += chr(frame[18])
    return marks
def until(want):
    end, got = time.monotonic() + 20, ""
    while got != want and time.monotonic() < end: # the driver asks when it comes to it
        got = seen()
    print(got, flush=True)
until("boz")
g.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, struct.pack("=4s4si", socket.inet_aton("224.0.0.251"), bytes(4), socket.if_nametoindex("eth0")))
until("jboz")
s.setsockopt(263, 1, struct.pack("=iHH8s", socket.if_nametoindex("eth0"), 2, 0, b"")) # PACKET_ADD_MEMBERSHIP: PACKET_MR_ALLMULTI
until("mjboz")
s.setsockopt(263, 1, struct.pack("=iHH8s", socket.if_nametoindex("eth0"), 1, 0, b"")) # PACKET_MR_PROMISC
until("umjboz")
'
	equal "$out" "$(printf '%s\n' boz jboz mjboz umjboz)"
	[ "$(jq '.devices.nets[0].rx_filtered' receipt.json)" -ge 4 ] || die "$(jq -c .devices.nets receipt.json)"
}

# What tcpdump finds in a capture, without times.
dumped() {
	tcpdump -Knqtr "$1" "${@:2}" 2>/dev/null
}

# Frames of two devices, both ways, by name and direction; and what was refused is not there.
test_pcap() {
	local first
	start_peer
	mv net.sock first.sock
	first=$peer_pid
	start_peer
	echo old >cap
	limit=120 expect 0 debian --net "socket=$PWD/first.sock,ip=10.9.1.2/24" --net "socket=$PWD/net.sock,ip=10.9.2.2/24" --pcap cap \
		--receipt receipt.json -- python3 -c '
import socket
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(("eth0", 0))
raw.send(b"\xff" * 6 + bytes.fromhex("0200000000bb") + b"\x88\xcc" + b"SPOOFED")
for address, size in ("10.9.1.1", 100), ("10.9.2.1", 1400):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(20)
    s.connect((address, 7777))
    for _ in range(5):
        s.send(b"q" * size)
        s.recv(65536)
'
	wait "$first" "$peer_pid"
	[ "$(jq -r .capture.ended receipt.json)" = run ] || die "$(jq -c .capture receipt.json)"
	equal "$(jq .capture.bytes receipt.json)" "$(stat -c %s cap)"
	equal "$(jq '.capture.frames + .capture.dropped' receipt.json)" "$(jq '[.devices.nets[] | .tx_packets + .rx_packets] | add' receipt.json)"
	equal "$(jq .capture.dropped receipt.json)" 0
	equal "$(stat -c %a cap)" "$(stat -c %a receipt.json)" # it was there before: as its owner had it
	equal "$(dumped cap | wc -l)" "$(jq .capture.frames receipt.json)"
	equal "$(dumped cap 'src 10.9.1.2 and udp port 7777' | wc -l)" 5
	equal "$(dumped cap 'dst 10.9.1.2 and udp port 7777' | wc -l)" 5
	equal "$(dumped cap 'src 10.9.2.2 and udp port 7777 and greater 1400' | wc -l)" 5
	grep -qa SPOOFED cap && die "what was refused is in it"
	equal "$(jq '.devices.nets[0].dropped_mac' receipt.json)" 1
	rm -f net.sock
	start_peer
	limit=120 expect 0 debian --net "socket=$PWD/net.sock,ip=10.9.2.2/24" --pcap new --pcap-snap 64 -- python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(20)
s.connect(("10.9.2.1", 7777))
s.send(b"q" * 1400)
s.recv(65536)
'
	wait "$peer_pid"
	equal "$(stat -c %a new)" 600
	grep -qa qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq new && die "more than 64 bytes of a frame"
	equal "$(dumped new 'udp port 7777' | wc -l)" 2
}

# With a tap: what its other end saw is what was captured, segments of up to 64 KiB among it.
test_pcap_tap() {
	tap || return 0
	head -c 2999808 /dev/urandom >sent
	python3 -c '
import socket
s = socket.create_server(("10.9.7.1", 7001))
print("ready", flush=True)
c, _ = s.accept()
got = b""
while True:
    more = c.recv(1 << 20)
    if not more:
        break
    got += more
c.sendall(got[-1000000:])
c.close()
' >server.out &
	until_so grep -q ready server.out
	limit=120 expect 0 debian --net "tap=$tap,ip=10.9.7.2/24" --disk "$PWD/sent,ro" --pcap cap --receipt receipt.json -- python3 -c '
import socket
s = socket.create_connection(("10.9.7.1", 7001))
s.sendall(open("/dev/vdb", "rb").read(2999808))
s.shutdown(socket.SHUT_WR)
while s.recv(1 << 20):
    pass
'
	wait
	equal "$(jq '.capture.frames + .capture.dropped' receipt.json)" "$(jq '[.devices.nets[] | .tx_packets + .rx_packets] | add' receipt.json)"
	[ "$(jq .capture.frames receipt.json)" -gt 20 ] || die "$(jq -c .capture receipt.json)"
	equal "$(dumped cap | wc -l)" "$(jq .capture.frames receipt.json)"
	dumped cap 'tcp[tcpflags] & tcp-syn != 0 and dst port 7001' | grep -q '10.9.7.2.* > 10.9.7.1.7001' || die "$(dumped cap | head -5)"
	if [ "$(jq .capture.dropped receipt.json)" -gt 0 ]; then
		grep -q 'frames are not in it' stderr || die "nothing was said of $(jq .capture.dropped receipt.json): $err"
	fi
}

# A bound, a disk that fills: said once, and the VM goes on.
test_pcap_ends() {
	local how
	for how in full disk; do
		rm -f net.sock
		start_peer
		(
			[ $how = full ] || ulimit -f 100 # 100 KiB, as a full disk
			limit=120 expect 0 debian --net "socket=$PWD/net.sock,ip=10.9.2.2/24" --pcap "$how.cap" --pcap-max 128k --receipt $how.json -- python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(20)
s.connect(("10.9.2.1", 7777))
for _ in range(300):
    s.send(b"q" * 1400)
    s.recv(65536)
print("all")
'
			equal "$out" all
		) || exit 1
		wait "$peer_pid"
		equal "$(jq '.devices.nets[0].tx_packets >= 300' $how.json)" true
		equal "$(jq .capture.bytes $how.json)" "$(stat -c %s $how.cap)"
		equal "$(dumped $how.cap | wc -l)" "$(jq .capture.frames $how.json)"
		[ "$(jq .capture.frames $how.json)" -gt 30 ] || die "$(jq -c .capture $how.json)"
		if [ $how = full ]; then
			equal "$(jq -r .capture.ended $how.json)" full
			equal "$(grep -c -- '--pcap: full.cap: full with 128k' stderr)" 1
			[ "$(stat -c %s full.cap)" -le 131072 ] || die "larger than its bound: $(stat -c %s full.cap)"
			[ "$(stat -c %s full.cap)" -gt 129000 ] || die "not full: $(stat -c %s full.cap)"
		else
			equal "$(jq -r .capture.ended $how.json)" error
			equal "$(grep -c -- '--pcap: disk.cap: cannot be written: File too large' stderr)" 1
		fi
	done
}

# A VM that is started again: one file, a section a run. Its path is as it was given, wherever the supervisor is.
test_pcap_restarted() {
	tap || return 0
	trap 'remove_all; ip link del "$tap" 2>/dev/null' EXIT
	expect 0 debian -d --name "net$$" --restart on-failure:2 --net "tap=$tap,ip=10.9.7.2/24" --pcap cap -- python3 -c '
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(20)
s.connect(("10.9.7.1", 7777))
s.send(b"once")
try:
    s.recv(1)
except ConnectionRefusedError: # nobody listens there
    sys.exit(3)
'
	expect 0 "$mvm" wait "net$$"
	equal "$out" 3
	equal "$(dumped cap 'dst port 7777' | wc -l)" 3
	equal "$(LC_ALL=C grep -aobP '\x4d\x3c\x2b\x1a' cap | wc -l)" 3
}

test_pcap_refused() {
	local bad
	cp "$small/small.ext4" own.img
	start_peer
	set -- --net "socket=$PWD/net.sock"
	refused --pcap: --net -- run --pcap cap -- true
	refused --pcap-max: --pcap -- run "$@" --pcap-max 1m -- true
	refused --pcap-snap: 64 -- run "$@" --pcap cap --pcap-snap 63 -- true
	for bad in /dev/null . none/cap; do
		refused "--pcap: $bad" -- run "$@" --pcap $bad -- true
		wait "$peer_pid" # it was spoken to
		rm -f net.sock
		start_peer
	done
	mkfifo fifo
	refused "--pcap: fifo: not a regular file" -- run "$@" --pcap fifo -- true
	wait "$peer_pid"
	rm -f net.sock
	start_peer
	refused "--pcap: own.img" -- "$mvm" run --rootfs own.img -m 96M "$@" --pcap own.img -- true
	cmp -s own.img "$small/small.ext4" || die "the image was written to"
	wait "$peer_pid"
}

test_in_its_jail() {
	start_peer
	expect 0 "$mvm" run -d --name "net$$" --rootfs "$img" --net "socket=$PWD/net.sock,ip=10.9.7.2/24" -- sleep 1000
	expect 0 "$mvm" inspect --security --format json "net$$"
	equal "$(jq -r '.security.layers[] | select(.name == "descriptors") | .state' stdout)" ok
	expect 0 "$mvm" inspect --format config "net$$"
	equal "$(jq -r '.net[0]' stdout)" "socket=$PWD/net.sock,ip=10.9.7.2/24"
	expect 0 "$mvm" rm -f "net$$"
	wait "$peer_pid" || die "the peer: $(cat peer.err)"
}

test_refused() {
	local bad
	for bad in x tap tap= tap=a/b tap=sixteencharacters socket=relative none,ip=10.0.0.1/8 \
		tap=t,ip=10.0.0.2 tap=t,ip=10.0.0.2/33 tap=t,ip=fd00::2/64 tap=t,ip=127.0.0.1/8 tap=t,ip=224.0.0.1/8 tap=t,gw=10.0.0.1 \
		tap=t,ip6=fe80::1/64 tap=t,ip6=::1/128 tap=t,mac=01:00:00:00:00:00 tap=t,mac=02:00 tap=t,mtu=67 tap=t,mtu=65521 \
		tap=t,ip6=fd00::2/64,mtu=1279 tap=t,dns=x tap=t,unknown=1 tap=t,ip; do
		refused --net: -- run --net "$bad" -- true
	done
	refused --net: none -- run --net none --net tap=t -- true
	refused --net-bps: --net -- run --net-bps 1m -- true
	refused "tap=nosuch" "ip tuntap add" -- run --net "tap=nosuch" -- true
	refused "socket=$PWD/none" "passt --no-map-gw --socket" -- run --net "socket=$PWD/none" -- true
	refused tap=lo "ip tuntap add" -- run --net tap=lo -- true
	expect 0 run --net none -- true
	tap || return 0
	refused "10.9.7.1 is this host's own address ($tap)" -- run --net "tap=$tap,ip=10.9.7.1/24" -- true
	refused "fd09::1 is this host's own address ($tap)" -- run --net "tap=$tap,ip6=fd09::1/64" -- true
	"$mvm" run --rootfs "$img" --net "tap=$tap" -- sh -c 'echo up; sleep 1000' >out &
	until_so grep -q up out
	refused "tap=$tap" "in use" -- run --net "tap=$tap" -- true
	kill %1
	wait
}
