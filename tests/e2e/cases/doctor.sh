# What `mvm doctor` says of the machine this runs on, and of worse ones.
names="kvm kvm-device kvm-api cpu clock kernel user-namespaces seccomp landlock lsm cgroup delegation mitigations smt \
core-scheduling ksm settings swap memory limits random state-folder net-user net-bridge mvm-supervisor mvm-net mvm-udp mvm-bridge mvm-vmm agent.cpio vmlinux"

# the line of one check, of what was printed last
line() {
	grep "^$1 " stdout
}

# says CHECK STATE WORD…: the check's line has that state and every word
says() {
	local check=$1 state=$2 text
	shift 2
	text=$(line "$check") || die "no line for $check: $out"
	case $text in "$check "*" $state  "*) ;; *) die "wanted $state of $check: $text" ;; esac
	for word in "$@"; do
		case $text in *"$word"*) ;; *) die "'$word' is not said: $text" ;; esac
	done
}

# A copy of the installation, whose parts can be spoilt.
copy_mvm() {
	mkdir -p copy/bin copy/lib/mvm
	cp "$mvm" copy/bin/
	cp "$(dirname "$mvm")"/{mvm-supervisor,mvm-net,mvm-udp,mvm-bridge,mvm-vmm,agent.cpio} "$top/build/kernel/vmlinux" copy/lib/mvm/
	chmod -R go-w copy
}

test_each_check_once() {
	expect 0 "$mvm" doctor
	equal "$(awk '{print $1}' stdout | xargs)" "$names"
	equal "$err" ""
	says kvm-api "ok" "version 12"
	# whatever is to be put right, it is said how
	! grep -E '^[a-z.-]+ +(warning|problem) ' stdout | grep -v '; remedy: .' || die "no remedy: $out"
	! grep '; remedy:' stdout | grep -vE '^[a-z.-]+ +(warning|problem) ' || die "a remedy for nothing: $out"
}

test_json() {
	expect 0 "$mvm" doctor --format json
	python3 -m json.tool stdout >/dev/null || die "no JSON: $out"
	cp stdout doc
	expect 0 python3 -c 'import json, sys
doc = json.load(open(sys.argv[1]))
checks = doc["checks"]
bad = [c for c in checks if c["state"] in ("warning", "problem")]
assert all(c["remedy"] for c in bad) and not any("remedy" in c for c in checks if c not in bad)
assert all(c["state"] in ("ok", "warning", "problem", "not checked") and c["found"] for c in checks)
assert doc["problems"] == 0 and doc["warnings"] == len(bad)
print(*[c["name"] for c in checks])' doc
	equal "$out" "$names"
}

test_strict() {
	local want=0
	expect 0 "$mvm" doctor --format=table
	grep -qE '^[a-z.-]+ +warning ' stdout && want=1
	expect "$want" "$mvm" doctor --strict
}

test_wrong_usage() {
	refused --no-such "mvm help doctor" -- "$mvm" doctor --no-such
	refused xml json -- "$mvm" doctor --format xml
	refused --format "mvm help doctor" -- "$mvm" doctor --format
	refused more -- "$mvm" doctor more
	expect 0 "$mvm" doctor --help
	case $out in *--strict*) ;; *) die "help without --strict: $out" ;; esac
	expect 125 sh -c '"$0" doctor >/dev/full' "$mvm"
}

test_nothing_is_left() {
	local folder=$XDG_RUNTIME_DIR/mvm
	[ "$(id -u)" -ne 0 ] || folder=/run/mvm
	rm -rf "$folder" # no VM runs beside these tests
	expect 0 "$mvm" doctor
	[ ! -e "$folder" ] || die "$folder was made"
}

test_kvm_without_permission() {
	[ "$(id -u)" -eq 0 ] || { echo "SKIP needs root, to be someone else"; return; }
	expect 1 setpriv --reuid=65534 --regid=65534 --clear-groups "$mvm" doctor
	says kvm-device problem "no permission" "not in group" "; remedy: sudo usermod -aG $(stat -c %G /dev/kvm) \$USER"
	says kvm-api "not checked"
	expect 1 setpriv --reuid=65534 --regid=65534 --clear-groups "$mvm" doctor --format json
	python3 -m json.tool stdout >/dev/null || die "no JSON: $out"
	mkdir runtime && chown 65534 runtime
	expect 0 env XDG_RUNTIME_DIR="$PWD/runtime" setpriv --reuid=65534 --regid="$(stat -c %g /dev/kvm)" --clear-groups "$mvm" doctor
	says kvm-device ok "by its group"
}

test_no_kvm() {
	[ "$(id -u)" -eq 0 ] || { echo "SKIP needs root for a mount namespace"; return; }
	expect 1 unshare -m sh -c 'mount -t tmpfs none /dev && exec "$0" doctor' "$mvm"
	says kvm problem "CPU can virtualize" "; remedy: sudo modprobe kvm_"
	says kvm-device "not checked"
	expect 1 unshare -m sh -c 'mount --bind /dev/null /dev/kvm && exec "$0" doctor' "$mvm"
	says kvm-api problem "not KVM"
}

test_settings_of_the_host() {
	[ "$(id -u)" -eq 0 ] || { echo "SKIP needs root to set them"; return; }
	expect 1 sh -c 'old=$(sysctl -n user.max_user_namespaces); sysctl -qw user.max_user_namespaces=0
		"$0" doctor; status=$?; sysctl -qw user.max_user_namespaces=$old; exit $status' "$mvm"
	says user-namespaces problem "; remedy: sudo sysctl -w user.max_user_namespaces="
	expect 0 sh -c 'ulimit -n 512; exec "$0" doctor' "$mvm"
	says limits warning "open files" nofile
	if [ -w /sys/kernel/mm/ksm/run ]; then
		expect 0 sh -c 'echo 1 >/sys/kernel/mm/ksm/run; "$0" doctor; echo 0 >/sys/kernel/mm/ksm/run' "$mvm"
		says ksm warning "echo 2"
	fi
}

test_parts() {
	copy_mvm
	expect 0 copy/bin/mvm doctor
	says mvm-vmm ok "copy/lib/mvm/mvm-vmm, version"
	says vmlinux ok "Linux version 6"
	chmod u+s copy/lib/mvm/mvm-supervisor
	expect 1 copy/bin/mvm doctor
	says mvm-supervisor problem setuid "chmod u-s,g-s"
	chmod u-s copy/lib/mvm/mvm-supervisor
	if setcap cap_net_admin+ep copy/lib/mvm/mvm-vmm 2>/dev/null; then
		setcap cap_net_admin+ep copy/lib/mvm/mvm-bridge
		expect 1 copy/bin/mvm doctor
		says mvm-vmm problem "has capabilities" "setcap -r"
		says mvm-bridge ok
		setcap -r copy/lib/mvm/mvm-vmm
	fi
	chmod o+w copy/lib
	expect 1 copy/bin/mvm doctor
	says mvm-vmm problem "/copy/lib can be changed"
	chmod o-w copy/lib
	head -c 1000 copy/bin/mvm >copy/lib/mvm/mvm-vmm
	head -c 100000 copy/lib/mvm/vmlinux >short && mv short copy/lib/mvm/vmlinux
	chmod o+w copy/lib/mvm/agent.cpio
	expect 1 copy/bin/mvm doctor
	says mvm-vmm problem "no known version"
	says vmlinux problem "no Linux kernel"
	says agent.cpio problem "agent.cpio: others may write to it" "; remedy: "
	says mvm-supervisor ok
}
