# --net bridge=: a guest on a bridge of the host's, by addresses of its own. Most of it without VMs, whose place a network
# namespace has (tests/e2e/member.c).
#
# shellcheck source=tests/e2e/world.sh
. "$top/tests/e2e/world.sh"
# shellcheck source=tests/e2e/guests.sh
. "$top/tests/e2e/guests.sh"

own_mac=02:00:00:00:00:55

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
		"tcp 10.9.0.1 7 no" "tcp fd09::1 7 no" "tcp 203.0.113.2 7 no" "tcp 2001:db8:55::2 7 no" \
		"tcp 203.0.113.1 7 no" "tcp 10.9.8.7 7 no" "tcp fd99::1 7 no" "tcp 169.254.169.254 7 no" "tcp fd00:ec2::254 7 no" \
		"tcp 10.9.0.77 7 no" "tcp 192.0.0.1 7 no"
	equal "$(who g1 10.9.0.7) $(who g1 fd09::7)" "10.9.0.5 fd09::5"
	ip -n "$near" neighbour flush all
	equal "$(who "$near" 10.9.0.5) $(who "$near" fd09::5)" "10.9.0.7 fd09::7"
	equal "$(ip -n "$near" neighbour show dev eth0 | awk '/^(10.9.0.5|fd09::5) / { print $3 }' | sort -u)" "$own_mac"
	equal "$(who "$there" 10.9.0.5) $(who "$there" fd09::5)" "203.0.113.1 2001:db8:55::1"
	until_so grep -q 'refused tcp 10.9.0.1:7 host' said.g1
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
