# --proxy: a way out without a network device, by the same rules as --net user's: what passes and what does not, by HTTP and
# SOCKS, and what a guest can do to it.

# shellcheck source=tests/e2e/world.sh
. "$top/tests/e2e/world.sh"

proxy_world() {
	make_world 198.51.100.1 198.51.100.2 10.9.8.7 169.254.169.254 2001:db8:99::1 fd99::1 || return 1
	proxy_serve "$there" outside
	proxy_serve "$here" host
	echo 'nameserver 203.0.113.1' >resolv.conf
	# shellcheck disable=SC2016 # expanded by that shell
	on_host=(nsenter --net="/run/netns/$here" unshare -m --propagation private
		sh -c 'mount --bind "$0" /etc/resolv.conf && exec "$@"' "$PWD/resolv.conf" "$mvm")
}

# On every address there: port 7 echoes, port 9 takes and gives much, port 80 answers with the request that it got, 53 knows names;
# who was spoken to is in `heard`.
proxy_serve() {
	nsenter --net="/run/netns/$1" python3 -c '
import hashlib, socket, subprocess, sys, re, struct, threading
who, heard = sys.argv[1], open("heard", "a", buffering=1)
names = {"www.example.org": {1: "198.51.100.1", 28: "2001:db8:99::1"}, "four.example.org": {1: "198.51.100.2"},
         "intra.example.org": {1: "10.9.8.7"}, "both.example.org": {1: "198.51.100.1", 28: "fd99::1"}}
def echo(c):
    while data := c.recv(65536):
        c.sendall(data)
def bulk(c):
    f = c.makefile("rwb")
    n = int(f.readline())
    f.write(hashlib.sha256(f.read(n)).hexdigest().encode() + bytes(range(256)) * (n // 256))
    f.flush()
    f.read(1)
def http(c):
    got = b""
    while b"\r\n\r\n" not in got and (data := c.recv(65536)):
        got += data
    c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(got) + got)
def one(c, serve):
    try:
        serve(c)
    except OSError:
        pass
    c.close()
def tcp(s, a, port, serve):
    while True:
        c, _ = s.accept()
        heard.write(f"{who} {a} {port}\n")
        threading.Thread(target=one, args=(c, serve), daemon=True).start()
def dns(u):
    while True:
        m, peer = u.recvfrom(2000)
        at, words = 12, []
        while m[at]:
            words.append(m[at + 1:at + 1 + m[at]].decode())
            at += m[at] + 1
        kind, known = struct.unpack(">H", m[at + 1:at + 3])[0], names.get(".".join(words))
        heard.write(f"{who} asked {chr(46).join(words)}\n")
        a = (known or {}).get(kind)
        r = m[:2] + struct.pack(">HHHHH", 0x8180 if known else 0x8183, 1, int(a is not None), 0, 0) + m[12:at + 5]
        if a:
            bits = socket.inet_pton(socket.AF_INET if kind == 1 else socket.AF_INET6, a)
            r += b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(bits)) + bits
        u.sendto(r, peer)
for a in set(re.findall(r"inet6? ([0-9a-f.:]+)/", subprocess.run(["ip", "addr"], capture_output=True, text=True).stdout)):
    if a.startswith("fe80"):
        continue
    family = socket.AF_INET6 if ":" in a else socket.AF_INET
    for port, serve in (7, echo), (9, bulk), (80, http):
        t = socket.create_server((a, port), family=family, backlog=300)
        threading.Thread(target=tcp, args=(t, a, port, serve), daemon=True).start()
    u = socket.socket(family, socket.SOCK_DGRAM)
    u.bind((a, 53))
    threading.Thread(target=dns, args=(u,), daemon=True).start()
print("serving", flush=True)
threading.Event().wait()
' "$2" >"serving.$2" 2>&1 &
	until_so grep -qs . "serving.$2"
	grep -q serving "serving.$2" || die "$(cat "serving.$2")"
}

# What the guest does: each argument is WAY HOST PORT; says "WAY HOST PORT yes" when its bytes come back, else "… no" and why.
proxy_probe='
import concurrent.futures, ipaddress, socket, struct, sys
def ask(way, to, port):
    s = socket.create_connection(("127.0.0.1", 3128), 60)
    if way == "get":
        at = "[" + to + "]" if ":" in to else to
        s.sendall(b"GET http://%s:%d/x HTTP/1.1\r\nHost: y\r\n\r\n" % (at.encode(), port))
        got = read(s, b"\r\n\r\n")
        return got.startswith(b"HTTP/1.1 200"), got.split(b" ")[1:2]
    if way == "connect":
        at = "[" + to + "]" if ":" in to else to
        s.sendall(b"CONNECT %s:%d HTTP/1.1\r\n\r\n" % (at.encode(), port))
        got = read(s, b"\r\n\r\n")
        if not got.startswith(b"HTTP/1.1 200"):
            return False, got.split(b" ")[1:2]
    else:
        s.sendall(b"\5\1\0")
        if s.recv(2) != b"\5\0":
            return False, "greeting"
        try:
            bits = ipaddress.ip_address(to).packed
            kind = b"\1" if len(bits) == 4 else b"\4"
        except ValueError:
            bits, kind = bytes([len(to)]) + to.encode(), b"\3"
        s.sendall(b"\5\1\0" + kind + bits + struct.pack(">H", port))
        got = s.recv(10)
        if got[:2] != b"\5\0":
            return False, got[1:2]
    s.sendall(b"hello")
    return s.recv(5) == b"hello", "echo"
def read(s, end):
    got = b""
    while end not in got and (data := s.recv(65536)):
        got += data
    return got
def say(row):
    way, to, port = row.split()
    try:
        ok, why = ask(way, to, int(port))
    except OSError as e:
        ok, why = False, e
    if not ok:
        print(row, why, file=sys.stderr)
    return row + (" yes" if ok else " no")
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    for line in pool.map(say, sys.argv[1].split(",")):
        print(line, flush=True)
'

# through "FLAGS" ROW…: a row is "WAY HOST PORT yes|no"; what the guest says is that, and what may not be heard outside is not.
through() {
	local flags=$1 rows="" want="" way to port may
	shift
	for row in "$@"; do
		read -r way to port may <<<"$row"
		rows+="${rows:+,}$way $to $port"
		want+="$way $to $port $may"$'\n'
	done
	: >heard
	# shellcheck disable=SC2086 # flags are words
	limit=180 expect 0 "${on_host[@]}" run --rootfs "$img" -m 256M --proxy $flags --receipt receipt.json -- python3 -c "$proxy_probe" "$rows"
	[ "$out"$'\n' = "$want" ] || die "$flags: $(diff <(echo "$out") <(printf %s "$want")) $err"
	for row in "$@"; do
		read -r way to port may <<<"$row"
		[ "$may" = no ] || continue
		! grep -q " $to $port\$" heard || die "$flags: $row: heard: $(cat heard)"
	done
}

# The public internet, by address and by name, and nothing else.
test_allow() {
	proxy_world || return 0
	through "" "connect 198.51.100.1 7 yes" "connect 2001:db8:99::1 7 yes" "socks 198.51.100.1 7 yes" "socks 2001:db8:99::1 7 yes" \
		"get 198.51.100.1 80 yes" "get 2001:db8:99::1 80 yes" \
		"connect www.example.org 7 yes" "socks four.example.org 7 yes" "get www.example.org 80 yes" "connect both.example.org 7 yes" \
		"connect 10.9.8.7 7 no" "socks 10.9.8.7 7 no" "get 10.9.8.7 80 no" "connect fd99::1 7 no" "connect intra.example.org 7 no" \
		"connect 169.254.169.254 80 no" "get 169.254.169.254 80 no" "socks 169.254.169.254 80 no" \
		"connect 203.0.113.2 7 no" "connect 203.0.113.1 7 no" "connect 2001:db8:55::2 7 no" "get 203.0.113.2 80 no" \
		"connect 127.0.0.1 7 no" "connect ::1 7 no" "connect 0.0.0.0 7 no" "connect 192.0.0.10 7 no" "connect 192.0.0.9 7 no" \
		"connect 127.1 7 no" "connect nobody.example.org 7 no"
	! grep -q '^host' heard || die "the host was reached: $(grep ^host heard)"
	! grep -q '10.9.8.7\|fd99' heard || die "heard: $(cat heard)"
	equal "$(jq -c '.egress.refused | [.metadata >= 3, .host >= 4, .private >= 5, .egress, .gateway >= 1, .spoofed]' receipt.json)" \
		'[true,true,true,0,true,0]'
	equal "$(jq -c '.egress.proxy | [.opened, .refused >= 12, .failed >= 2, .from_guest_bytes > 0, .to_guest_bytes > 0]' receipt.json)" \
		'[10,true,true,true,true]'
	equal "$(jq -c '.channels.allowed | map(.target)' receipt.json)" '["proxy"]'
	grep -q 'net: the guest may not reach tcp 169.254.169.254:80 (metadata): see --allow-egress' stderr || die "$err"
	"$mvm" events --format json --filter event=egress-refused | grep -q '"to":"tcp 169.254.169.254:80"' || die "no event"
}

# Nothing but what is named; nor is a name asked for.
test_deny() { # for the long run
	proxy_world || return 0
	through "--egress deny" "connect 198.51.100.1 7 no" "get 2001:db8:99::1 80 no" "socks 198.51.100.1 7 no" "connect www.example.org 7 no"
	[ ! -s heard ] || die "heard: $(cat heard)"
	through "--egress deny --allow-egress 198.51.100.1:7/tcp --allow-egress [2001:db8:99::/48]:80/tcp --allow-egress 10.9.8.7" \
		"connect 198.51.100.1 7 yes" "connect 198.51.100.1 80 no" "get 2001:db8:99::1 80 yes" "connect 2001:db8:99::1 7 no" \
		"socks 10.9.8.7 7 yes" "socks 198.51.100.2 7 no" "connect 169.254.169.254 80 no" "connect 203.0.113.2 7 no"
	equal "$(jq -c '.egress | [.policy, (.allowed | length)]' receipt.json)" '["deny",3]'
	through "--egress deny --allow-egress www.example.org:7" "connect www.example.org 7 yes" "socks www.example.org 7 yes" \
		"get www.example.org 80 no" "connect other.example.org 7 no" "connect 198.51.100.2 7 no"
	! grep 'asked' heard | grep -v 'asked www.example.org$' || die "another name was asked for"
	through "--allow-egress 169.254.169.254:80 --allow-egress 203.0.113.2:7" "get 169.254.169.254 80 yes" "connect 169.254.169.254 7 no" \
		"connect 203.0.113.2 7 yes" "connect 203.0.113.2 80 no" "connect 203.0.113.1 7 no"
}

# Programs find it by their environment, unless they are told otherwise; there is no network device; who is refused reads why.
test_environment() {
	proxy_world || return 0
	limit=180 expect 0 "${on_host[@]}" run --rootfs "$img" -m 256M --proxy -e https_proxy=mine -- python3 -c '
import os, socket, urllib.error, urllib.request
print([os.environ.get(v) for v in ("http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "no_proxy")])
print([name for _, name in socket.if_nameindex() if name not in ("lo", "sit0")])
print(urllib.request.urlopen("http://www.example.org/some?thing").read().decode())
for url in "http://intra.example.org/", "http://nobody.example.org/":
    try:
        urllib.request.urlopen(url)
    except urllib.error.HTTPError as e:
        print(e.code, e.read().decode().strip())
'
	equal "$(sed -n 1,2p <<<"$out")" "['http://127.0.0.1:3128', 'http://127.0.0.1:3128', 'mine', 'socks5h://127.0.0.1:3128', 'localhost,127.0.0.1,::1']
[]"
	grep -q '^GET /some?thing HTTP/1.1' <<<"$out" || die "$out"
	grep -q '^403 mvm: intra.example.org (10.9.8.7:80) is refused: .*: see mvm run --allow-egress 10.9.8.7:80$' <<<"$out" || die "$out"
	grep -q '^502 mvm: nobody.example.org:80: there is no such name' <<<"$out" || die "$out"
	! grep -qi 'proxy-\|Connection: keep' <<<"$out" || die "$out"
	expect 0 "${on_host[@]}" run -d --name "p$$" --rootfs "$img" -m 256M --proxy -- sleep 1000
	# shellcheck disable=SC2016 # the VM's
	expect 0 "$mvm" exec -e no_proxy=all "p$$" -- sh -c 'echo $http_proxy $no_proxy'
	equal "$out" "http://127.0.0.1:3128 all"
	expect 0 "$mvm" stats --format json "p$$"
	equal "$(jq '.[0].proxy_opened' stdout)" 0
	expect 0 "$mvm" rm -f "p$$"
}

# Much at once, both ways, beside a published port; what is counted is what went.
test_load() { # for the long run
	proxy_world || return 0
	expect 0 "${on_host[@]}" run -d --name "p$$" --rootfs "$img" -m 256M --proxy -p 0:80 --receipt receipt.json -- python3 -c '
import hashlib, os, socket
def through(port=7):
    s = socket.create_connection(("127.0.0.1", 3128), 120)
    s.sendall(b"CONNECT 198.51.100.1:%d HTTP/1.1\r\n\r\n" % port)
    got = b""
    while b"\r\n\r\n" not in got:
        got += s.recv(1)
    assert b" 200 " in got, got
    return s
s, data, back = through(9), os.urandom(20 << 20), bytearray()
s.sendall(b"%d\n" % len(data) + data)
while len(back) < 64 + len(data) and (piece := s.recv(1 << 20)):
    back += piece
print("bulk", back == hashlib.sha256(data).hexdigest().encode() + bytes(range(256)) * (len(data) // 256), flush=True)
many = [through() for _ in range(100)]
for i, m in enumerate(many):
    m.sendall(b"%3d" % i)
print("many", all(m.recv(3) == b"%3d" % i for i, m in enumerate(many)), flush=True)
server = socket.create_server(("127.0.0.1", 80))
print("up", flush=True)
while True:
    c, _ = server.accept()
    c.sendall(b"published")
    c.close()
'
	until "$mvm" logs "p$$" | grep -q '^up'; do sleep 0.05; "$mvm" logs "p$$" | grep -q Traceback && die "$("$mvm" logs "p$$")"; done
	equal "$("$mvm" logs "p$$")" "$(printf '%s\n' "bulk True" "many True" up)"
	port=$("$mvm" ps -a --format json | jq -r '.[0].ports' | sed 's/.*:\([0-9]*\)->80.*/\1/')
	equal "$(nsenter --net="/run/netns/$here" python3 -c 'import socket, sys; print(socket.create_connection(("127.0.0.1", int(sys.argv[1])), 60).recv(20).decode())' "$port")" published
	expect 0 "$mvm" stats --format json "p$$"
	equal "$(jq -c '.[0] | [.proxy_opened, .proxy_refused, .proxy_from_guest >= 20971520, .proxy_to_guest >= 20971520]' stdout)" '[101,0,true,true]'
	expect 0 "$mvm" metrics
	grep -q '^mvm_vm_proxy_connections_total{.*result="opened"} 101$' stdout || die "$(grep proxy stdout)"
	expect 0 "$mvm" rm -f "p$$"
	equal "$(jq .egress.proxy.opened receipt.json)" 101
}

# A guest that sends garbage, opens without end, never ends its head, never reads: the next client is served.
test_hostile() {
	proxy_world || return 0
	limit=220 expect 0 "${on_host[@]}" run --rootfs "$img" -m 256M --proxy --receipt receipt.json -- python3 -c '
import os, resource, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
def connect(patience=120):
    return socket.create_connection(("127.0.0.1", 3128), patience)
def served():
    s = connect(250)
    s.sendall(b"CONNECT 198.51.100.1:7 HTTP/1.1\r\n\r\nhello")
    got = b""
    while not got.endswith(b"hello") and (data := s.recv(1000)):
        got += data
    return got.endswith(b"hello")
for i in range(100):
    s = connect()
    try:
        s.sendall((b"", b"\5", b"GET ", b"\5\1\0\5\1\0\3\377", b"\4\1")[i % 5] + os.urandom(i * 300))
    except OSError:
        pass
    s.close()
print("garbage", served(), flush=True)
s = connect()
s.sendall(b"GET http://198.51.100.1/ HTTP/1.1\r\nA: ")
try:
    for i in range(100):
        s.sendall(b"a" * 1000)
except OSError:
    pass
got = s.recv(100)
print("large", got[:12] == b"HTTP/1.1 431" or got == b"", served(), flush=True)
deaf = [connect() for _ in range(20)]
for s in deaf:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)  # the guest has one bound on the memory of all its TCP
    s.sendall(b"CONNECT 198.51.100.1:7 HTTP/1.1\r\n\r\n")
    s.setblocking(False)
for i in range(50):
    for s in deaf:
        try:
            s.send(b"x" * 65536)
        except OSError:
            pass
print("deaf", served(), flush=True)
for s in deaf:
    s.close()
slow = []
for _ in range(1000):
    s = socket.socket()
    s.setblocking(False)
    s.connect_ex(("127.0.0.1", 3128))
    slow.append(s)
for s in slow[:300]:
    try:
        s.send(b"CONNECT ")
    except OSError:
        pass
for s in slow[400:]:
    s.close()
print("slow", served(), flush=True)  # when the first of them are given up
'
	equal "$out" "$(printf '%s\n' "garbage True" "large True True" "deaf True" "slow True")"
}

# Whoever is killed, nothing stays; and who the proxy was: nobody's uid, no capability, no descriptor but its sockets.
test_ends() {
	local who outer inner proxy pid
	proxy_world || return 0
	for who in vm supervisor proxy; do
		expect 0 "${on_host[@]}" run -d --name "p$$" --rootfs "$img" -m 256M --proxy -- sleep 1000
		outer=$(pgrep -x -o mvm-net)
		inner=$(pgrep -P "$outer")
		proxy=$(pgrep -P "$inner" -x mvm-net)
		[ "${outer:+a}${inner:+b}${proxy:+c}" = abc ] || die "no processes: '$outer' '$inner' '$proxy'"
		[ "$(awk '/^Uid:/ { print $2 }' "/proc/$proxy/status")" -ge 1900000000 ] || die "root's: $(cat "/proc/$proxy/status")"
		equal "$(awk '/^Cap(Inh|Prm|Eff|Bnd|Amb):/ { print $2 }' "/proc/$proxy/status" | sort -u)" 0000000000000000
		equal "$(awk '/^(NoNewPrivs|Seccomp):/ { print $2 }' "/proc/$proxy/status" | tr '\n' ' ')" "1 2 "
		equal "$(find "/proc/$proxy/fd" -type l -printf '%l\n' | sed 's/:.*//')" socket
		expect 0 "$mvm" inspect --security --format json "p$$"
		equal "$(jq -r '.security.layers[] | select(.name == "descriptors") | .state' stdout)" ok
		case $who in
		vm) expect 0 "$mvm" kill "p$$" ;;
		supervisor) kill -KILL "$(awk '/^PPid:/ { print $2 }' "/proc/$outer/status")" ;;
		proxy)
			kill -KILL "$proxy"
			until_so says_of logs "p$$" -- -q 'no way out any more: the proxy ended'
			expect 1 "$mvm" exec "p$$" -- python3 -c '
import socket, sys
s = socket.create_connection(("127.0.0.1", 3128), 60)
s.sendall(b"CONNECT 198.51.100.1:7 HTTP/1.1\r\n\r\n")
try:
    sys.exit(s.recv(1) == b"")
except OSError:
    sys.exit(1)
'
			;;
		esac
		for pid in "$outer" "$inner" "$proxy"; do
			until ! kill -0 "$pid" 2>/dev/null || grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null; do sleep 0.05; done
		done
		expect 0 "$mvm" rm -f "p$$"
		! pgrep -x mvm-net >/dev/null || die "$who: left: $(pgrep -a mvm-net)"
	done
}

# As a user with no rights at all.
test_rootless() {
	proxy_world || return 0
	command -v setpriv >/dev/null || { echo "SKIP no setpriv"; return; }
	mkdir -m 700 theirs && chown 12345 theirs && chmod 777 .
	# shellcheck disable=SC2016 # expanded by that shell
	on_host=(nsenter --net="/run/netns/$here" unshare -m --propagation private
		sh -c 'mount --bind "$0" /etc/resolv.conf && exec "$@"' "$PWD/resolv.conf" setpriv --reuid 12345 --regid 12345
		--groups "$(stat -c %g /dev/kvm)" env XDG_RUNTIME_DIR="$PWD/theirs" "$mvm")
	through "--allow-missing cgroup,landlock-net" "connect 198.51.100.1 7 yes" "connect www.example.org 7 yes" "connect 10.9.8.7 7 no" \
		"connect 203.0.113.2 7 no" "get 169.254.169.254 80 no"
}

test_refused() {
	refused --proxy: "--net user" -- run --proxy --net user -- true
	refused --publish: "the proxy's" -- run --proxy -p 3128 -- true
	refused --egress: "--proxy" -- run --egress deny -- true
	proxy_world || return 0
	ip -n "$here" route del default
	ip -n "$here" -6 route del default
	refused --proxy: "no default route" -- "${on_host[@]}" run --rootfs "$small/small.ext4" --proxy -- true
}
