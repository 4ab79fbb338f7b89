# The policy matrix: what passes and what does not, for each mode, rule and kind of packet, as the guest has it and as a
# capture at the host's end has it. A stand-in has the guest's place (tests/e2e/member.c), but for --proxy, which needs a VM.
#
# shellcheck source=tests/e2e/world.sh
. "$top/tests/e2e/world.sh"
# shellcheck source=tests/e2e/guests.sh
. "$top/tests/e2e/guests.sh"

# The rules, a column of the matrix each.
declare -A rules=(
	[allow]=""
	[deny]="egress=deny"
	[ranges]="egress=deny allow-egress=198.51.100.1:7/tcp allow-egress=[2001:db8:99::/48]:7/udp allow-egress=198.51.100.2 allow-egress=2001:db8:98::/48"
	[names]="egress=deny allow-egress=open.example:7/tcp allow-egress=*.wild.example"
	[inside]="allow-egress=10.9.8.0/24:7 allow-egress=fd99::/16"
	[host]="egress=deny allow-egress=203.0.113.2:8 allow-egress=169.254.169.254:7/tcp allow-egress=168.63.129.16 allow-egress=[2001:db8:55::2]:8 allow-egress=fd00:ec2::254"
)

# What the names have, a family each (tests/e2e/world.sh).
declare -A addresses=(
	[open.example]=198.51.100.1 [open.example6]=2001:db8:99::1
	[a.wild.example]=8.8.8.8 [a.wild.example6]=2001:db8:98::1
)

# Each rule has of each kind what passes and what does not, but for these: what is denied altogether has nothing that passes;
# a name is refused where something is denied, and answered where names are named or nothing is denied.
impossible='
deny tcp +
deny tcp6 +
deny udp +
deny udp6 +
deny ping +
deny ping6 +
deny dns +
ranges dns +
host dns +
allow dns -
inside dns -
'

# +: passes, -: does not, .: not tried there (the name beside it opens the address).
matrix='
what to                port  allow deny ranges names inside host
tcp  198.51.100.1      7     +     -    +      .     +      -
tcp  198.51.100.1      8     +     -    -      -     +      -
udp  198.51.100.1      7     +     -    -      -     +      -
ping 198.51.100.1      0     +     -    -      -     +      -
tcp  198.51.100.2      8     +     -    +      -     +      -
udp  198.51.100.2      8     +     -    +      -     +      -
ping 198.51.100.2      0     +     -    +      -     +      -
tcp  2001:db8:99::1    7     +     -    -      .     +      -
udp  2001:db8:99::1    7     +     -    +      -     +      -
tcp  2001:db8:99::1    8     +     -    -      -     +      -
udp  2001:db8:99::1    8     +     -    -      -     +      -
ping 2001:db8:99::1    0     +     -    -      -     +      -
tcp  2001:db8:98::1    8     +     -    +      .     +      -
udp  2001:db8:98::1    8     +     -    +      .     +      -
ping 2001:db8:98::1    0     +     -    +      .     +      -
tcp  10.9.8.7          7     -     -    -      -     +      -
udp  10.9.8.7          7     -     -    -      -     +      -
tcp  10.9.8.7          8     -     -    -      -     -      -
ping 10.9.8.7          0     -     -    -      -     -      -
tcp  fd99::1           8     -     -    -      -     +      -
udp  fd99::1           7     -     -    -      -     +      -
ping fd99::1           0     -     -    -      -     +      -
tcp  192.168.3.3       7     -     -    -      -     -      -
tcp  169.254.169.254   7     -     -    -      -     -      +
udp  169.254.169.254   7     -     -    -      -     -      -
ping 169.254.169.254   0     -     -    -      -     -      -
tcp  168.63.129.16     7     -     -    -      -     -      +
ping 168.63.129.16     0     -     -    -      -     -      +
tcp  fd00:ec2::254     7     -     -    -      -     -      +
ping fd00:ec2::254     0     -     -    -      -     -      +
tcp  203.0.113.2       7     -     -    -      -     -      -
tcp  203.0.113.2       8     -     -    -      -     -      +
udp  203.0.113.2       7     -     -    -      -     -      -
udp  203.0.113.2       8     -     -    -      -     -      +
ping 203.0.113.2       0     -     -    -      -     -      -
tcp  2001:db8:55::2    7     -     -    -      -     -      -
tcp  2001:db8:55::2    8     -     -    -      -     -      +
udp  2001:db8:55::2    7     -     -    -      -     -      -
udp  2001:db8:55::2    8     -     -    -      -     -      +
ping 2001:db8:55::2    0     -     -    -      -     -      -
dns  open.example      0     +     -    -      +     +      -
dns  other.example     0     +     -    -      -     +      -
dns  a.wild.example    0     +     -    -      +     +      -
dns  wild.example      0     +     -    -      -     +      -
tcp  open.example      7     +     -    .      +     +      -
tcp6 open.example      7     +     -    .      +     +      -
udp  open.example      7     +     -    .      -     +      -
udp6 open.example      7     +     -    .      -     +      -
tcp  a.wild.example    8     +     -    .      +     +      -
tcp6 a.wild.example    8     +     -    .      +     +      -
udp  a.wild.example    8     +     -    -      +     +      -
udp6 a.wild.example    8     +     -    .      +     +      -
ping a.wild.example    0     +     -    -      +     +      -
ping6 a.wild.example   0     +     -    .      +     +      -
'

# wanted RULE KIND…: rows of the matrix, as "what to port yes|no".
wanted() {
	local rule=$1
	shift
	awk -v rule="$rule" -v kinds=" $* " 'NF < 4 { next } $1 == "what" { for (i = 4; i <= NF; i++) if ($i == rule) at = i; next }
		index(kinds, " " $1 " ") && $at != "." { print $1, $2, $3, ($at == "+" ? "yes" : "no") }' <<<"$matrix"
}

# No cell of the matrix is empty, but for those that cannot be filled.
test_matrix() {
	local rule kind sign
	for rule in "${!rules[@]}"; do
		for kind in tcp tcp6 udp udp6 ping ping6 dns; do
			for sign in + -; do echo "$rule $kind $sign"; done
		done
	done | sort >all
	awk 'NF < 4 { next } $1 == "what" { for (i = 4; i <= NF; i++) name[i] = $i; next }
		{ six = $1 != "dns" && ($2 ~ ":" && $1 !~ /6$/) ? "6" : ""; for (i = 4; i <= NF; i++) if ($i != ".") print name[i], $1 six, $i }' \
		<<<"$matrix" | sort -u >filled
	equal "$(comm -23 all filled)" "$(grep . <<<"$impossible" | sort)"
}

# What goes over the host's own devices, loopback among them.
capture() {
	ip netns exec "$here" tcpdump -nni any -s 200 -B 8192 --immediate-mode -U -w "cap.$1" 2>"cap.err" &
	dumper=$!
	until_so grep -q 'listening on' cap.err
}

# captured FILE WHAT TO PORT: whether such a packet is in it. TO: an address, several with "or" between them, or a name to ask for.
captured() {
	local filter
	case $2 in
	dns) filter="dst port 53" ;;
	ping*) filter="dst host ($3) and (icmp[icmptype] == icmp-echo or (icmp6 and ip6[40] == 128))" ;; # 128: RFC 4443 §4.1
	*) filter="dst host ($3) and ${2%6} dst port $4" ;;
	esac
	if [ "$2" = dns ]; then
		tcpdump -nnr "$1" "$filter" 2>/dev/null | grep -q " AAAA\? $3\. \| A? $3\. "
	else
		[ -n "$(tcpdump -nnr "$1" -c 1 "$filter" 2>/dev/null)" ]
	fi
}

# of_name WHAT NAME: the addresses by which a packet goes to it; any of them, where it is the proxy that chooses.
of_name() {
	case $1 in
	*6) echo "${addresses[${2}6]}" ;;
	*) echo "${addresses[$2]}${by_any:+ or ${addresses[${2}6]}}" ;;
	esac
}

# checked NAME RULE ROWS SAID: what the guest said, and what was captured, is what the rows want.
checked() {
	local what to port may seen at
	sleep 0.3 # the last packet's way into the file
	kill "$dumper"
	wait "$dumper"
	[ "$4" = "$3" ] || die "$1, $2: $(diff <(echo "$4") <(echo "$3"))"
	while read -r what to port may; do
		at=$to
		[ "$what" = dns ] || [ -z "${addresses[$to]:-}" ] || at=$(of_name "$what" "$to")
		seen=no
		! captured "cap.$2" "$what" "$at" "$port" || seen=yes
		[ "$seen" = "$may" ] || die "$1, $2: $what $to $port: captured: $seen, wanted: $may; of $at: $(tcpdump -nnr "cap.$2" 2>/dev/null | grep -F " ${at%% *}" | head)"
	done <<<"$3"
	printf '%s\n' "$3" | wc -l >>tried
}

# by_stand_in MODE-OPTION
by_stand_in() {
	local rule want
	for rule in "${!rules[@]}"; do
		want=$(wanted "$rule" tcp tcp6 udp udp6 ping ping6 dns)
		capture "$rule"
		# shellcheck disable=SC2086 # options are words
		joined g1 "$1" ${rules[$rule]}
		limit=120 expect 0 ip netns exec g1 python3 -c "$probe" "$(sed 's/ [a-z]*$//' <<<"$want" | paste -sd,)"
		leave g1
		until_so no_holder
		checked "$1" "$rule" "$want" "$out"
	done
	equal "$(wc -l <tried)" ${#rules[@]}
}

test_user() {
	guests 1 || return 0
	by_stand_in net=user
}

test_network() {
	guests 1 || return 0
	expect 0 "$mvm" network create net
	by_stand_in net=net
}

# On a bridge, with a name server of its own; its own network and what others begin there are tests/e2e/cases/bridge.sh's.
test_bridge() {
	guests 1 || return 0
	ip -n "$here" link add br0 type bridge
	ip -n "$here" address add 10.77.0.1/24 dev br0
	ip -n "$here" address add fd77::1/64 dev br0 nodad
	# another port, as a bridge has: without one its link, and IPv6 there, only come up a while after the guest
	ip -n "$here" link add up0 type dummy
	ip -n "$here" link set up0 master br0 up
	ip -n "$here" link set br0 up
	ip netns exec "$here" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
	ip -n "$there" route add 10.77.0.0/24 via 203.0.113.2
	ip -n "$there" -6 route add fd77::/64 via 2001:db8:55::2
	by_stand_in net=bridge=br0,ip=10.77.0.5/24,gw=10.77.0.1,ip6=fd77::5/64,gw6=fd77::1,dns=8.8.8.8
}

# The same rows as far as they are TCP, by CONNECT.
by_proxy='
import concurrent.futures, socket, sys
def one(row):
    what, to, port = row.split()
    at = "[%s]" % to if ":" in to else to
    try:
        s = socket.create_connection(("127.0.0.1", 3128), 30)
        s.sendall(f"CONNECT {at}:{port} HTTP/1.1\r\n\r\n".encode())
        got = b""
        while more := s.recv(1000):
            got += more
        ok = got.startswith(b"HTTP/1.1 200") and got.endswith(b"tcp")
    except OSError:
        ok = False
    return row + (" yes" if ok else " no")
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    for line in pool.map(one, sys.argv[1].split(",")):
        print(line, flush=True)
'

test_proxy() { # with a VM
	local rule want flags option by_any=yes
	make_internet || return 0
	for rule in "${!rules[@]}"; do
		want=$(wanted "$rule" tcp)
		flags=()
		for option in ${rules[$rule]}; do flags+=("--${option%%=*}" "${option#*=}"); done
		capture "$rule"
		limit=120 expect 0 "${on_host[@]}" run --rootfs "$img" -m 256M --proxy "${flags[@]}" -- \
			python3 -c "$by_proxy" "$(sed 's/ [a-z]*$//' <<<"$want" | paste -sd,)"
		checked proxy "$rule" "$want" "$out"
	done
	equal "$(wc -l <tried)" ${#rules[@]}
}
