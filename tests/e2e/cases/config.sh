# `mvm run --config`: a JSON description, flags above it, and the one that `mvm inspect` prints.

describe() {
	jq -n --arg rootfs "$small/small.ext4" --argjson more "${1:-{\}}" '{rootfs: $rootfs, memory: "96m"} + $more'
}

test_a_description_runs() {
	describe '{"args": ["sh", "-c", "echo $A-$B; nproc; pwd"], "env": ["A=1", "B=2"], "vcpus": 2, "workdir": "/tmp"}' >vm.json
	expect 0 "$mvm" run --config vm.json
	equal "$out" $'1-2\n2\n/tmp'
	out=$("$mvm" run --config - <vm.json) || die "from standard input: $out"
	equal "$out" $'1-2\n2\n/tmp'
}

# Single values are replaced, wherever the flag stands; what may be repeated is added to; a switch is taken back.
test_flags_outweigh_it() {
	describe '{"args": ["false"], "env": ["A=1", "B=2"], "vcpus": 2, "detach": true}' >vm.json
	expect 0 "$mvm" run -c 3 -e B=3 -e C=4 --config vm.json --detach=false -- sh -c 'nproc; echo $A$B$C'
	equal "$out" $'3\n134'
}

test_refusals() {
	refused /no/such.json "No such file" -- "$mvm" run --config /no/such.json
	refused "needs a value" -- "$mvm" run --config
	refused "given twice" -- "$mvm" run --config a.json --config b.json
	echo '{"rootfs": "x", "memori": 1}' >unknown.json
	refused unknown.json memori "did you mean memory" -- "$mvm" run --config unknown.json
	echo '{"rootfs": "x", "vcpus": 1, "vcpu\u0073": 2}' >twice.json
	refused twice.json vcpus "given twice" -- "$mvm" run --config twice.json
	echo '{"rootfs": "x", /* a comment */ "vcpus": 1}' >comment.json
	refused comment.json "not JSON" "byte 16" -- "$mvm" run --config comment.json
	echo '{"vcpus": 99}' >range.json
	refused range.json vcpus 99 -- "$mvm" run --config range.json
	echo '["rootfs"]' >list.json
	refused list.json "not a JSON object" -- "$mvm" run --config list.json
	: >empty.json
	refused empty.json "not JSON" -- "$mvm" run --config empty.json
	head -c 17000000 /dev/zero | tr '\0' ' ' >large.json
	refused large.json "16 MiB" -- "$mvm" run --config large.json
	mkdir folder
	refused folder directory -- "$mvm" run --config folder
	describe '{"args": ["cat"], "interactive": true}' >input.json
	refused "--config" "--interactive" -- sh -c '"$1" run --config - <input.json' _ "$mvm"
}

# What inspect prints makes the same VM: the second's own description is equal but for the name.
test_round_trip() {
	tidy_up
	truncate -s 1M disk.img
	expect 0 "$mvm" run -d --name first --rootfs "$small/small.ext4" -m 96m -c 2 -e A=1 -e $'B=two\nlines' -w /tmp -u 1234:4321 \
		--hostname box --disk "disk.img,ro,id=it" --blk-iops 1000 --blk-bps 10m --timeout 1h --boot-timeout 90s --pids-max 50 \
		--scratch 20m --log-max 1m --console-rate 1k --console console --allow-port "7=unix:$PWD/none" --allow-port 8=tcp:localhost:9 \
		--log-level info -- sleep 1000
	"$mvm" inspect first --format config >first.json || die "no description"
	expect 0 "$mvm" run --name second --config first.json
	"$mvm" inspect second --format config >second.json
	equal "$(jq -S 'del(.name)' second.json)" "$(jq -S 'del(.name)' first.json)"
	equal "$(jq -r .name second.json)" second
	[ "$(jq length first.json)" -ge 20 ] || die "less than was given: $(cat first.json)"
	"$mvm" inspect second --format json | jq -S .spec | cmp - <(jq -S . second.json) || die "two truths"
	refused "--security" "excludes" -- "$mvm" inspect second --security --format config
}
