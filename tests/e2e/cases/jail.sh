# The jail on hosts that lack something or are set up badly: refused, naming the layer and the remedy, or gone on
# without it where that was allowed by name. Never silently.
# shellcheck disable=SC2016,SC2154 # expanded by shells within; $mvm and others are the runner's

tools=$(dirname "$PWD")/tools # each test runs in a folder of its own beside it

deny() {
	if [ ! -x "$tools/deny" ]; then
		mkdir -p "$tools"
		cc -D_GNU_SOURCE -O1 -o "$tools/deny" "$top/tests/e2e/deny.c" -lseccomp || die "deny does not build"
	fi
	"$tools/deny" "$@"
}
export tools
export -f deny

root_only() {
	[ "$(id -u)" -ne 0 ] || return 0
	echo "SKIP needs root"
	return 1
}

# What this host lacks anyway is no matter of these tests: an old kernel's Landlock; AppArmor's profile (apparmor.sh).
lacking=()
release=$(uname -r)
case $release in 5.* | 6.[0-6].* | 6.[0-6]-*) lacking=(--allow-missing=landlock-net) ;; esac

# with_conf MODE TEXT COMMAND…: /etc/mvm.conf as given, for this command alone; with_run SCRIPT COMMAND…: /run/mvm is a
# fresh one, prepared by the script. Programs, so that timeout and & take them as they are.
if [ ! -x "$tools/with_run" ]; then
	mkdir -p "$tools"
	cat >"$tools/with_conf" <<-'SH'
		#!/bin/bash
		mode=$1 text=$2
		shift 2
		rm -rf etc
		mkdir etc
		cp /etc/passwd /etc/group /etc/ld.so.cache etc/
		if [ "$text" = FOLDER ]; then mkdir etc/mvm.conf; else printf '%b' "$text" >etc/mvm.conf; fi
		chmod "$mode" etc/mvm.conf
		exec unshare -m sh -c 'mount --bind "$PWD/etc" /etc && exec "$@"' sh "$@"
	SH
	cat >"$tools/with_run" <<-'SH'
		#!/bin/bash
		exec unshare -m sh -c 'mkdir -p /run/mvm && mount -t tmpfs -o mode=700 none /run/mvm && eval "$1" && shift && exec "$@"' sh "$@"
	SH
	chmod 755 "$tools/with_conf" "$tools/with_run"
fi
PATH=$tools:$PATH

# A VM in the background: $cli, $vmm. Ended by stop_vm.
start_vm() {
	"$@" sh -c 'echo ready; sleep 600' >vm.out 2>vm.err &
	cli=$!
	for _ in $(seq 3000); do
		! grep -q ready vm.out || break
		kill -0 "$cli" 2>/dev/null || die "no VM: $(cat vm.out vm.err)"
		sleep 0.02
	done
	vmm=$(pgrep -P "$(pgrep -P "$cli" -x mvm-supervisor)")
}

stop_vm() {
	kill -TERM "$cli"
	wait "$cli" || true
}

test_no_user_namespaces() {
	root_only || return 0
	local had
	had=$(cat /proc/sys/user/max_user_namespaces)
	trap 'echo "$had" >/proc/sys/user/max_user_namespaces' EXIT
	echo 0 >/proc/sys/user/max_user_namespaces
	refused jail namespaces user.max_user_namespaces -- run "${lacking[@]}" -- true
	refused jail namespaces -- run --allow-missing=cgroup,landlock,landlock-net -- true
	echo "$had" >/proc/sys/user/max_user_namespaces
	expect 0 run "${lacking[@]}" -- true
}

# As in a container: no CLONE_NEWUSER, and clone3 unknown, whose flags a filter cannot see.
test_a_filter_around_us() {
	refused jail namespaces container -- bash -c 'deny newuser=EPERM clone3=ENOSYS -- run "$@"' bash "${lacking[@]}" -- true
	refused jail namespaces container -- bash -c 'deny newuser=EPERM clone3=EPERM -- run "$@"' bash "${lacking[@]}" -- true
	[ "$(id -u)" -ne 0 ] || refused jail namespaces container -- bash -c 'deny newuser=EPERM -- run "$@"' bash "${lacking[@]}" -- true
	# a filter that forbids what nobody needs is one more layer
	expect 0 bash -c 'deny mbind=EPERM -- run "$@"' bash "${lacking[@]}" -- echo fine
	equal "$out" fine
}

test_no_cgroup() {
	root_only || return 0
	without='mount -o remount,bind,ro /sys/fs/cgroup; for f in /sys/fs/cgroup/*/; do mountpoint -q $f && mount -o remount,bind,ro $f; done; exec "$@"'
	refused jail cgroup --allow-missing=cgroup delegated -- unshare -m sh -c "$without" sh run "${lacking[@]}" -- true
	refused jail cgroup -- unshare -m sh -c "$without" sh run --allow-missing=landlock,landlock-net -- true
	refused --cpus cgroup -- unshare -m sh -c "$without" sh run --cpus 1 --allow-missing=cgroup,landlock-net -- true
	expect 0 unshare -m sh -c "$without" sh run --allow-missing=cgroup,landlock-net --receipt r.json -- true
	jq -e '.isolation | .cgroup == false and (.missing | index("cgroup"))' r.json >/dev/null || die "$(jq .isolation r.json)"
	expect 0 with_conf 644 'allow-missing = cgroup,landlock-net,lsm\n' unshare -m sh -c "$without" sh run -- true
}

test_no_landlock() {
	local id
	refused jail landlock --allow-missing=landlock lsm= -- bash -c 'deny landlock_create_ruleset=ENOSYS -- run "$@"' bash -- true
	refused jail landlock-net -- bash -c 'deny landlock_create_ruleset=ENOSYS -- run "$@"' bash --allow-missing=landlock -- true
	refused jail landlock -- bash -c 'deny landlock_create_ruleset=ENOSYS -- run "$@"' bash --allow-missing=landlock-net -- true
	expect 0 bash -c 'deny landlock_create_ruleset=ENOSYS -- run "$@"' bash --allow-missing=landlock,landlock-net --receipt r.json -- true
	equal "$(jq -c '[.isolation.landlock_abi, .isolation.missing - ["lsm"]]' r.json)" '[0,["landlock","landlock-net"]]'
	# inspect says so, too, of what runs; the filter around us is one that it knows of
	deny getpid=EPERM -- true || die "deny"
	start_vm "$tools/deny" landlock_create_ruleset=ENOSYS -- run --allow-missing=landlock,landlock-net --
	id=$(basename "$(dirname "$(grep -l "\"vmm\":$vmm," /run/mvm/*/state.json "$XDG_RUNTIME_DIR"/mvm/*/state.json 2>/dev/null)")")
	expect 0 "$mvm" inspect "$id" --security --format json
	equal "$(jq -r '.security.layers[] | select(.name == "landlock") | "\(.state) \(.allowed)"' stdout)" "missing true"
	equal "$(jq -r '.security.layers[] | select(.name == "seccomp") | .state' stdout)" ok
	[ "$(id -u)" -ne 0 ] || equal "$(jq -r '.security.layers[] | select(.name == "seccomp-filters") | .state' stdout)" ok
	stop_vm
}

test_landlock_without_network_rules() {
	[ ${#lacking[@]} -gt 0 ] || { echo "SKIP this kernel's Landlock has them"; return; }
	refused jail landlock-net "6.7" --allow-missing=landlock-net -- run -- true
	refused landlock-net -- run --allow-missing=landlock -- true
	expect 0 run --allow-missing=landlock-net --receipt r.json -- true
	equal "$(jq -c '.isolation.missing - ["lsm"]' r.json)" '["landlock-net"]'
	root_only >/dev/null || return 0
	expect 0 with_conf 644 '# this host\nallow-missing = landlock-net,lsm\n' run -- true
	refused landlock-net -- with_conf 644 'allow-missing = landlock\n' run -- true
}

test_layers_that_cannot_be_left_out() {
	local layer
	for layer in seccomp namespaces capabilities cgroup,seccomp all '' ','; do
		refused allow-missing landlock-net never -- run --allow-missing="$layer" -- true
	done
}

test_conf() {
	root_only || return 0
	local bad
	refused /etc/mvm.conf chmod -- with_conf 666 '' run -- true
	refused /etc/mvm.conf chmod -- with_conf 664 '' run -- true
	refused /etc/mvm.conf chown -- with_conf 644 FOLDER run -- true
	for bad in 'frob = 1' 'allow-missing' 'allow-missing = seccomp' 'allow-missing = ,' 'uid-range = 5' \
		'uid-range = 0-10' 'uid-range = 3000-2000' 'uid-range = 1-99999999999' '= x'; do
		refused /etc/mvm.conf -- with_conf 644 "# a comment\n\n$bad\n" run -- true
	done
	refused "line 3" frob -- with_conf 644 "\n\nfrob = 1\n" run -- true
	expect 0 with_conf 600 'uid-range = 70000-70010 # ours\nallow-missing = landlock-net,lsm\n' run --receipt r.json -- true
	jq -e '.isolation.uid >= 70000 and .isolation.uid <= 70010' r.json >/dev/null || die "$(jq .isolation r.json)"
	chown 12345 . && : >conf && chown 12345 conf
	refused /etc/mvm.conf chown -- with_conf 644 '' sh -c 'mount --bind conf /etc/mvm.conf; exec "$@"' sh run -- true
}

test_uids_run_out() {
	root_only || return 0
	local text='uid-range = 71000-71000\nallow-missing = landlock-net,lsm\n'
	start_vm with_conf 644 "$text" run --
	equal "$(awk '/^Uid:/ {print $2, $3, $4, $5}' "/proc/$vmm/status")" "71000 71000 71000 71000"
	refused uids 71000 uid-range -- with_conf 644 "$text" run -- true
	stop_vm
	expect 0 with_conf 644 "$text" run -- true
}

test_two_vms_share_no_uid() {
	root_only || return 0
	local first
	start_vm run "${lacking[@]}" --
	first=$(awk '/^Uid:/ {print $2}' "/proc/$vmm/status")
	expect 0 run "${lacking[@]}" --receipt r.json -- true
	[ "$(jq .isolation.uid r.json)" != "$first" ] || die "both have uid $first"
	[ "$first" -ge 1900000000 ] || die "uid $first"
	stop_vm
}

test_planted_folders() {
	root_only || return 0
	refused /run/mvm/uids remove -- with_run 'ln -s /tmp /run/mvm/uids' run -- true
	refused /run/mvm/uids remove -- with_run 'mkdir -m 777 /run/mvm/uids' run -- true
	refused /run/mvm/uids remove -- with_run 'mkdir -m 700 /run/mvm/uids; chown 12345 /run/mvm/uids' run -- true
	refused /run/mvm/uids -- with_run ': >/run/mvm/uids' run -- true
	refused /run/mvm "700" -- with_run 'chmod 777 /run/mvm' run -- true
	refused /run/mvm uid -- with_run 'chown 12345 /run/mvm' run -- true
	refused /run/mvm link -- unshare -m sh -c 'mount -t tmpfs none /run; mkdir /run/real; ln -s real /run/mvm; exec "$@"' sh run -- true
	expect 0 with_run : run "${lacking[@]}" -- true
}

test_kvm_of_another_group() {
	root_only || return 0
	command -v setpriv >/dev/null || { echo "SKIP no setpriv"; return; }
	mknod -m 660 kvm c 10 232 && chgrp 54321 kvm
	mkdir -m 700 run && chown 12345 run
	XDG_RUNTIME_DIR=$PWD/run refused /dev/kvm -- unshare -m sh -c 'mount --bind "$PWD/kvm" /dev/kvm; exec "$@"' sh \
		setpriv --reuid 12345 --regid 12345 --clear-groups run -- true
	case $err in *usermod* | *chgrp*) ;; *) die "no command that mends it: $err" ;; esac
}

# A part, or mvm itself, that is setuid would start VMs as somebody else than its caller.
test_setuid() {
	local part
	mkdir own
	cp "$mvm" "$(dirname "$mvm")"/{mvm-supervisor,mvm-vmm,agent.cpio} "$top/build/kernel/vmlinux" own/
	chmod -R go-w own
	for part in mvm mvm-supervisor mvm-vmm; do
		chmod u+s "own/$part"
		refused "own/$part" "chmod u-s" -- own/mvm run --rootfs "$small/small.ext4" -- true
		chmod u-s "own/$part"
		chmod o+w "own/$part"
		refused "own/$part" "chmod o-w" -- own/mvm run --rootfs "$small/small.ext4" -- true
		chmod o-w "own/$part"
		setcap cap_net_admin+ep "own/$part" 2>/dev/null || continue
		refused "own/$part" "setcap -r" -- own/mvm run --rootfs "$small/small.ext4" -- true
		setcap -r "own/$part"
	done
	cp "$(dirname "$mvm")/mvm-bridge" own/
	! [ "$(id -u)" = 0 ] || setcap cap_net_admin+ep own/mvm-bridge # the one that may
	expect 0 own/mvm run --rootfs "$small/small.ext4" "${lacking[@]}" -- true
}

# The group of a controller ("" for version 2), as a folder.
group_of() {
	if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
		echo "/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$vmm/cgroup")"
	else
		echo "/sys/fs/cgroup/$1$(sed -En "s/^[0-9]+:([a-z,]*,)?$1(,[a-z,]*)?://p" "/proc/$vmm/cgroup")"
	fi
}

test_limits_are_as_documented() {
	local memory pids mib=1048576
	truncate -s 1M disk.img
	start_vm run -m 128M -c 2 --disk disk.img --cpus 1.5 "${lacking[@]}" --
	memory=$(group_of memory) pids=$(group_of pids)
	# guest, page tables, vsock's pool, the constant
	local want=$((128 * mib + mib + 8 * mib + 48 * mib))
	# threads: I/O, two vCPUs, eight of each disk; and two
	equal "$(cat "$pids/pids.max")" $((1 + 2 + 16 + 2))
	if [ -e "$memory/memory.max" ]; then
		equal "$(cat "$memory/memory.max")" $want
		equal "$(cat "$memory/memory.swap.max" 2>/dev/null || echo 0)" 0
		equal "$(cat "$memory/cpu.max")" "150000 100000"
	else
		equal "$(cat "$memory/memory.limit_in_bytes")" $want
		equal "$(cat "$memory/memory.memsw.limit_in_bytes" 2>/dev/null || echo $want)" $want
		equal "$(cat "$(group_of cpu)/cpu.cfs_quota_us")" 150000
	fi
	case $memory in */mvm-????????????) ;; *) die "not in a group of its own: $memory" ;; esac
	stop_vm
	[ ! -d "$memory" ] || die "left behind: $memory"
}

# CPU time over wall time, of a VM that burns what it gets.
test_cpus_bounds_what_is_used() {
	local stat before after from to
	start_vm run -c 2 --cpus 0.25 "${lacking[@]}" -- sh -c 'yes >/dev/null & yes >/dev/null & exec "$@"' sh
	stat=$(group_of cpu)
	used() {
		if [ -e "$stat/cpu.stat" ] && grep -q usage_usec "$stat/cpu.stat"; then
			sed -n 's/^usage_usec //p' "$stat/cpu.stat"
		else
			awk '{print int($1 / 1000)}' "${stat/\/cpu\//\/cpuacct\/}/cpuacct.usage" 2>/dev/null ||
				awk -v hz="$(getconf CLK_TCK)" '{print int(($14 + $15) * 1000000 / hz)}' "/proc/$vmm/stat"
		fi
	}
	before=$(used) from=${EPOCHREALTIME/./}
	sleep 8 # what is measured is what passes in a time
	after=$(used) to=${EPOCHREALTIME/./}
	stop_vm
	[ "$after" -gt "$before" ] || die "nothing was used: $before, $after"
	[ $((100 * (after - before) / (to - from))) -le 40 ] || die "$((after - before)) us of CPU in $((to - from)) us"
}

# What is missing here by the host's own age is named, and nothing else is.
test_inspected() {
	local id state want
	start_vm run "${lacking[@]}" --
	state=$(grep -l "\"vmm\":$vmm," /run/mvm/*/state.json "$XDG_RUNTIME_DIR"/mvm/*/state.json 2>/dev/null)
	id=$(basename "$(dirname "$state")")
	expect 0 "$mvm" inspect "$id" --security --format json
	[ ${#lacking[@]} -eq 0 ] || want=landlock-net
	equal "$(jq -r '.security.layers[] | select(.state == "missing" and .required and .name != "lsm") | .name' stdout)" "${want-}"
	if [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then
		equal "$(jq -r '.security.read.cgroup["memory.limit_in_bytes"]' stdout)" "$(cat "$(group_of memory)/memory.limit_in_bytes")"
		equal "$(jq -r '.security.read.cgroup.memory' stdout)" "$(sed -En 's/^[0-9]+:([a-z,]*,)?memory(,[a-z,]*)?://p' "/proc/$vmm/cgroup")"
	fi
	stop_vm
}

# kernel_pages TEXT: KiB of ./vmlinux that a VM of it maps, and how many of them are its own, with /etc/mvm.conf as given
kernel_pages() {
	start_vm with_conf 644 "$1" run "${lacking[@]}" --kernel vmlinux --receipt receipt --
	awk -v "file=$PWD/vmlinux" '$1 ~ /^[0-9a-f]+-[0-9a-f]+$/ {ours = $NF == file} ours && $1 == "Rss:" {rss += $2}
		ours && $1 == "Anonymous:" {own += $2} END {print rss + 0, own + 0}' "/proc/$vmm/smaps" >pages
	stop_vm
	cat pages
}

# The kernel's text is in memory once for all VMs where the operator says so, and others than root and the caller cannot write it.
test_share_kernel() {
	local rss own
	[ "$(id -u)" -eq 0 ] || { echo "SKIP needs root, to see what a VMM maps"; return; }
	cp "$top/build/kernel/vmlinux" vmlinux
	chmod 644 vmlinux
	equal "$(kernel_pages '')" "0 0"
	sha256sum vmlinux >before
	read -r rss own < <(kernel_pages 'share-kernel = yes\n')
	[ "$rss" -gt 2048 ] || die "$rss KiB of it are mapped"
	[ $((own * 3)) -lt "$rss" ] || die "$own KiB of $rss are the VM's own"
	sha256sum --quiet -c before
	equal "$(jq .isolation.kernel_shared receipt)" true
	chmod 664 vmlinux
	equal "$(kernel_pages 'share-kernel = yes\n')" "0 0"
	refused /etc/mvm.conf "line 1" yes no -- with_conf 644 'share-kernel = perhaps\n' run -- true
	expect 0 with_conf 644 'share-kernel = yes\n' "$mvm" doctor
	grep -Eq '^settings +warning +.*share-kernel' stdout || die "$out"
	expect 1 with_conf 644 'share-kernel = perhaps\n' "$mvm" doctor
	grep -Eq '^settings +problem +.*give yes or no' stdout || die "$out"
}
