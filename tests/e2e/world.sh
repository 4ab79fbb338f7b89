# shellcheck shell=bash
# For the cases that want a network of their own: the namespace $here is the host that mvm runs in, $there all that is
# outside of it.

# What the kernel has for networks of ordinary users.
network_modules() {
	modprobe -a tun nf_tables nft_ct nft_limit nft_log nft_connlimit nft_masq nft_nat nft_reject_inet nfnetlink_log 2>/dev/null
	[ -w /dev/net/tun ] || return
	[ "$(stat -c %a /dev/net/tun)" = 666 ] || chmod 666 /dev/net/tun # as udev has it
}

# make_world ADDRESS…: with these outside; all of it goes with the test. Says why where it cannot be.
make_world() {
	local a of
	[ "$(id -u)" -eq 0 ] || { echo "SKIP needs root, to make a network of its own"; return 1; }
	command -v pasta nft >/dev/null || { echo "SKIP needs pasta and nft"; return 1; }
	network_modules || { echo "SKIP no /dev/net/tun"; return 1; }
	here=h$$ there=o$$
	ip netns add "$here"
	ip netns add "$there"
	trap end_world EXIT
	ip link add v0 netns "$here" type veth peer name v1 netns "$there"
	for of in "$here" "$there"; do ip -n "$of" link set lo up; done
	ip -n "$here" address add 203.0.113.2/24 dev v0
	ip -n "$here" address add 2001:db8:55::2/64 dev v0 nodad
	ip -n "$here" link set v0 up
	ip -n "$there" address add 203.0.113.1/24 dev v1
	ip -n "$there" address add 2001:db8:55::1/64 dev v1 nodad
	ip -n "$there" link set v1 up
	ip -n "$here" route add default via 203.0.113.1
	ip -n "$here" -6 route add default via 2001:db8:55::1
	for a in "$@"; do
		case $a in
		*:*) ip -n "$there" address add "$a/128" dev lo nodad ;;
		*) ip -n "$there" address add "$a/32" dev lo ;;
		esac
	done
	: >heard
}

# With the servers of serve() at addresses of every kind, on both sides; and ${on_host[@]}.
make_internet() {
	make_world 198.51.100.1 198.51.100.2 10.9.8.7 172.16.3.3 192.168.3.3 100.64.3.3 169.254.169.254 168.63.129.16 8.8.8.8 \
		2001:db8:99::1 2001:db8:98::1 fd99::1 fd00:ec2::254 64:ff9b::a09:807 2002:a09:807::1 || return 1
	ip netns exec "$here" sysctl -qw net.ipv4.ping_group_range="0 2147483647"
	serve "$there" outside
	serve "$here" host
	by
}

# serve NAMESPACE WHO [PORT…]: TCP and UDP echo on port 7 and 8 of every address there, and the names: who was spoken to is in `heard`. Names ending in .silent have
# no answer; port.forged and address.forged have one from another port and from another address than was asked.
serve() {
	nsenter --net="/run/netns/$1" python3 -c '
import selectors, socket, subprocess, sys, re
who, sel = sys.argv[1], selectors.DefaultSelector()
names = {
    "open.example": ["198.51.100.1", "2001:db8:99::1"],
    "other.example": ["198.51.100.2"],
    "alias.example": ["open.example"],
    "a.wild.example": ["8.8.8.8", "2001:db8:98::1"],
    "wild.example": ["8.8.8.8"],
    "near.example": ["2001:db8:70::7"],
    "right.forged": ["198.51.100.1"],
    "port.forged": ["198.51.100.1"],
    "address.forged": ["198.51.100.1"],
    "rebind.example": ["10.9.8.7", "203.0.113.2", "169.254.169.254", "fd99::1"],
}
def wire(name):
    return b"".join(bytes([len(l)]) + l.encode() for l in name.split(".")) + b"\0"
def records(name, kind):
    for a in names.get(name, []):
        if a in names:
            yield name, 5, wire(a)
            yield from records(a, kind)
        elif (":" in a) == (kind == 28):
            yield name, kind, socket.inet_pton(socket.AF_INET6 if kind == 28 else socket.AF_INET, a)
def dns(data):
    if len(data) < 12:
        return "", b"answer"
    labels, at = [], 12
    while data[at]:
        labels.append(data[at + 1:at + 1 + data[at]].decode())
        at += 1 + data[at]
    name, kind = ".".join(labels), int.from_bytes(data[at + 1:at + 3], "big")
    asked.write(name + "\n")
    if labels[-1] == "silent":
        return name, None
    found = list(records(name, kind))
    return name, (data[:2] + (0x8180 if name in names else 0x8183).to_bytes(2, "big") + b"\0\1" + len(found).to_bytes(2, "big")
        + bytes(4) + data[12:at + 5]
        + b"".join(wire(n) + k.to_bytes(2, "big") + b"\0\1\0\0\0\5" + len(d).to_bytes(2, "big") + d for n, k, d in found))
datagrams = {}
# Whence an answer about `name` goes that `a` was asked for.
def speaker(name, a):
    if name == "port.forged":
        return datagrams[a, 8]
    if name == "address.forged":
        return next(u for (other, port), u in datagrams.items()
            if port == 53 and other != a and not other.startswith(("127.", "::1")) and (":" in other) == (":" in a))
    return datagrams[a, 53]
heard, asked = (open(name, "a", buffering=1) for name in ("heard", "asked"))
for a in set(re.findall(r"inet6? ([0-9a-f.:]+)/", subprocess.run(["ip", "addr"], capture_output=True, text=True).stdout)):
    if a.startswith("fe80"):
        continue
    family = socket.AF_INET6 if ":" in a else socket.AF_INET
    for port in map(int, sys.argv[2:] or ("7", "8", "53")):
        t = socket.socket(family, socket.SOCK_STREAM)
        t.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        t.bind((a, port))
        t.listen(50)
        sel.register(t, 1, (a, port, "tcp"))
        u = socket.socket(family, socket.SOCK_DGRAM)
        u.bind((a, port))
        sel.register(u, 1, (a, port, "udp"))
        datagrams[a, port] = u
print("serving", flush=True)
while True:
    for key, _ in sel.select():
        a, port, kind = key.data
        if kind == "tcp":
            c, peer = key.fileobj.accept()
            c.sendall(b"tcp")
            c.close()
        else:
            data, peer = key.fileobj.recvfrom(2000)
            name, data = dns(data) if port == 53 else ("", data)
            if data:
                (speaker(name, a) if name else key.fileobj).sendto(data, peer)
        heard.write(f"{who} {kind} {a} {port}\n")
' "${@:2}" >"serving.$2" 2>&1 &
	until grep -qs . "serving.$2"; do sleep 0.05; done
	grep -q serving "serving.$2" || die "$(cat "serving.$2")"
}

# What runs mvm on that host, whose name server is outside, behind a command that may be given: ${on_host[@]}.
by() {
	echo 'nameserver 203.0.113.1' >resolv.conf
	# shellcheck disable=SC2016 # expanded by that shell
	on_host=(nsenter --net="/run/netns/$here" unshare -m --propagation private
		sh -c 'mount --bind "$0" /etc/resolv.conf && exec "$@"' "$PWD/resolv.conf" "$@" "$mvm")
}

# A probe of the guest's: rows of KIND ADDRESS-OR-NAME PORT (dns: is there an answer?); says "KIND ADDRESS PORT yes" or "… no".
probe='
import concurrent.futures, itertools, socket, struct, sys, time
ids = itertools.count(77) # pasta takes a second echo of an id and sequence number for the first one again
def ping(family, to):
    s = socket.socket(family, socket.SOCK_RAW, 1 if family == socket.AF_INET else 58)
    s.settimeout(3)
    end = time.monotonic() + 3
    h = struct.pack(">BBHHH", 8 if family == socket.AF_INET else 128, 0, 0, next(ids), 1) + b"abcdefgh"
    if family == socket.AF_INET:
        n = sum(struct.unpack(">8H", h))
        n = (n >> 16) + (n & 0xffff)
        h = h[:2] + struct.pack(">H", 0xffff & ~(n + (n >> 16))) + h[4:]
    s.sendto(h, (to, 0))
    while time.monotonic() < end:
        r, a = s.recvfrom(2000)
        if a[0] == to and b"abcdefgh" in r and r[20 if family == socket.AF_INET else 0] in (0, 129):
            return True
    return False
def one(kind, to, port):
    family = socket.AF_INET6 if ":" in to or kind.endswith("6") else socket.AF_INET
    if kind == "dns":
        return len(socket.getaddrinfo(to, 7)) > 0
    to = socket.getaddrinfo(to, port, family)[0][4][0]
    kind = kind.rstrip("6")
    if kind == "ping":
        return ping(family, to)
    s = socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    s.settimeout(1 if kind == "udp" else 10)
    s.connect((to, port))
    for left in (2, 1, 0) if kind == "udp" else (): # a datagram may be lost while a neighbour is asked for
        s.send(b"x")
        try:
            return len(s.recv(100)) > 0
        except TimeoutError:
            if not left:
                raise
    return len(s.recv(100)) > 0
def say(row):
    kind, to, port = row.split()
    try:
        ok = one(kind, to, int(port))
    except OSError:
        ok = False
    return row + (" yes" if ok else " no")
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    for line in pool.map(say, sys.argv[1].split(",")):
        print(line, flush=True)
'

end_world() {
	local pid
	"$mvm" ps -aq | xargs -r "$mvm" rm -f
	for pid in $(jobs -p); do kill "$pid" 2>/dev/null; done
	wait
	ip netns del "$here" 2>/dev/null
	ip netns del "$there" 2>/dev/null
}
