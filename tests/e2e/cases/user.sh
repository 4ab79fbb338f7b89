# --net user: what a guest reaches and what it does not, by which of whose addresses it tries, and that nothing stays.
#
# shellcheck source=tests/e2e/world.sh
. "$top/tests/e2e/world.sh"

# policy "FLAGS" ROW…: a row is "KIND ADDRESS PORT yes|no"; what the guest says and what was heard outside are both that.
policy() {
	local flags=$1 rows="" want="" kind to port may
	shift
	for row in "$@"; do
		read -r kind to port may <<<"$row"
		rows+="${rows:+,}$kind $to $port"
		want+="$kind $to $port $may"$'\n'
	done
	: >heard
	# shellcheck disable=SC2086 # flags are words
	limit=120 expect 0 "${on_host[@]}" run --rootfs "$img" -m 256M --net user $flags --receipt receipt.json -- python3 -c "$probe" "$rows"
	[ "$out"$'\n' = "$want" ] || die "$flags: $(diff <(echo "$out") <(printf %s "$want"))"
	for row in "$@"; do
		read -r kind to port may <<<"$row"
		[ "$may" = no ] || continue
		! grep -q " $kind $to $port\$" heard || die "$flags: $row: heard: $(cat heard)"
	done
}

# The public internet and nothing else.
test_allow() {
	make_internet || return 0
	policy "" "tcp 198.51.100.1 7 yes" "udp 198.51.100.1 7 yes" "ping 198.51.100.1 0 yes" \
		"tcp 2001:db8:99::1 7 yes" "udp 2001:db8:99::1 7 yes" "ping 2001:db8:99::1 0 yes" \
		"udp 192.0.0.9 53 yes" \
		"tcp 169.254.169.254 7 no" "udp 169.254.169.254 7 no" "ping 169.254.169.254 0 no" "tcp 168.63.129.16 7 no" \
		"tcp fd00:ec2::254 7 no" \
		"tcp 203.0.113.2 7 no" "udp 203.0.113.2 7 no" "ping 203.0.113.2 0 no" "tcp 2001:db8:55::2 7 no" "udp 2001:db8:55::2 7 no" \
		"tcp 203.0.113.1 7 no" "udp 203.0.113.1 7 no" "tcp 2001:db8:55::1 7 no" \
		"tcp 10.9.8.7 7 no" "udp 10.9.8.7 7 no" "ping 10.9.8.7 0 no" "tcp 172.16.3.3 7 no" "tcp 192.168.3.3 7 no" \
		"tcp 100.64.3.3 7 no" "tcp fd99::1 7 no" "udp fd99::1 7 no" "ping fd99::1 0 no" \
		"tcp 64:ff9b::a09:807 7 no" "tcp 2002:a09:807::1 7 no" \
		"tcp 192.0.0.1 7 no" "udp 192.0.0.1 53 no" "tcp 192.0.0.9 7 no" "tcp 192.0.0.10 7 no" "tcp fd6e:82a4:17c9::1 7 no" \
		"tcp fd6e:82a4:17c9::9 7 no" "udp 224.0.0.251 8 no"
	! grep -q '^host' heard || die "the host was reached: $(grep ^host heard)"
	equal "$(jq -c '.egress.refused | [.metadata, .host >= 5, .private >= 12, .egress, .gateway >= 4, .flows, .spoofed]' receipt.json)" \
		'[5,true,true,0,true,0,0]'
	jq -e '.egress.refused_to[] | select(.to == "tcp 169.254.169.254:7" and .why == "metadata")' receipt.json >/dev/null ||
		die "$(jq -c .egress receipt.json)"
	grep -q 'net: the guest may not reach tcp 169.254.169.254:7 (metadata): see --allow-egress' stderr || die "$err"
	"$mvm" events --format json --filter event=egress-refused | grep -q '"to":"tcp 169.254.169.254:7"' || die "no event"
}

# --pcap: what left the VM, also where it was refused behind it.
test_pcap() {
	world || return 0
	policy "--pcap cap" "tcp 198.51.100.1 7 yes" "udp 2001:db8:99::1 7 yes" "tcp 10.9.8.7 7 no"
	for to in "tcp and dst 198.51.100.1 and dst port 7" "tcp and src 198.51.100.1 and src port 7" "udp and src 2001:db8:99::1" "tcp and dst 10.9.8.7"; do
		[ -n "$(tcpdump -nqtr cap "$to" 2>/dev/null)" ] || die "no $to: $(tcpdump -nqtr cap 2>&1 | head -20)"
	done
	equal "$(jq '.capture.frames + .capture.dropped' receipt.json)" "$(jq '.devices.nets[0] | .tx_packets + .rx_packets' receipt.json)"
}

# Nothing but what is named; nor is a name asked for.
test_deny() { # for the long run
	make_internet || return 0
	policy "--egress deny" "tcp 198.51.100.1 7 no" "udp 198.51.100.1 7 no" "ping 198.51.100.1 0 no" "udp 192.0.0.9 53 no" \
		"tcp 2001:db8:99::1 7 no" "udp 2001:db8:99::1 7 no" "tcp 10.9.8.7 7 no" "tcp 203.0.113.2 7 no" "tcp 169.254.169.254 7 no"
	[ ! -s heard ] || die "heard: $(cat heard)"
	policy "--egress deny --allow-egress 198.51.100.1:7/tcp --allow-egress [2001:db8:99::/48]:7/udp --allow-egress 198.51.100.2" \
		"tcp 198.51.100.1 7 yes" "udp 198.51.100.1 7 no" "tcp 198.51.100.1 8 no" "ping 198.51.100.1 0 no" \
		"tcp 2001:db8:99::1 7 no" "udp 2001:db8:99::1 7 yes" "udp 2001:db8:99::1 8 no" \
		"tcp 198.51.100.2 8 yes" "udp 198.51.100.2 8 yes" "ping 198.51.100.2 0 yes" "tcp 8.8.8.8 7 no"
	# all of it is what is public, and neither the host nor what is private
	policy "--egress deny --allow-egress 0.0.0.0/0 --allow-egress ::/0" "tcp 8.8.8.8 7 yes" "tcp 2001:db8:99::1 7 yes" \
		"tcp 10.9.8.7 7 no" "tcp fd99::1 7 no" "tcp 203.0.113.2 7 no" "tcp 2001:db8:55::2 7 no" "tcp 169.254.169.254 7 no"
	equal "$(jq -c '.egress | [.policy, .allowed]' receipt.json)" '["deny",["0.0.0.0/0","::/0"]]'
}

# Names: what they have that is public, once the VM's own resolver was asked; others are not even asked for.
test_names() { # for the long run
	make_internet || return 0
	: >asked
	policy "--egress deny --allow-egress open.example:7/tcp --allow-egress *.wild.example --allow-egress rebind.example --allow-egress ALIAS.example:8" \
		"tcp open.example 7 yes" "tcp6 open.example 7 yes" "udp open.example 7 no" "tcp open.example. 7 yes" \
		"tcp a.wild.example 8 yes" "tcp wild.example 7 no" "tcp alias.example 8 yes" \
		"tcp evil.example 7 no" "tcp secret.data.evil.example 7 no" "tcp rebind.example 7 no" "tcp6 rebind.example 7 no" \
		"tcp nothing.wild.example 7 no" "tcp 198.51.100.2 7 no" "tcp 203.0.113.1 53 no" "udp 192.0.0.9 53 no" "tcp 192.0.0.1 53 no"
	equal "$(sort -u asked)" "$(printf '%s\n' a.wild.example alias.example nothing.wild.example open.example rebind.example)"
	equal "$(jq -c '.egress.refused | [.name >= 2, .private >= 1, .host]' receipt.json)" '[true,true,0]'
	jq -e '.egress.refused_to[] | select(.to == "name evil.example" and .why == "name")' receipt.json >/dev/null ||
		die "$(jq -c .egress receipt.json)"
	grep -q 'net: the guest may not reach name secret.data.evil.example (name): see --allow-egress' stderr || die "$err"
	# whatever range is named, the host's name server is asked by the VM's own resolver alone
	: >asked
	policy "--egress deny --allow-egress fc00::/7 --allow-egress 192.0.0.0/24 --allow-egress open.example" "udp fd6e:82a4:17c9::9 53 no" \
		"udp 192.0.0.9 53 no" "udp 192.0.0.10 53 no"
	[ ! -s asked ] || die "asked: $(cat asked)"
	# before its name was asked for an address is nobody's
	policy "--egress deny --allow-egress open.example" "tcp 198.51.100.1 7 no" "tcp 2001:db8:99::1 7 no"
	# without a server's answer
	echo 'nameserver 203.0.113.77' >resolv.conf
	limit=60 expect 0 "${on_host[@]}" run --rootfs "$img" -m 256M --net user --egress deny --allow-egress open.example -- \
		python3 -c 'import socket
try:
    socket.getaddrinfo("open.example", 7)
except socket.gaierror as e:
    print(e.errno)'
	equal "$out" -3
	echo 'nameserver ::1' >resolv.conf
	ip -n "$here" -6 route del default
	refused "no name server" -- "${on_host[@]}" run --rootfs "$img" --net user --egress deny --allow-egress open.example -- true
}

# What a hostile guest asks of the resolver; who that is; and that without it there is no way out.
test_resolver() {
	local inner resolver
	make_internet || return 0
	started "net$$" --egress deny --allow-egress open.example -- python3 -c '
import os, socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
server = ("192.0.0.1", 53)
name = b"\4open\7example\0"
def ask(data, server=server):
    s.sendto(data, server)
    try:
        return s.recv(2000)
    except TimeoutError:
        return b""
def code(data):
    a = ask(data)
    return (a[3] & 15, a[7]) if a else None
head = b"\1\2\1\0\0\1\0\0\0\0\0\0"
print(code(head + name + b"\0\1\0\1"), code(head + name + b"\0\x10\0\1"), code(head + name + b"\0\x0f\0\3"))
print(code(head + b"\4evil\7example\0\0\1\0\1"), code(head + b"\xc0\x0c\0\1\0\1"), code(head[:2] + b"\x28" + head[3:] + name + b"\0\1\0\1"))
s.settimeout(0.2)
print(code(b""), code(head[:2] + b"\x81" + head[3:] + name + b"\0\1\0\1"), code(b"x" * 11))
for i in range(5000):
    u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    u.sendto(b"x" * 12, server)
    u.close()
for i in range(3000):
    s.sendto(os.urandom(i % 1400), server)
    s.sendto(head + name[:-9] + bytes([97 + i % 26]) + name[-9:] + b"\0\1\0\1", server)
s.setblocking(False)
while True:
    try:
        s.recv(2000)
    except BlockingIOError:
        time.sleep(0.5)
        try:
            s.recv(2000)
        except BlockingIOError:
            break
s.settimeout(5)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
print(code(head + name + b"\0\1\0\1"), flush=True)
while True:
    time.sleep(1)
'
	until_so sh -c "'$mvm' logs net$$ | grep -c . | grep -qx 4"
	equal "$("$mvm" logs "net$$")" "$(printf '%s\n' '(0, 1) (0, 0) (1, 0)' '(5, 0) (1, 0) (4, 0)' 'None None None' '(0, 1)')"
	inner=$(pgrep -P "$(pgrep -x -o mvm-net)")
	resolver=$(pgrep -x -P "$inner" mvm-net)
	equal "$(awk '/^CapEff:|^CapPrm:|^CapBnd:/ { print $2 }' "/proc/$resolver/status" | head -2 | sort -u)" 0000000000000000
	equal "$(awk '/^Seccomp:/ { print $2 }' "/proc/$resolver/status")" 2
	equal "$(ls "/proc/$resolver/fd" | tr '\n' ' ')" "0 1 2 "
	# questions are no connections of the host kernel's
	(($(nsenter -t "$inner" -n cat /proc/sys/net/netfilter/nf_conntrack_count) < 200)) || die "many connections are tracked"
	kill -KILL "$resolver"
	until_so sh -c "'$mvm' logs net$$ 2>&1 | grep -q 'no way out any more: the resolver ended'"
	expect 0 "$mvm" rm -f "net$$"
	! pgrep -x mvm-net >/dev/null || die "left: $(pgrep -a mvm-net)"
}

# What is named by itself, or inside of its range.
test_named() { # for the long run
	make_internet || return 0
	policy "--allow-egress 10.9.8.0/24:7 --allow-egress fd99::/16 --allow-egress 169.254.0.0/16 --allow-egress 203.0.113.0/24" \
		"tcp 10.9.8.7 7 yes" "udp 10.9.8.7 7 yes" "tcp 10.9.8.7 8 no" "ping 10.9.8.7 0 no" "tcp fd99::1 8 yes" "ping fd99::1 0 yes" \
		"tcp 192.168.3.3 7 no" "tcp 169.254.169.254 7 no" "tcp 203.0.113.2 7 no" "tcp 203.0.113.1 7 yes" "tcp 198.51.100.1 7 yes"
	policy "--allow-egress 169.254.169.254:7/tcp --allow-egress 203.0.113.2:8" \
		"tcp 169.254.169.254 7 yes" "udp 169.254.169.254 7 no" "tcp 203.0.113.2 8 yes" "tcp 203.0.113.2 7 no" "tcp 2001:db8:55::2 8 no"
}

# As a user with no rights at all; and what the processes are, then.
test_rootless() {
	make_internet || return 0
	command -v setpriv >/dev/null || { echo "SKIP no setpriv"; return; }
	mkdir -m 700 theirs && chown 12345 theirs && chmod 777 .
	by setpriv --reuid 12345 --regid 12345 --groups "$(stat -c %g /dev/kvm)" env XDG_RUNTIME_DIR="$PWD/theirs"
	policy "--allow-missing cgroup,landlock-net" "tcp 198.51.100.1 7 yes" "udp 198.51.100.1 7 yes" "ping 198.51.100.1 0 yes" "tcp 2001:db8:99::1 7 yes" \
		"udp 192.0.0.9 53 yes" "tcp 10.9.8.7 7 no" "tcp 203.0.113.2 7 no" "tcp 169.254.169.254 7 no"
	policy "--allow-missing cgroup,landlock-net --egress deny --allow-egress open.example" "tcp open.example 7 yes" "tcp 198.51.100.2 7 no"
}

# A detached VM with a name.
started() {
	expect 0 "${on_host[@]}" run -d --name "$1" --rootfs "$img" -m 256M --net user "${@:2}"
}

# Whoever is killed, nothing stays; and who they were: nobody's uid, no capability but one.
test_ends() {
	local who outer inner pasta pid
	make_internet || return 0
	for who in vm supervisor outer inner pasta; do
		started "net$$" -- sh -c 'while :; do sleep 1; done'
		outer=$(pgrep -x -o mvm-net)
		inner=$(pgrep -P "$outer")
		pasta=$(pgrep -P "$inner")
		[ "${outer:+a}${inner:+b}${pasta:+c}" = abc ] || die "no processes: '$outer' '$inner' '$pasta'"
		for pid in "$outer" "$inner" "$pasta"; do
			[ "$(awk '/^Uid:/ { print $2 }' "/proc/$pid/status")" -ge 1900000000 ] || die "root's: $(cat "/proc/$pid/status")"
			equal "$(awk '/^NoNewPrivs:/ { print $2 }' "/proc/$pid/status")" 1
		done
		equal "$(awk '/^CapEff:/ { print $2 }' "/proc/$inner/status")" 0000000000001000
		equal "$(awk '/^Seccomp:/ { print $2 }' "/proc/$inner/status")" 2
		equal "$(awk '/^CapEff:/ { print $2 }' "/proc/$outer/status")" 0000000000000000
		expect 0 "$mvm" inspect --security --format json "net$$"
		equal "$(jq -r '.security.layers[] | select(.name == "descriptors") | .state' stdout)" ok
		case $who in
		vm) expect 0 "$mvm" kill "net$$" ;;
		supervisor) kill -KILL "$(awk '/^PPid:/ { print $2 }' "/proc/$outer/status")" ;;
		*) kill -KILL "${!who}" ;;
		esac
		for pid in "$outer" "$inner" "$pasta"; do
			until ! kill -0 "$pid" 2>/dev/null || grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null; do sleep 0.05; done
		done
		case $who in outer | inner | pasta)
			until_so says_of logs "net$$" -- -q 'no way out any more'
			;;
		esac
		expect 0 "$mvm" rm -f "net$$"
		! pgrep -x mvm-net >/dev/null || die "$who: left: $(pgrep -a mvm-net)"
	done
}

# An address that the host gets later is the host's; a connection that the guest did not begin is nobody's.
test_later() {
	local i
	make_internet || return 0
	started "net$$" -- python3 -c '
import socket, time
def reach(to):
    try:
        socket.create_connection((to, 7), 5).close()
        return True
    except OSError:
        return False
print("first", reach("8.8.8.8"), flush=True)
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.bind(("", 5353))
u.sendto(b"x", ("198.51.100.1", 7))
print("answer", u.recv(10), flush=True)
u.settimeout(0.2)
end = time.monotonic() + 30
while reach("8.8.8.8") and time.monotonic() < end:
    try:
        print("uninvited", u.recv(10), flush=True)
    except OSError:
        pass
print("then", reach("8.8.8.8"), flush=True)
time.sleep(1000)
'
	until_so says_of logs "net$$" -- -q answer
	# pasta's socket is open for all who know its port; the answer to nobody's question ends in the namespace
	for i in $(nsenter --net="/run/netns/$here" ss -Hlnu | awk '$4 ~ /^0.0.0.0:/ { sub(/.*:/, "", $4); print $4 }'); do
		((i >= 32768 && i <= 60999)) || die "the guest took the host's port $i"
		nsenter --net="/run/netns/$there" python3 -c '
import socket, sys
for source in "198.51.100.2", "203.0.113.1":
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((source, 9999))
    s.sendto(b"hello", ("203.0.113.2", int(sys.argv[1])))
' "$i"
	done
	ip -n "$here" address add 8.8.8.8/32 dev lo
	until_so says_of logs "net$$" -- -q then
	equal "$("$mvm" logs "net$$")" "$(printf '%s\n' "first True" "answer b'x'" "then False")"
	# told a second later at most
	until_so says_of metrics -- -qE 'mvm_vm_egress_refused_total\{.*why="host"\} [1-9]'
	expect 0 "$mvm" rm -f "net$$"
}

# A guest that opens without end: what it may have is bounded, and so is the host's table.
test_flows() { # for the long run
	local n
	make_internet || return 0
	started "net$$" -- python3 -c '
import socket, time
for i in range(40000):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        s.sendto(b"x", ("198.51.100.1", 10000 + i))
    except OSError:
        pass
    s.close()
print("done", flush=True)
time.sleep(1000)
'
	until_so says_of logs "net$$" -- -q done
	n=$(nsenter -t "$(pgrep -P "$(pgrep -x -o mvm-net)")" -n cat /proc/sys/net/netfilter/nf_conntrack_count)
	((n >= 1000 && n <= 4200)) || die "$n connections"
	until_so says_of metrics -- -qE 'mvm_vm_egress_refused_total\{.*why="flows"\} [1-9][0-9]{3}'
	expect 0 "$mvm" stats --flows "net$$" --format json # the busiest of them, and how many there are
	equal "$(jq -c '[(.flows | length), .all >= 1000, .all <= 4200, .flows[0].to, .flows[0].from, .flows[0].protocol]' stdout)" \
		'[256,true,true,"198.51.100.1","192.0.0.2","udp"]'
	expect 0 "$mvm" rm -f "net$$"
}

# What each connection moved, and all of them together, as programs saw it.
test_accounting() {
	world || return 0
	ip netns exec "$there" python3 -c '
import socket
s, n = socket.create_server(("198.51.100.1", 99)), 0
print("listening", flush=True)
c = s.accept()[0]
while n < 3000000:
    n += len(c.recv(1 << 16))
c.sendall(b"y" * 100000)
c.recv(1)
' >server &
	until_so grep -q listening server
	started "net$$" --receipt r.json -- python3 -c '
import socket, time
s = socket.create_connection(("198.51.100.1", 99))
s.sendall(b"x" * 3000000)
n = 0
while n < 100000:
    n += len(s.recv(1 << 16))
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.connect(("198.51.100.1", 7))
u.send(b"z" * 500)
u.recv(1000)
print("done", n, flush=True)
time.sleep(1000)
'
	until_so says_of logs "net$$" -- -q "done 100000"
	expect 0 "$mvm" stats --flows "net$$" --format json
	equal "$(jq -c '.flows[0] | [.protocol, .from, .to, .to_port, .answered, .out_bytes > 3000000, .out_bytes < 3500000,
		.in_bytes > 100000, .in_bytes < 200000, .age_s < 600]' stdout)" \
		'["tcp","192.0.0.2","198.51.100.1",99,true,true,true,true,true,true]'
	equal "$(jq -c '.flows[] | select(.protocol == "udp" and .to_port == 7) | [.answered, .out_bytes, .in_bytes, .out_packets]' stdout)" \
		'[true,528,528,1]'
	expect 0 "$mvm" stats --flows "net$$"
	case $out in *"198.51.100.1:99"*) ;; *) die "the table has not the connection: $out" ;; esac
	expect 0 "$mvm" stats "net$$" --format json
	equal "$(jq -c '.[0] | [.net_flows >= 1, .net_flows_begun >= 2, .net_out_bytes > 3000000, .net_in_bytes > 100000]' stdout)" '[true,true,true,true]'
	expect 0 "$mvm" metrics
	grep -qE '^mvm_vm_egress_bytes_total\{.*direction="out"\} [3-9][0-9]{6}' stdout || die "no bytes in the metrics"
	expect 0 "$mvm" rm -f "net$$"
	equal "$(jq -c '.egress.traffic | [.begun >= 2, .out_bytes > 3000000]' r.json)" '[true,true]'
	expect 0 debian -d --name "none$$" -- sleep 1000
	refused "neither --net user" -- "$mvm" stats --flows "none$$"
	expect 0 "$mvm" rm -f "none$$"
	refused "give one VM" -- "$mvm" stats --flows
}

# Two VMs have the same addresses and do not see each other; a restart has a network again.
test_two() { # for the long run
	make_internet || return 0
	started "a$$" -- python3 -c '
import socket
s = socket.create_server(("", 7))
print("up", flush=True)
while True:
    c, _ = s.accept()
    print("visited", flush=True)
'
	until_so says_of logs "a$$" -- -q up
	policy "" "tcp 192.0.0.1 7 no" "tcp 192.0.0.2 9 no" "tcp 203.0.113.2 7 no" "tcp 198.51.100.1 7 yes"
	equal "$("$mvm" logs "a$$")" up
	expect 0 "$mvm" rm -f "a$$"
	started "b$$" --restart on-failure:1 -- python3 -c '
import socket, sys
socket.create_connection(("198.51.100.1", 7), 10).close()
print("reached", flush=True)
sys.exit(1)
'
	expect 0 "$mvm" wait "b$$"
	equal "$out" 1
	equal "$("$mvm" logs "b$$" 2>/dev/null | grep -c reached)" 2
	expect 0 "$mvm" rm "b$$"
	! pgrep -x mvm-net >/dev/null || die "left: $(pgrep -a mvm-net)"
}

test_refused() {
	local bad
	for bad in user,ip=10.0.0.2/24 user,ip6=fd00::2/64 user,gw=10.0.0.1 user=x; do
		refused --net: -- run --net "$bad" -- true
	done
	for bad in example.org/24 example..org 10.0.0 10.0.0.1/8 10.0.0.1:0 10.0.0.1:1/icmp example.org:1/icmp; do
		refused --allow-egress: "$bad" -- run --net user --allow-egress "$bad" -- true
	done
	refused "add --egress deny" -- run --net user --allow-egress example.org -- true
	refused "leave dns= out" -- run --net user,dns=198.51.100.1 --egress deny --allow-egress example.org -- true
	refused --egress: "allow or deny" -- run --net user --egress no -- true
	refused --egress: "--net user" -- run --egress deny -- true
	refused --allow-egress: "--net user" -- run --net tap=t --allow-egress 10.0.0.1 -- true
	refused "one way out" -- run --net user --net user -- true
	make_internet || return 0
	ip -n "$here" route del default
	ip -n "$here" -6 route del default
	refused "no default route" -- "${on_host[@]}" run --rootfs "$small/small.ext4" --net user -- true
	ip -n "$here" route add default via 203.0.113.1
	by unshare -m --propagation private sh -c 'mount --bind /dev/null "$(command -v pasta)"; exec "$@"' -
	refused "apt install passt" -- "${on_host[@]}" run --rootfs "$small/small.ext4" --net user -- true
	by unshare -m --propagation private sh -c 'mount --bind /dev/null "$(command -v nft)"; exec "$@"' -
	refused "apt install nftables" -- "${on_host[@]}" run --rootfs "$small/small.ext4" --net user -- true
	by unshare -m --propagation private sh -c 'mount --bind /dev/null /dev/net/tun; exec "$@"' -
	refused "/dev/net/tun" -- "${on_host[@]}" run --rootfs "$small/small.ext4" --net user -- true
	by unshare -m --propagation private sh -c 'mount --bind /bin/false "$(command -v pasta)"; exec "$@"' -
	refused pasta -- "${on_host[@]}" run --rootfs "$small/small.ext4" --net user -- true
	# with IPv4 alone
	by
	policy "" "tcp 198.51.100.1 7 yes" "tcp 2001:db8:99::1 7 no" "udp 192.0.0.9 53 yes"
}
