# --publish: ports of the host that lead to the guest's loopback, without a network device.

# Every test here has its VMs end with it.
publish_set_up() {
	command -v python3 >/dev/null || { echo "SKIP no python3 on this machine"; return 1; }
	trap 'jobs -p | xargs -r kill 2>/dev/null; "$mvm" ps -aq | xargs -r "$mvm" rm -f' EXIT
}

# of VM KEY: what its record says
of() {
	"$mvm" ps -a --format json | jq -r --arg vm "$1" ".[] | select(.name == \$vm) | .$2"
}

# port_of VM [GUEST]: the port of the host that leads to 80, or that one
port_of() {
	of "$1" ports | sed "s/.*:\([0-9]*\)->${2:-80}\/.*/\1/"
}

# udp_port_of VM GUEST: the same for UDP
udp_port_of() {
	of "$1" ports | sed "s/.*:\([0-9]*\)->$2\/udp.*/\1/"
}

# says PORT TEXT: the echo server behind the port answers with it
says() {
	[ "$(client "$1" say "$2")" = "$2" ]
}

# In the guest: port 80 echoes, port 81 takes clients and reads nothing, port 82 is nobody's.
server='
import socket, threading
def echo(c):
    while data := c.recv(65536):
        c.sendall(data)
    c.close()
s, deaf = (socket.create_server(("127.0.0.1", port), backlog=512) for port in (80, 81))
while True:
    threading.Thread(target=echo, args=(s.accept()[0],), daemon=True).start()
'

# What the tests do as clients.
client_script='
import hashlib, os, select, socket, sys, threading, time
port, what, rest = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
def connect():
    return socket.create_connection(("127.0.0.1", port))
def all_of(s):
    got = b""
    try:
        while data := s.recv(65536):
            got += data
    except ConnectionResetError:
        pass
    return got
if what == "say":  # and close that half first: the answer comes by the other
    s = connect()
    s.sendall(rest[0].encode())
    s.shutdown(socket.SHUT_WR)
    print(all_of(s).decode())
elif what == "ask":
    s = connect()
    s.sendall(rest[0].encode())
    print("asked", flush=True)
    s.shutdown(socket.SHUT_WR)
    print(all_of(s).decode())
elif what == "asks":  # the same by so many connections
    every = [connect() for _ in range(int(rest[1]))]
    for s in every:
        s.sendall(rest[0].encode())
        s.shutdown(socket.SHUT_WR)
    print("asked", flush=True)
    for s in every:
        print(all_of(s).decode(), flush=True)
elif what == "bytes":  # so many both ways at once
    n, sent, got = int(rest[0]), hashlib.sha256(), hashlib.sha256()
    s, block = connect(), os.urandom(1 << 20)
    def send():
        for i in range(n >> 20):
            piece = i.to_bytes(8, "big") + block[8:]
            sent.update(piece)
            s.sendall(piece)
        s.shutdown(socket.SHUT_WR)
    t = threading.Thread(target=send)
    t.start()
    size = 0
    while data := s.recv(1 << 18):
        got.update(data)
        size += len(data)
    t.join()
    print(size, sent.digest() == got.digest())
elif what == "many":  # so many at once, each with words of its own
    all = [connect() for _ in range(int(rest[0]))]
    for i, s in enumerate(all):
        s.sendall(b"number %d" % i)
        s.shutdown(socket.SHUT_WR)
    print(sum(all_of(s) == b"number %d" % i for i, s in enumerate(all)))
elif what == "hold":  # so many that stay; one more is served when one of them goes
    all = [connect() for _ in range(int(rest[0]))]
    for s in all:
        s.sendall(b"x")
        assert s.recv(1) == b"x"
    late = connect()
    late.sendall(b"late")
    waits = not select.select([late], [], [], 1)[0]
    all.pop().close()
    print("waits" if waits else "served", late.recv(4).decode())
elif what == "stuck":  # sends until nothing more is taken, and never reads
    s = connect()
    s.settimeout(2)
    try:
        while True:
            s.send(b"x" * 65536)
    except TimeoutError:
        print("stuck", flush=True)
    time.sleep(1000)
elif what == "stay":  # until the other end goes
    s = connect()
    s.sendall(b"x")
    s.recv(1)
    print("there", flush=True)
    all_of(s)
elif what == "crowd":  # so many that nobody answers
    all = [connect() for _ in range(int(rest[0]))]
    print("there", flush=True)
    time.sleep(1000)
elif what == "closed":  # what comes, until the end
    print(len(all_of(connect())))
elif what == "listening":
    try:
        connect()
        print("yes")
    except ConnectionRefusedError:
        print("no")
'

client() {
	timeout "${patience:-60}" python3 -c "$client_script" "$@"
}

# The same as a job that `kill` ends.
client_stays() {
	exec timeout 1000 python3 -c "$client_script" "$@"
}

# echo_vm NAME [OPTION…]: left running, with that server; the first -p is port 80's
echo_vm() {
	expect 0 debian -d --name "$1" "${@:2}" -- python3 -c "$server"
	port=$(port_of "$1")
	until_so says "$port" hello
}

# nginx in a VM, as curl and wrk find it on a published port: whole answers, and under load no error.
test_nginx() { # with a VM
	local conf size
	publish_set_up || return 0
	conf=$(base64 -w0 "$top/tests/bench/nginx.conf")
	expect 0 debian -d --name web -p 0:80 -- sh -c "echo $conf | base64 -d >/tmp/nginx.conf && exec nginx -c /tmp/nginx.conf"
	port=$(port_of web)
	until_so curl -sf "http://127.0.0.1:$port/"
	expect 0 curl -sf "http://127.0.0.1:$port/"
	size=$(wc -c <stdout)
	case $out in *"Welcome to nginx"*) ;; *) die "curl got: $out" ;; esac
	expect 0 curl -so one.html -so two.html "http://127.0.0.1:$port/" "http://127.0.0.1:$port/" # by one connection
	cmp one.html two.html || die "two answers of one connection differ"
	equal "$(wc -c <two.html)" "$size"
	expect 0 wrk -t 1 -c 16 -d 3s "http://127.0.0.1:$port/"
	[ "$(sed -n 's/^ *\([0-9]*\) requests in .*/\1/p' stdout)" -gt 20 ] || die "wrk: $out"
	! grep -qE 'Socket errors|Non-2xx' stdout || die "wrk: $out"
	expect 0 wrk -t 1 -c 16 -d 2s -H 'Connection: close' "http://127.0.0.1:$port/"
	! grep -qE 'Non-2xx|connect [1-9]|timeout [1-9]' stdout || die "wrk: $out"
	until_so curl -sf "http://127.0.0.1:$port/"
	expect 0 "$mvm" stop web
}

test_http() { # with a VM
	publish_set_up || return 0
	expect 0 detached --name web -p 127.0.0.1::80 -p '[::1]::80' -- sh -c \
		'mkdir /tmp/www; echo hello from the VM >/tmp/www/index.html; exec busybox httpd -f -p 80 -h /tmp/www'
	port=$(of web ports | sed 's/^[^>]*:\([0-9]*\)->.*/\1/')
	until_so curl -sf "http://127.0.0.1:$port/"
	expect 0 curl -sf "http://127.0.0.1:$port/"
	equal "$out" "hello from the VM"
	port6=$(of web ports | sed 's/.*\[::1\]:\([0-9]*\)->80.*/\1/')
	if [ -e /proc/net/if_inet6 ]; then
		expect 0 curl -sf "http://[::1]:$port6/"
		equal "$out" "hello from the VM"
	fi
	expect 0 "$mvm" ps
	case $out in *PORTS*"127.0.0.1:$port->80/tcp, [::1]:$port6->80/tcp"*) ;; *) die "ps does not show the ports: $out" ;; esac
	expect 0 "$mvm" inspect web
	case $out in *"127.0.0.1:$port->80/tcp"*) ;; *) die "inspect does not show the ports: $out" ;; esac
	expect 0 "$mvm" inspect web --format config
	equal "$(jq -c .publish stdout)" '["127.0.0.1:0:80","[::1]:0:80"]'
	expect 0 "$mvm" stop web
	equal "$(client "$port" listening)" no
	equal "$(of web ports)" ""
}

# Nobody listens yet: closed, and counted. Then bytes, connections, half-closes.
test_connections() { # for the long run
	publish_set_up || return 0
	echo_vm box -p 0:80 -p 0:82 --receipt r.json
	equal "$(client "$(port_of box 82)" closed)" 0
	equal "$(client "$port" many 100)" 100
	equal "$(patience=200 client "$port" bytes 104857600)" "104857600 True"
	# 8 of the 256 are kept for the other port
	equal "$(client "$port" hold 248)" "waits late"
	until_so says "$port" again
	expect 0 "$mvm" stats box --format json
	equal "$(jq '.[0] | .publish_refused >= 1 and .publish_to_guest >= 104857600 and .publish_from_guest >= 104857600' stdout)" true
	until_so sh -c "[ \"\$('$mvm' stats box --format json | jq '.[0].publish_open')\" = 0 ]"
	expect 0 "$mvm" metrics
	grep -q '^mvm_vm_publish_connections_total{.*result="refused"} [1-9]' stdout || die "no refused ones in the metrics"
	expect 0 "$mvm" stop box
	equal "$(jq -r '.channels.published[0]' r.json)" "127.0.0.1:$port->80/tcp"
	equal "$(jq '.devices.publish.opened == .channels.accepted and .channels.accepted > 350' r.json)" true
}

# With a network device it is the same.
test_with_a_network() { # with a VM
	[ "$(id -u)" -eq 0 ] || { echo "SKIP needs root, to make a tap"; return; }
	publish_set_up || return 0
	modprobe tun 2>/dev/null
	ip tuntap add dev "p$$" mode tap
	trap '"$mvm" ps -aq | xargs -r "$mvm" rm -f; ip link del "p$$"' EXIT
	ip link set "p$$" up
	echo_vm box -p 0:80 --net "tap=p$$,ip=10.9.8.2/24"
	equal "$(client "$port" many 5)" 5
}

# A way out beside it, by which the ports do not lead: bytes by TCP and by UDP, and the way out is there.
test_with_net_user() { # with a VM
	local on_it
	# shellcheck source=tests/e2e/world.sh
	. "$top/tests/e2e/world.sh"
	make_internet || return 0
	on_it=(nsenter --net="/run/netns/$here" timeout 60 python3 -c)
	expect 0 "${on_host[@]}" run -d --name box --rootfs "$img" -m 256M --net user -p 0:80 -p 0:53/udp --receipt r.json -- \
		python3 -c "$udp_server"
	port=$(udp_port_of box 53)
	equal "$("${on_it[@]}" "$udp_script" 127.0.0.1 "$port" say hello)" yes
	equal "$("${on_it[@]}" "$udp_script" 127.0.0.1 "$port" sizes)" "True True True True True"
	equal "$("${on_it[@]}" "$client_script" "$(port_of box)" bytes 10485760)" "10485760 True"
	expect 0 "${on_host[@]}" exec box -- python3 -c "$probe" "tcp 198.51.100.1 7,udp 198.51.100.1 7,tcp 10.9.8.7 7"
	equal "$out" "$(printf '%s\n' "tcp 198.51.100.1 7 yes" "udp 198.51.100.1 7 yes" "tcp 10.9.8.7 7 no")"
	expect 0 "$mvm" stop box
	equal "$(jq -c '[.channels.udp.to_clients_bytes >= 75985, .channels.accepted >= 1, .egress.refused.private >= 1]' r.json)" '[true,true,true]'
	equal "$(nsenter --net="/run/netns/$here" ss -lntuH | grep -c ":$port ")" 0
}

# A guest's process that does not read, and a client that does not, hold nobody up but themselves: not the VM's end either.
test_slow_ends() { # for the long run
	publish_set_up || return 0
	echo_vm slow -p 0:80 -p 0:81
	client_stays "$port" stuck >one &
	client_stays "$(port_of slow 81)" stuck >two &
	until_so grep -q stuck one
	until_so grep -q stuck two
	says "$port" "all the same" || die "held up"
	limit=30 expect 0 "$mvm" stop slow
	equal "$(of slow state)" ended
}

# What the command has written when it ends arrives, and the run is over then.
test_last_words() { # with a VM
	publish_set_up || return 0
	port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
	run -p "$port:80" --receipt r.json -- sh -c 'yes | head -c 3000000 | nc -l -p 80' &
	for _ in $(seq 800); do
		got=$(client "$port" closed 2>/dev/null)
		[ "${got:-0}" -eq 0 ] || break
		sleep 0.05
	done
	equal "$got" 3000000
	wait $!
	equal $? 0
	equal "$(client "$port" listening)" no
}

test_pause() { # with a VM
	publish_set_up || return 0
	echo_vm box -p 0:80
	expect 0 "$mvm" pause box
	client "$port" asks "said meanwhile" 10 >answers &
	until_so grep -q asked answers
	sleep 1
	equal "$(cat answers)" asked # a paused VM does not answer
	expect 0 "$mvm" resume box
	wait
	equal "$(grep -cx 'said meanwhile' answers)" 10
}

# Of all its runs the port is the same; with the VM it goes, and comes again by start.
test_restart() { # for the long run
	publish_set_up || return 0
	expect 0 detached --name box --restart always -p 0:80 -- sh -c 'echo one | nc -l -p 80; exit 1'
	port=$(port_of box)
	until_so sh -c "curl -s --http0.9 --max-time 1 127.0.0.1:$port >>got; [ \"\$('$mvm' ps -a --format json | jq '.[0].restarts')\" -ge 2 ]"
	grep -q one got || die "no run answered"
	equal "$(port_of box)" "$port"
	equal "$(client "$port" listening)" yes
	expect 0 "$mvm" stop box
	equal "$(client "$port" listening)" no
	expect 0 "$mvm" rm box
	echo_vm box -p "$port:80"
	expect 0 "$mvm" stop box
	expect 0 "$mvm" start box
	until_so says "$port" "there again"
	expect 0 "$mvm" stop box
	hold_port "$port"
	refused "127.0.0.1:$port:80" "taken by" "(process $holder)" -- "$mvm" start box
}

# hold_port PORT: somebody else has it; $holder
hold_port() {
	python3 -c 'import socket, sys, time; s = socket.create_server(("127.0.0.1", int(sys.argv[1]))); open("held", "w"); time.sleep(1000)' "$1" &
	holder=$!
	until_so test -e held
}

test_refused() { # with a VM
	publish_set_up || return 0
	echo_vm box -p 0:80
	refused "taken by mvm-supervisor (process $(of box supervisor))" "or 0 for any" -- run -p "$port:1" -- true
	refused twice -- run -p 80:80 -p 80:81 -- true
	refused "another -p of this VM" -- run -p 0.0.0.0:43210:80 -p 43210:81 -- true
	refused -p "'sctp' is no protocol" -- run -p 53:53/sctp -- true
	refused twice -- run -p 53:53/udp -p 53:54/udp -- true
	refused ranges -- run -p 8000-8010:80 -- true
	refused "names are not looked up" -- run -p localhost:80:80 -- true
	refused "no address of this host" -- run -p 192.0.2.1::80 -- true
	if [ "$(id -u)" -ne 0 ] && [ "$(cat /proc/sys/net/ipv4/ip_unprivileged_port_start)" -gt 80 ]; then
		refused ip_unprivileged_port_start 127.0.0.1:80:80 -- run -p 80:80 -- true
	fi
	printf '{"rootfs": "%s", "publish": ["127.0.0.1:%s:80"], "args": ["true"]}' "$small/small.ext4" "$port" >config.json
	refused "127.0.0.1:$port:80" taken -- "$mvm" run --config config.json
	# The refused ones left nothing behind that listens.
	[ "$(ss -tlnH 'sport = :43210' | wc -l)" -eq 0 ] || die "still listening"
}

# Whoever is killed: nothing listens, and nothing runs.
test_killed() { # with a VM
	publish_set_up || return 0
	echo_vm box -p 0:80
	supervisor=$(of box supervisor) vmm=$(of box vmm)
	client "$port" stay >one &
	until_so grep -q there one
	kill -KILL "$supervisor"
	until_so sh -c "! kill -0 $vmm"
	equal "$(client "$port" listening)" no
	wait $!
}

# In the guest: ports 53 and 54 of UDP echo, 55 is nobody's; port 80 of TCP as above.
udp_server='
import socket, threading
def serve(family, address, port):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    s.bind((address, port))
    while True:
        data, whose = s.recvfrom(65536)
        s.sendto(data, whose)
for family, address, port in ((socket.AF_INET, "127.0.0.1", 53), (socket.AF_INET, "127.0.0.1", 54), (socket.AF_INET6, "::1", 56)):
    threading.Thread(target=serve, args=(family, address, port)).start()
'"$server"

udp_script='
import hashlib, os, select, socket, sys, time
address, port, what, rest = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]
def connect():
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    s.connect((address, port))
    return s
def ask(s, data, tries=40):  # a datagram may be lost: asked again, as programs do
    for _ in range(tries):
        s.send(data)
        while select.select([s], [], [], 0.5)[0]:
            if s.recv(65536) == data:
                return True
    return False
if what == "say":
    print("yes" if ask(connect(), rest[0].encode(), int(rest[1]) if rest[1:] else 40) else "no")
elif what == "sizes":
    s = connect()
    print(*(ask(s, os.urandom(n)) for n in (0, 1, 1472, 9000, 65507)))
elif what == "many":  # so many at once, each with words of its own
    all = [connect() for _ in range(int(rest[0]))]
    heard, end = set(), time.monotonic() + 40
    while len(heard) < len(all) and time.monotonic() < end:
        for i in set(range(len(all))) - heard:
            all[i].send(b"number %d" % i)
        while ready := select.select(all, [], [], 0.5)[0]:
            for s in ready:
                i = all.index(s)
                assert s.recv(100) == b"number %d" % i, "words of another"
                heard.add(i)
    print(len(heard))
elif what == "flood":  # new clients without end, none of whom listens
    print("floods", flush=True)
    while True:
        for _ in range(200):
            s = connect()
            s.send(os.urandom(1000))
            s.close()
        time.sleep(0.01)
'

# udp PORT WHAT …, at $address
udp() {
	timeout "${patience:-60}" python3 -c "$udp_script" "${address:-127.0.0.1}" "$@"
}

# udp_vm NAME [OPTION…]: left running, with that server
udp_vm() {
	expect 0 debian -d --name "$1" "${@:2}" -- python3 -c "$udp_server"
	port=$(udp_port_of "$1" 53)
	equal "$(udp "$port" say hello)" yes
}

test_udp() { # with a VM
	publish_set_up || return 0
	udp_vm box -p 0:53/udp -p 0.0.0.0:0:54/udp -p 0:55/udp -p '[::1]:0:56/udp' -p 0:80/tcp --receipt r.json
	equal "$(udp "$port" sizes)" "True True True True True"
	equal "$(udp "$port" many 50)" 50
	# An answer comes from the address that was asked.
	equal "$(address=127.0.0.9 udp "$(udp_port_of box 54)" say there)" yes
	[ ! -e /proc/net/if_inet6 ] || equal "$(address=::1 udp "$(udp_port_of box 56)" say six)" yes
	equal "$(udp "$(udp_port_of box 55)" say nobody 3)" no
	says "$(port_of box 80)" "and TCP"
	expect 0 "$mvm" ps
	case $out in *"127.0.0.1:$port->53/udp"*) ;; *) die "ps does not show the port: $out" ;; esac
	expect 0 "$mvm" inspect box --format config
	equal "$(jq -c '.publish[0]' stdout)" '"127.0.0.1:0:53/udp"'
	expect 0 "$mvm" stats box --format json
	equal "$(jq -c '.[0] | [.udp_from_clients >= 57, .udp_to_clients >= 57, .publish_refused >= 1, .publish_open >= 50]' stdout)" \
		'[true,true,true,true]'
	expect 0 "$mvm" metrics
	grep -q '^mvm_vm_publish_datagrams_total{.*direction="to_clients"} [1-9]' stdout || die "no datagrams in the metrics"
	helper=$(pgrep -P "$(of box supervisor)" -x mvm-udp)
	[ "$(id -u)" -ne 0 ] || [ "$(stat -c %u "/proc/$helper")" -ne 0 ] || [ "$(awk '/^Uid/ { print $2 }' "/proc/$helper/status")" -ne 0 ] ||
		die "it runs as root"
	! grep -q '/mvm-' "/proc/$(of box vmm)/cgroup" || grep -q '/mvm-[0-9a-f]*-net$' "/proc/$helper/cgroup" || die "$(cat "/proc/$helper/cgroup")"
	equal "$(awk '/^(CapBnd|CapEff|Seccomp):/ { printf "%s ", $2 }' "/proc/$helper/status")" "0000000000000000 0000000000000000 2 "
	expect 0 "$mvm" stop box
	equal "$(jq -c '.channels.udp | [.from_clients >= 57, .to_clients_bytes > 76000, .broken]' r.json)" '[true,true,0]'
	! kill -0 "$helper" 2>/dev/null || die "its process is left"
	[ "$(ss -ulnH "sport = :$port" | wc -l)" -eq 0 ] || die "still bound"
}

# Clients without end at one port: the other, TCP and exec go on, and nothing grows.
test_udp_flood() { # for the long run
	publish_set_up || return 0
	udp_vm box -p 0:53/udp -p 0:54/udp -p 0:80
	helper=$(pgrep -P "$(of box supervisor)" -x mvm-udp)
	python3 -c "$udp_script" 127.0.0.1 "$port" flood >floods &
	until_so grep -q floods floods
	until_so sh -c "[ \"\$('$mvm' stats box --format json | jq '.[0].udp_from_clients')\" -ge 1000 ]" # room was made for many
	equal "$(udp "$(udp_port_of box 54)" many 20)" 20
	says "$(port_of box 80)" "all the same" || die "TCP is held up"
	limit=60 expect 0 "$mvm" exec box -- echo well
	equal "$out" well
	[ "$(awk '/^VmRSS/ { print $2 }' "/proc/$helper/status")" -lt 30000 ] || die "it grew: $(grep VmRSS "/proc/$helper/status")"
	equal "$(find "/proc/$helper/fd" -mindepth 1 | awk 'END { print NR <= 240 }')" 1
	kill %1
	wait
	equal "$(udp "$port" say "and again")" yes
	expect 0 "$mvm" metrics
	grep -q '^mvm_vm_publish_dropped_total{.*why="flows"} ' stdout || die "what was dropped is not told"
}

# The port is the VM's over its runs; with the VM it goes. Who serves it may die without the VM.
test_udp_ends() { # with a VM
	publish_set_up || return 0
	udp_vm box -p 0:53/udp --restart always
	"$mvm" exec box -- pkill -o python3 || true # which is the end of that run
	until_so sh -c "[ \"\$('$mvm' ps -a --format json | jq '.[0].restarts')\" -ge 1 ]"
	equal "$(udp "$port" say "again")" yes
	equal "$(udp_port_of box 53)" "$port"
	refused "taken by mvm-supervisor (process $(of box supervisor))" "or 0 for any" -- run -p "$port:1/udp" -- true
	expect 0 "$mvm" pause box
	equal "$(udp "$port" say "said meanwhile" 2)" no
	expect 0 "$mvm" resume box
	equal "$(udp "$port" say "and now")" yes
	kill -KILL "$(pgrep -P "$(of box supervisor)" -x mvm-udp)"
	until_so sh -c "'$mvm' logs box 2>&1 | grep -q 'UDP ports lead nowhere any more'"
	expect 0 "$mvm" exec box -- true
	expect 0 "$mvm" stop box
	[ "$(ss -ulnH "sport = :$port" | wc -l)" -eq 0 ] || die "still bound"
	expect 0 "$mvm" start box
	port=$(udp_port_of box 53) # any that is free, anew
	equal "$(udp "$port" say "there again")" yes
	supervisor=$(of box supervisor)
	helper=$(pgrep -P "$supervisor" -x mvm-udp)
	kill -KILL "$supervisor"
	until_so sh -c "! kill -0 $helper"
	[ "$(ss -ulnH "sport = :$port" | wc -l)" -eq 0 ] || die "still bound"
}

# shellcheck source=tests/e2e/fake.sh
. "$top/tests/e2e/fake.sh"

fake() {
	fake_set_up
	"$fakes/mvm" run --rootfs "$fakes/app.img" "$@"
}
export -f fake

# clients_of VM: now, and ever, by the host's count, which no guest is asked for
clients_of() {
	"$fakes/mvm" metrics | sed -n "s/^mvm_vm_publish_clients[_a-z]*{.*name=\"$1\"} //p" | xargs
}

are() {
	[ "$(clients_of "$1")" = "$2" ]
}

# A VMM that takes all connections and gives none back (one that lies of them: supervisor.sh); paused, it is given none.
test_hostile() {
	publish_set_up || return 0
	expect 0 bash -c 'fake "$@"' bash -d --name deaf -p 0:80 -- sleep
	port=$(port_of deaf)
	expect 0 "$fakes/mvm" pause deaf
	client_stays "$port" crowd 10 >few &
	until_so grep -q there few
	equal "$(clients_of deaf)" "0 0"
	expect 0 "$fakes/mvm" resume deaf
	until_so are deaf "10 10"
	client_stays "$port" crowd 300 >many &
	until_so grep -q there many
	until_so are deaf "256 256"
	limit=30 expect 0 "$fakes/mvm" stop deaf
	equal "$(client "$port" listening)" no
}

# Whoever kills the supervisor: the port goes with it, and whoever was connected hears of it.
test_supervisor_killed() {
	publish_set_up || return 0
	expect 0 bash -c 'fake "$@"' bash -d --name deaf -p 0:80 -- sleep
	port=$(port_of deaf)
	client "$port" closed >got &
	until_so are deaf "1 1"
	kill -KILL "$(of deaf supervisor)"
	wait $!
	equal "$(cat got)" 0
	equal "$(client "$port" listening)" no
}

# Sockets that a service manager listens on, as sd_listen_fds(3) has it.
test_handed_over() { # with a VM
	publish_set_up || return 0
	local activate='
import os, socket, sys
s = socket.create_server(("127.0.0.1", 0))
print(s.getsockname()[1], file=open("port", "w"), flush=True)
os.dup2(s.fileno(), 30)
os.dup2(30, 3, inheritable=True)
port = str(s.getsockname()[1])
os.environ.update(LISTEN_FDS="1", LISTEN_FDNAMES="web", LISTEN_PID=str(os.getpid() + int(sys.argv[1])))
os.execvp(sys.argv[2], [word.replace("PORT", port) for word in sys.argv[2:]])
'
	python3 -c "$activate" 0 debian -d --name box -p PORT:80 -- python3 -c "$server" >/dev/null 2>err || die "$(cat err)"
	equal "$(port_of box)" "$(cat port)"
	until_so says "$(cat port)" hello
	"$mvm" rm -f box
	# For nobody; for another process: not ours to take, and the port is taken.
	expect 125 python3 -c "$activate" 0 run -- true
	case $err in *"add -p 127.0.0.1:$(cat port):PORT"*) ;; *) die "$err" ;; esac
	expect 125 python3 -c "$activate" 1 run -p PORT:80 -- true
	case $err in *"the port is taken"*) ;; *) die "$err" ;; esac
	# A command in a VM is told nothing of them.
	expect 0 python3 -c "$activate" 0 run -p PORT:80 -- env
	case $out in *LISTEN*) die "$out" ;; esac
}
