# The receipt: the whole account of a run, signed, and what happens where it cannot be written.

# digest FILE: as a receipt has it
digest() {
	sha256sum "$1" | cut -d' ' -f1
}

# has JQ-EXPRESSION: true of receipt.json
has() {
	jq -e "$1" receipt.json >/dev/null || die "not so: $1: $(cat receipt.json)"
}

keys() {
	openssl genpkey -algorithm ed25519 -out key.pem 2>/dev/null && openssl pkey -in key.pem -pubout -out pub.pem && chmod 600 key.pem
}

test_the_whole_account() {
	local cpio
	truncate -s 2M rw.img ro.img
	printf x | dd of=ro.img conv=notrunc status=none
	cpio=$(dirname "$mvm")/agent.cpio
	expect 7 run --receipt receipt.json --name whole --rm -c 2 -e SECRET=hunter2 -w /tmp -u 1234 --hostname box --cpus 1.5 --pids-max 77 \
		--timeout 90s --blk-iops 5000 --console console --initrd "$cpio" --disk rw.img --disk ro.img,ro,id=data -i --allow-port 9=unix:/none \
		-- sh -c 'cat /dev/vdc >/dev/null; head -c 100000 /dev/zero; exit 7'
	equal "$(wc -c <stdout)" 100000
	has '.receipt == 1 and .name == "whole" and .verdict == "exited" and .status == 7 and .word_of == "guest"'
	has '.ended_ns > .began_ns and .used.wall_ns > 0 and .used.wall_ns < .times_ns.ended'
	has '.command == {args: ["sh", "-c", .command.args[2]], user: "1234", workdir: "/tmp", hostname: "box", environment: ["SECRET"],
		interactive: true, tty: false, detached: false}'
	! grep -q hunter2 receipt.json || die "a secret in the receipt"
	has '.asked | .vcpus == 2 and .cpus == 1.5 and .pids_max == 77 and .timeout_ns == 90000000000 and .blk_iops == 5000 and .blk_bps == null'
	equal "$(jq -r .kernel.sha256 receipt.json)" "$(digest "$(jq -r .kernel.path receipt.json)")"
	equal "$(jq -r .image.sha256 receipt.json)" "$(digest "$small/small.ext4")"
	equal "$(jq -r .initrd.sha256 receipt.json)" "$(digest "$cpio")"
	has '.disks[0] | (.path |= sub(".*/"; "")) == {path: "rw.img", bytes: 2097152, sha256: null, id: "disk1", written: true}'
	equal "$(jq -r '.disks[1].sha256' receipt.json)" "$(digest ro.img)"
	has '.used | .cpu_user_ns + .cpu_sys_ns > 0 and .rss_peak > 1000000'
	has '.devices.disks | map(.id) == ["rootfs", "disk1", "data"] and .[0].read_bytes > 100000 and .[0].reads > 0 and .[0].kicks > 0'
	has '.devices.disks[2].read_bytes >= 2097152 and .devices.disks[1].writes == 0'
	has '.devices.vsock | .opened == 4 and .from_guest_bytes > 100000' # the agent's session and three streams
	has '.devices.console | .bytes > 1000 and .written_bytes + .dropped_bytes == .bytes'
	equal "$(jq .devices.console.written_bytes receipt.json)" "$(wc -c <console)"
	has '.devices.vcpus | length == 2 and all(.exits > 0) and (map(.mmio_writes) | add) > 0 and (map(.fatal) | add) == 0'
	has '.devices.rng.bytes > 0 and .channels.allowed[0].opened == 0'
}

# What a killed VMM did is known all the same.
test_a_killed_vmm_has_counted() {
	run --receipt receipt.json -- sh -c 'cat /dev/vda >/dev/null; echo read; exec sleep 600' >out 2>err &
	local cli=$!
	for _ in $(seq 600); do
		! grep -q read out || break
		sleep 0.05
	done
	kill -KILL "$(vmm_of "$cli")"
	wait "$cli"
	equal $? 125
	has '.verdict == "vmm-fault" and .devices.disks[0].read_bytes >= 33554432 and .devices.vsock.opened == 3 and .used.cpu_sys_ns > 0'
}

# What openssl makes mvm takes, and the other way round.
test_signed() {
	keys || die "openssl makes no keys"
	expect 3 run --receipt receipt.json --sign key.pem -- sh -c 'exit 3'
	equal "$(wc -c <receipt.json.sig)" 64
	expect 0 "$mvm" verify receipt.json --key pub.pem
	case $out in *"unchanged"*) ;; *) die "$out" ;; esac
	openssl pkeyutl -verify -pubin -inkey pub.pem -rawin -in receipt.json -sigfile receipt.json.sig >log || die "openssl: $(cat log)"
	openssl pkeyutl -sign -inkey key.pem -rawin -in receipt.json -out by-openssl.sig || die "openssl does not sign"
	cmp by-openssl.sig receipt.json.sig || die "another signature than openssl's"
	expect 0 "$mvm" verify --key=pub.pem --sig by-openssl.sig receipt.json
	equal "$(find . -name '.mvm-receipt*')" ""
	# A refusal has one as well.
	refused /no/such -- run --receipt refused.json --sign key.pem --kernel /no/such -- true
	expect 0 "$mvm" verify refused.json --key pub.pem
	rm refused.json
}

# bad WORD ARGUMENT…: `mvm verify` says no, in one line that holds the word
bad() {
	local word=$1
	shift
	expect 1 "$mvm" verify "$@"
	equal "$out" ""
	equal "$(wc -l <stderr)" 1
	case $err in *"$word"*) ;; *) die "$*: $err" ;; esac
}

test_what_is_not_what_was_signed() {
	keys || die "openssl makes no keys"
	expect 0 run --receipt receipt.json --sign key.pem -- true
	openssl genpkey -algorithm ed25519 -out other.pem 2>/dev/null && openssl pkey -in other.pem -pubout -out other.pub
	bad "NOT what was signed" receipt.json --key other.pub
	sed 's/"status":0/"status":1/' receipt.json >changed
	bad "NOT what was signed" changed --sig receipt.json.sig --key pub.pem
	head -c -1 receipt.json >changed
	bad "NOT what was signed" changed --sig receipt.json.sig --key pub.pem
	head -c 63 receipt.json.sig >short.sig
	bad "63 bytes" receipt.json --sig short.sig --key pub.pem
	: >short.sig
	bad "0 bytes" receipt.json --sig short.sig --key pub.pem
	bad "changed.sig: No such file" changed --key pub.pem
	bad "none: No such file" none --sig receipt.json.sig --key pub.pem
	bad "none: No such file" receipt.json --key none
	bad "not an Ed25519 public key" receipt.json --key key.pem
	refused "which receipt" -- "$mvm" verify --key pub.pem
	refused "whose signature" -- "$mvm" verify receipt.json
	refused "one receipt" -- "$mvm" verify receipt.json receipt.json --key pub.pem
}

test_keys_that_are_none() {
	keys || die "openssl makes no keys"
	refused "--sign" "--receipt FILE" -- run --sign key.pem -- true
	refused "--sign" "--receipt FILE" -- run --sign key.pem --receipt fd:9 -- true
	refused "--sign" "/dev/null" "no plain file" -- run --sign key.pem --receipt /dev/null -- true
	refused "none: No such file" "openssl genpkey" -- run --sign none --receipt receipt.json -- true
	refused "pub.pem: not an Ed25519 private key" -- sh -c 'chmod 600 pub.pem; exec run --sign pub.pem --receipt receipt.json -- true'
	refused "chmod 600 key.pem" -- sh -c 'chmod 644 key.pem; exec run --sign key.pem --receipt receipt.json -- true'
	[ ! -e receipt.json ] || die "a receipt without the signature that was asked for"
}

# A file system that fills up, as the receipt is the last to be written: the command's status stays, the error is told.
test_a_full_disk() {
	keys || die "openssl makes no keys"
	[ "$(id -u)" = 0 ] || { echo "SKIP only root mounts a file system"; return; }
	mkdir full
	mount -t tmpfs -o size=64k full full || die "no tmpfs"
	trap 'umount -l "$PWD/full"' EXIT
	echo old >full/receipt.json
	expect 4 run --receipt full/receipt.json -- sh -c 'exit 4'
	equal "$(jq -r .status full/receipt.json)" 4
	cp full/receipt.json before.json
	head -c 1m /dev/zero >full/filler 2>/dev/null
	expect 5 run --receipt full/receipt.json --sign key.pem -- sh -c 'exit 5'
	case $err in *"--receipt: full/receipt.json: cannot be written: No space left on device"*) ;; *) die "$err" ;; esac
	cmp before.json full/receipt.json || die "the old one is not what it was"
	equal "$(find full -mindepth 1 | sort | xargs)" "full/filler full/receipt.json"
	mount -o remount,ro full
	refused "--receipt" "Read-only file system" -- run --receipt full/receipt.json -- true
}

test_an_unwritable_folder() {
	[ "$(id -u)" != 0 ] || { echo "SKIP root may write everywhere"; return; }
	mkdir closed && chmod 555 closed
	refused "--receipt" "closed/receipt.json" "Permission denied" -- run --receipt closed/receipt.json -- true
	# It can be closed while the VM runs, too.
	mkdir later
	run --receipt later/receipt.json -- sh -c 'echo up; sleep 1; exit 6' >out 2>err &
	local cli=$!
	for _ in $(seq 600); do
		! grep -q up out || break
		sleep 0.05
	done
	chmod 555 later
	wait "$cli"
	equal $? 6
	grep -q 'receipt: later/receipt.json: cannot be written: Permission denied' err || die "$(cat err)"
}
