# `mvm inspect`: what it says of a VM is what /proc says of it, read here by other means.
# shellcheck disable=SC2046,SC2012,SC2045,SC2010,SC2016 # words as wanted; the names in /proc are numbers

# A VM of the options given, in the background: $cli, $sup, $vmm, $id. Ended by stop_vm.
start_vm() {
	local folder
	run "$@" -- sh -c 'echo ready; sleep 600' >vm.out 2>vm.err &
	cli=$!
	for _ in $(seq 3000); do
		! grep -q ready vm.out || break
		kill -0 "$cli" 2>/dev/null || die "no VM: $(cat vm.out vm.err)"
		sleep 0.02
	done
	sup=$(pgrep -P "$cli" -x mvm-supervisor)
	vmm=$(pgrep -P "$sup")
	for folder in /run/mvm/* "$XDG_RUNTIME_DIR"/mvm/*; do
		[ "$(jq -r .supervisor "$folder/state.json" 2>/dev/null)" != "$sup" ] || id=$(basename "$folder") state=$folder
	done
	[ -n "$id" ] || die "no state folder of supervisor $sup"
	# The output passes the supervisor by, and may be here before it has heard of the start.
	for _ in $(seq 500); do
		! "$mvm" inspect "$id" | grep -q '^state *running' || return 0
		sleep 0.02
	done
	die "not running: $("$mvm" inspect "$id")"
}

stop_vm() {
	kill -TERM "$cli"
	wait "$cli" || true
}

# What this user can do without: an ordinary user's group may not be delegated.
lacking() {
	[ "$(id -u)" -eq 0 ] || [ -w /sys/fs/cgroup/cgroup.procs ] || echo --allow-missing=cgroup
}

field() {
	sed -n "s/^$1:[[:blank:]]*//p" "/proc/$vmm/status"
}

got() {
	jq -r "$1" stdout
}

# Compares where we may read; where we may not, neither may mvm, and it says so.
same() {
	local what=$1 query=$2 want
	shift 2
	if want=$("$@" 2>/dev/null); then
		equal "$what: $(got "$query")" "$what: $want"
	else
		equal "$what: $(got "$query")" "$what: null"
	fi
}

layer() {
	jq -r ".security.layers[] | select(.name == \"$1\") | .$2" stdout
}

descriptors() {
	local fd
	for fd in $(ls "/proc/$vmm/fd" | sort -n); do
		echo "$fd $(readlink "/proc/$vmm/fd/$fd")"
	done
	[ -r "/proc/$vmm/fd" ]
}

squeezed() {
	tr -s '[:blank:]' ' ' <"/proc/$vmm/$1" | sed 's/^ //; s/ $//'
}

limits() {
	awk '/^Max core/ {print "core", $6} /^Max open/ {print "nofile", $5} /^Max file size/ {print "fsize", $5}
		/^Max processes/ {print "nproc", $4} /^Max address/ {print "as", $5} /^Max locked/ {print "memlock", $5}
		/^Max msgqueue/ {print "msgqueue", $5} /^Max nice/ {print "nice", $5} /^Max realtime priority/ {print "rtprio", $5}' \
		"/proc/$vmm/limits" | sort
}

test_what_it_is() {
	start_vm -c 2 -e SECRET=x $(lacking)
	expect 0 "$mvm" inspect "$id" --format json
	equal "$(got .id)" "$id"
	equal "$(got .supervisor)" "$sup"
	equal "$(got .vmm)" "$vmm"
	equal "$(got .folder)" "$state"
	equal "$(got .state)" running
	equal "$(got .spec.vcpus)" 2
	equal "$(got '.spec.env[0]')" SECRET=x
	equal "$(got .security)" null
	[ $(($(date +%s) - $(got .began_ns) / 1000000000)) -lt 200 ] || die "began: $(got .began_ns)"
	expect 0 "$mvm" update "$id" --blk-iops 77
	expect 0 "$mvm" inspect "${id:0:11}" --format json
	equal "$(got '.spec["blk-iops"]')" 77
	expect 0 "$mvm" inspect "$id"
	case $out in *"$id"*running*"VMM $vmm"*) ;; *) die "$out" ;; esac
	stop_vm
}

test_every_field_is_that_of_proc() {
	local ns fd tid
	truncate -s 1M disk.img
	start_vm -c 2 --disk disk.img $(lacking)
	expect 0 "$mvm" inspect "$id" --security --format json
	cp stdout first
	equal "$(got .security.holds)" true
	for ns in user mnt pid net ipc uts cgroup; do
		same "$ns" ".security.read.namespaces.$ns.is" readlink "/proc/$vmm/ns/$ns"
		[ "$(got ".security.read.namespaces.$ns.is")" != "$(readlink "/proc/self/ns/$ns")" ] || die "$ns is ours"
	done
	equal "$(got .security.read.uid)" "$(field Uid)"
	equal "$(got .security.read.gid)" "$(field Gid)"
	equal "$(got '.security.read.groups // ""')" "$(field Groups | sed 's/ *$//')"
	equal "$(got .security.read.uid_map | tr -s ' ' | sed 's/^ //')" "$(squeezed uid_map)"
	equal "$(got .security.read.gid_map | tr -s ' ' | sed 's/^ //')" "$(squeezed gid_map)"
	for set in Inh:inheritable Prm:permitted Eff:effective Bnd:bounding Amb:ambient; do
		equal "$(got ".security.read.capabilities.${set#*:}")" "$(field "Cap${set%:*}")"
		equal "$(field "Cap${set%:*}")" 0000000000000000
	done
	equal "$(got .security.read.no_new_privs)" true
	equal "$(field NoNewPrivs)" 1
	equal "$(got '.security.read.threads[].tid' | sort -n | xargs)" "$(ls "/proc/$vmm/task" | sort -n | xargs)"
	for tid in $(ls "/proc/$vmm/task"); do
		equal "$(got ".security.read.threads[] | select(.tid == $tid) | \"\(.seccomp) \(.filters) \(.name)\"")" \
			"$(awk '/^Seccomp:/ {m = $2} /^Seccomp_filters/ {f = $2} /^Name:/ {n = $2} END {print m, f, n}' "/proc/$vmm/task/$tid/status")"
	done
	equal "$(got '[.security.read.threads[] | select(.kind == "vcpu")] | length')" 2
	equal "$(got '.security.read.limits | to_entries[] | "\(.key) \(.value)"' | sort)" "$(limits)"
	same descriptors '.security.read.descriptors // "null" | if type == "object" then to_entries[] | "\(.key) \(.value)" else . end' descriptors
	same mounts '.security.read.mounts // ["null"] | .[]' cat "/proc/$vmm/mountinfo"
	same root '.security.read.root_entries | if . == 0 then "empty" else . end' \
		sh -c 'set -e; ls "$1" >/dev/null; [ -z "$(ls -A "$1")" ] && echo empty' sh "/proc/$vmm/root/"
	equal "$(got .security.read.oom_score_adj)" "$(cat "/proc/$vmm/oom_score_adj")"
	if [ -e /sys/fs/cgroup/cgroup.controllers ] && [ -z "$(lacking)" ]; then
		local path value
		path=$(sed -n 's/^0:://p' "/proc/$vmm/cgroup")
		equal "$(got .security.read.cgroup.path)" "$path"
		equal "${path##*/}" "mvm-$id"
		for value in memory.max memory.swap.max pids.max cpu.max; do
			[ -e "/sys/fs/cgroup$path/$value" ] || continue
			equal "$(got ".security.read.cgroup[\"$value\"]")" "$(cat "/sys/fs/cgroup$path/$value")"
		done
	fi
	if [ "$(id -u)" -eq 0 ]; then
		equal "$(layer seccomp-filters state)" ok
		equal "$(got '[.security.read.filters_dumped[] | select(.program == null)] | length')" 0
		equal "$(got '[.security.read.filters_dumped[].tid] | unique | length')" "$(ls "/proc/$vmm/task" | wc -l)"
		equal "$(got '[.security.read.filters_dumped[].program] | unique | join(" ")')" "disk io start vcpu"
	else
		equal "$(layer seccomp-filters state)" unreadable
		case $(layer seccomp-filters found) in *"not readable by you (root may)"*) ;; *) die "$(layer seccomp-filters found)" ;; esac
	fi
	equal "$(got .security.read.landlock.source)" "recorded by the jail"
	same lsm .security.read.lsm cat "/proc/$vmm/attr/apparmor/current"
	case $(got .security.read.lsm) in
	"mvm-vmm (enforce)") equal "$(layer lsm state)" ok ;;
	unconfined | null) equal "$(layer lsm state) $(layer lsm allowed)" "missing true" ;;
	*) equal "$(layer lsm state)" weak ;;
	esac
	# the VM is none the worse for having been looked at
	for _ in 1 2 3; do expect 0 "$mvm" inspect "$id" --security; done
	kill -0 "$vmm" || die "the VM died of it: $(cat vm.err)"
	stop_vm
	equal "$(grep -c fault vm.err)" 0
}

# The kernel's own programs of each thread, read and hashed by other code: inspect prints these, knows each by its kind, and they
# are what was handed over.
test_filters_as_the_kernel_has_them() {
	[ "$(id -u)" -eq 0 ] || { echo "SKIP needs root, to read filters"; return; }
	command -v python3 >/dev/null || { echo "SKIP no python3 on this machine"; return; }
	local kind inherited
	truncate -s 1M disk.img
	start_vm -c 2 --disk disk.img
	inherited=$(awk '/^Seccomp_filters/ {print $2}' "/proc/$sup/status")
	"$top/tests/e2e/filters" "$vmm" >filters || die "no filters were read"
	expect 0 "$mvm" inspect "$id" --security --format json
	equal "$(cut -d ' ' -f 1,3,4 filters | sort)" \
		"$(got '.security.read.filters_dumped[] | "\(.tid) \(.instructions) \(.sha256)"' | sort)"
	equal "$(cut -d ' ' -f 1,2 filters | sort -u)" "$(got '.security.read.threads[] | "\(.tid) \(.kind)"' | sort)"
	for kind in io vcpu disk; do
		# that of the start and its own, in every thread of the kind, and no other but what the supervisor came with
		equal "$kind $(awk -v kind=$kind '$2 == kind {n[$1]++} END {for (t in n) print n[t]}' filters | sort -u)" \
			"$kind $((inherited + 2))"
		[ "$inherited" = 0 ] || continue
		equal "$kind $(awk -v kind=$kind '$2 == kind {print $3, $4}' filters | sort -u)" \
			"$kind $(got ".security.read.filters_handed_over | .start, .$kind | \"\(.instructions) \(.sha256)\"" | sort)"
	done
	equal "$(got '.security.read.filters_handed_over | [.io, .vcpu, .disk, .start | .sha256] | unique | length')" 4
	kill -0 "$vmm" || die "the VM died of it: $(cat vm.err)"
	stop_vm
	equal "$(grep -c fault vm.err)" 0
}

test_whose_it_is() {
	start_vm $(lacking)
	refused "no such VM" "$id" -- "$mvm" inspect ffffffffffff
	refused "no such VM" -- "$mvm" inspect ../../etc
	refused "which VM" -- "$mvm" inspect
	refused "one VM" -- "$mvm" inspect "$id" "$id"
	refused "--frob" -- "$mvm" inspect "$id" --frob
	refused "table, json or config" -- "$mvm" inspect "$id" --format yaml
	# another user sees nothing of it
	if [ "$(id -u)" -eq 0 ] && command -v setpriv >/dev/null; then
		mkdir -m 700 theirs
		chown 12345 theirs
		XDG_RUNTIME_DIR=$PWD/theirs refused "no such VM" -- setpriv --reuid 12345 --regid 12345 --clear-groups "$mvm" inspect "$id"
		ls -ld "$state" | grep -q '^drwx------' || die "others may look into $state"
	fi
	stop_vm
	refused "no such VM" -- "$mvm" inspect "$id"
}

# Root may look at a user's VM, and at its filters.
test_root_looks_at_a_users() {
	[ "$(id -u)" -eq 0 ] || { echo "SKIP needs root"; return; }
	command -v setpriv >/dev/null || { echo "SKIP no setpriv"; return; }
	local folder
	id=
	setpriv --reuid 12345 --regid 12345 --groups "$(stat -c %g /dev/kvm)" env -u XDG_RUNTIME_DIR "$mvm" run \
		--allow-missing=cgroup,landlock-net -m 96M --rootfs "$small/small.ext4" -- sh -c 'echo ready; sleep 600' >vm.out 2>vm.err &
	cli=$!
	for _ in $(seq 3000); do
		! grep -q ready vm.out || break
		kill -0 "$cli" 2>/dev/null || die "no VM: $(cat vm.out vm.err)"
		sleep 0.02
	done
	for folder in /tmp/mvm-12345/*/; do id=$(basename "$folder"); done
	expect 0 "$mvm" inspect "$id" --security --format json
	equal "$(layer seccomp-filters state)" ok
	equal "$(layer cgroup state) $(layer cgroup allowed)" "missing true"
	equal "$(layer identity state)" weak
	equal "$(jq -r '[.security.layers[] | select(.state == "unreadable")] | length' stdout)" 0
	stop_vm
	refused "no such VM" -- "$mvm" inspect "$id"
}

# A disk's threads wait with a time-out while they have no tokens. Stopped and let go on, as by an inspection, by
# job control or a debugger, the kernel takes the wait up by a call of its own (restart_syscall): it must be legal.
test_a_limited_disk_is_inspected() { # for the long run
	truncate -s 64M disk.img
	run --disk disk.img,ro --blk-bps 64k $(lacking) -- sh -c 'echo ready; dd if=/dev/vdb of=/dev/null bs=64k' >vm.out 2>vm.err &
	cli=$!
	for _ in $(seq 3000); do ! grep -q ready vm.out || break; sleep 0.02; done
	sup=$(pgrep -P "$cli" -x mvm-supervisor)
	vmm=$(pgrep -P "$sup")
	id=$(basename "$(dirname "$(grep -l "\"vmm\":$vmm," /run/mvm/*/state.json "$XDG_RUNTIME_DIR"/mvm/*/state.json 2>/dev/null)")")
	for _ in $(seq 15); do
		expect 0 "$mvm" inspect "$id" --security
		kill -STOP "$vmm"
		kill -CONT "$vmm"
		kill -0 "$vmm" 2>/dev/null || die "it died of being looked at: $(cat vm.err)"
	done
	kill -TERM "$cli"
	wait "$cli" || true
	! grep -q fault vm.err || die "$(cat vm.err)"
}

# Ids are random: the second VM is a folder whose lock somebody holds, as a supervisor would.
test_ambiguous_beginning() {
	command -v python3 >/dev/null || { echo "SKIP no python3 on this machine"; return; }
	start_vm $(lacking)
	local twin holder
	twin=$(dirname "$state")/${id:0:11}$([ "${id:11}" = 0 ] && echo 1 || echo 0)
	mkdir -m 700 "$twin"
	python3 -c 'import fcntl, sys; f = open(sys.argv[1], "w"); fcntl.lockf(f, fcntl.LOCK_EX); print("held", flush=True); sys.stdin.read()' \
		"$twin/lock" < <(sleep 60) >held &
	holder=$!
	for _ in $(seq 500); do ! grep -q held held || break; sleep 0.02; done
	refused "several VMs" "$id" -- "$mvm" inspect "${id:0:11}"
	expect 0 "$mvm" inspect "$id"
	refused "cannot be reached" -- "$mvm" inspect "$(basename "$twin")"
	kill "$holder"
	rm -r "$twin"
	stop_vm
}
