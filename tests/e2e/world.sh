# shellcheck shell=bash
# For the cases that want a network of their own: the namespace $here is the host that mvm runs in, $there all that is
# outside of it.

# make_world ADDRESS…: with these outside; all of it goes with the test. Says why where it cannot be.
make_world() {
	local a of
	[ "$(id -u)" -eq 0 ] || { echo "SKIP needs root, to make a network of its own"; return 1; }
	command -v pasta nft >/dev/null || { echo "SKIP needs pasta and nft"; return 1; }
	modprobe -a tun nf_tables nft_ct nft_limit nft_log nft_connlimit nft_masq nft_reject_inet nfnetlink_log 2>/dev/null
	[ -w /dev/net/tun ] || { echo "SKIP no /dev/net/tun"; return 1; }
	[ "$(stat -c %a /dev/net/tun)" = 666 ] || chmod 666 /dev/net/tun # as udev has it
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

end_world() {
	local pid
	"$mvm" ps -aq | xargs -r "$mvm" rm -f
	for pid in $(jobs -p); do kill "$pid" 2>/dev/null; done
	wait
	ip netns del "$here" 2>/dev/null
	ip netns del "$there" 2>/dev/null
}
