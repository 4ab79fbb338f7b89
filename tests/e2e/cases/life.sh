# Detached VMs: their names, logs and ends, and what is left of them.

logged() { # VM TEXT
	"$mvm" logs "$1" 2>&1 | grep -q -- "$2"
}

test_life() {
	tidy_up
	expect 0 detached --name web -- sh -c 'echo out; echo err >&2; printf part; sleep 1; echo ial; sleep 1000'
	local id=$out
	[[ $id =~ ^[0-9a-f]{12}$ ]] || die "no id: $id"
	equal "$err" ""
	until_so logged web partial
	expect 0 "$mvm" logs web
	equal "$out" $'out\npartial'
	equal "$err" err
	expect 0 "$mvm" logs -n 1 -t "${id:0:5}"
	[[ $out =~ ^20[0-9-]+T[0-9:.]+Z\ partial$ ]] || die "no time: $out"
	expect 0 "$mvm" ps --format json
	equal "$(jq -r '.[0] | [.id, .name, .state, .detached] | @text' stdout)" "[\"$id\",\"web\",\"running\",true]"
	# Nobody's child: its caller has gone, and it lives.
	expect 0 "$mvm" inspect web --security
	expect 0 "$mvm" stop web
	expect 0 "$mvm" ps -q
	equal "$out" ""
	expect 0 "$mvm" ps -a --format json
	equal "$(jq -r '.[0] | [.state, .verdict, .status] | @text' stdout)" '["ended","operator",125]'
	expect 0 "$mvm" start web
	equal "$out" "$id"
	until_so sh -c "[ \"\$('$mvm' logs web | grep -c '^out')\" = 2 ]"
	expect 0 "$mvm" kill web
	expect 0 "$mvm" rm web
	nothing_there
}

test_ends() {
	tidy_up
	expect 0 detached --name seven -- sh -c 'exit 7'
	expect 0 "$mvm" wait seven
	equal "$out" 7
	expect 0 "$mvm" wait seven # as often as one likes
	equal "$out" 7
	expect 0 detached --name gone --rm -- sh -c 'sleep 4; exit 3'
	expect 0 "$mvm" wait gone
	equal "$out" 3
	refused gone 'no such VM' -- "$mvm" wait gone
	# One without a name, waited for by two at once.
	expect 0 detached -- sh -c 'sleep 2; kill -9 $$'
	local id=$out
	"$mvm" wait "$id" >other 2>/dev/null &
	local other=$!
	expect 0 "$mvm" wait "$id"
	equal "$out" 137
	wait $other
	equal "$(cat other)" 137
	# A failure to start is the caller's to hear, at once.
	expect 127 detached -- /nonexistent
	expect 125 detached --rootfs /etc/passwd -- true
	expect 0 "$mvm" rm seven
}

# SIGTERM first, the end after the grace; two at once are no trouble.
test_stop() {
	tidy_up
	expect 0 detached --name polite -- sh -c 'trap "echo bye; exit 0" TERM; echo up; while :; do sleep 0.1; done'
	until_so logged polite up
	"$mvm" stop polite &
	local other=$!
	expect 0 "$mvm" stop polite
	wait $other || die "the second stop failed"
	expect 0 "$mvm" logs polite
	equal "$out" $'up\nbye'
	expect 0 detached --name deaf -- sh -c 'trap "" TERM; echo up; while :; do sleep 0.1; done'
	until_so logged deaf up
	expect 0 "$mvm" stop -t 500ms deaf
	equal "$("$mvm" ps -a --format json | jq -r '.[] | select(.name == "deaf") | .cause')" \
		"stopped by the operator, and killed when it did not end by itself"
	expect 0 "$mvm" stop deaf # it has ended already
}

test_signals_to_detached() {
	tidy_up
	expect 0 detached --name sig -- sh -c 'trap "echo usr1" USR1; echo up; while :; do sleep 0.1; done'
	until_so logged sig up
	expect 0 "$mvm" kill -s USR1 sig
	until_so logged sig usr1
	refused signal -- "$mvm" kill -s NONSENSE sig
	refused signal -- "$mvm" kill -s 65 sig
}

test_follow() {
	tidy_up
	expect 0 detached --name steps -- sh -c 'for i in 1 2 3 4 5; do echo $i; sleep 0.3; done'
	expect 0 "$mvm" logs -f steps
	equal "$(echo "$out" | tr '\n' ' ')" "1 2 3 4 5 "
	expect 0 "$mvm" logs --since 1h -n 2 steps
	equal "$(echo "$out" | tr '\n' ' ')" "4 5 "
	expect 0 "$mvm" logs --since 2999-01-01 steps
	equal "$out" ""
}

# Lines are counted as they were printed, however many pieces they have in the log.
test_tail() {
	tidy_up
	expect 0 detached --name tail -- sh -c 'for c in a b c; do head -c 20000 /dev/zero | tr "\0" $c; echo; done; printf end'
	expect 0 "$mvm" wait tail
	equal "$("$mvm" logs tail | wc -c)" 60007
	equal "$("$mvm" logs -n 2 tail | wc -c)" 20005
	equal "$("$mvm" logs --tail 2 tail | head -c 1)" c
	equal "$("$mvm" logs --tail=1 tail)" end
	equal "$("$mvm" logs -n 0 tail)" ""
	equal "$("$mvm" logs -n 99 tail | wc -c)" 60007
	refused 'no number' -- "$mvm" logs -n -1 tail
}

# Whatever is printed, the log keeps to its size, says what it dropped, and the last lines are there.
test_log_is_bounded() {
	tidy_up
	expect 0 detached --name loud --log-max 64k -- sh -c 'timeout 5 yes; head -c 100000 /dev/urandom; echo; echo the end'
	expect 0 "$mvm" wait loud
	local folder=/run/mvm
	[ "$(id -u)" = 0 ] || folder=$XDG_RUNTIME_DIR/mvm
	local bytes
	bytes=$(cat "$folder"/*/log* | wc -c)
	[ "$bytes" -le 65536 ] || die "the log has $bytes bytes"
	[ "$("$mvm" logs loud 2>&1 | grep -ac 'bytes of this log were dropped')" -ge 1 ] || die "nothing said of what was dropped"
	equal "$("$mvm" logs -n 1 loud | tr -d '\0')" "the end"
}

# A supervisor that was killed: the next command puts the record right, and the VM can be started again.
test_crash_of_named() {
	tidy_up
	expect 0 detached --name crash -- sleep 1000
	local id=$out supervisor vmm
	supervisor=$("$mvm" ps --format json | jq '.[0].supervisor')
	vmm=$("$mvm" ps --format json | jq '.[0].vmm')
	kill -KILL "$supervisor"
	until_so sh -c "! kill -0 $vmm"
	expect 0 "$mvm" ps -a --format json
	equal "$(jq -r '.[0] | [.state, .verdict] | @text' stdout)" '["ended","vmm-fault"]'
	expect 0 "$mvm" wait crash
	equal "$out" 125
	expect 0 "$mvm" start crash
	equal "$out" "$id"
	expect 0 "$mvm" rm -f crash
	nothing_there
}

test_names_are_refused() {
	tidy_up
	expect 0 detached --name taken -- sleep 1000
	refused taken 'mvm rm' -- detached --name taken -- true
	refused name -- detached --name 'a/b' -- true
	refused name -- detached --name '' -- true
	refused name -- detached --name $'a\033b' -- true
	refused nosuch 'no such VM' -- "$mvm" stop nosuch
	refused runs -- "$mvm" rm taken
	refused runs -- "$mvm" start taken
	expect 0 detached --name takes -- sleep 1000
	refused several -- "$mvm" stop tak
	refused 'no log' -- sh -c "'$mvm' run --name attached --rootfs '$small/small.ext4' -m 96M -- true && '$mvm' logs attached"
	expect 0 "$mvm" rm attached
}

# A record that cannot be read is said to be so, and can be removed.
test_damaged_record() {
	tidy_up
	expect 0 detached --name odd -- true
	expect 0 "$mvm" wait odd
	local folder=/run/mvm
	[ "$(id -u)" = 0 ] || folder=$XDG_RUNTIME_DIR/mvm
	echo '{"version":99}' >"$(echo "$folder"/*/state.json)"
	expect 0 "$mvm" ps -a
	[[ $out == *odd*unknown* ]] || die "not shown: $out"
	refused "another version" 'mvm rm' -- "$mvm" wait odd
	expect 0 "$mvm" rm odd
	nothing_there
}

# Whatever lies where a record should: cut short at any place, of another kind, nothing at all.
test_garbage_for_a_record() {
	tidy_up
	local folder=/run/mvm file size kind
	[ "$(id -u)" = 0 ] || folder=$XDG_RUNTIME_DIR/mvm
	expect 0 detached --name well -- sleep 1000
	expect 0 detached --name odd -- true
	expect 0 "$mvm" wait odd
	file=$(dirname "$(grep -l '"name":"odd"' "$folder"/*/state.json)")/state.json
	cp "$file" whole
	size=$(stat -c %s whole)
	for kind in cut1 cut$((size / 2)) cut$((size - 3)) empty binary number list long deep; do
		case $kind in
		cut*) head -c "${kind#cut}" whole ;;
		empty) ;;
		binary) head -c 300 /dev/urandom ;;
		number) echo 7 ;;
		list) echo '[{"version":1}]' ;;
		long) head -c 3000000 /dev/zero | tr '\0' '{' ;;
		deep) printf '{"version":%s' "$(head -c 4000 /dev/zero | tr '\0' '[')" ;;
		esac >"$file"
		limit=30 expect 0 "$mvm" ps -a
		[[ $out == *unknown* && $out == *well*running* ]] || die "$kind: $out"
		case $out in *[$'\001'-$'\010\033']*) die "$kind: control bytes" ;; esac
		limit=30 expect 0 "$mvm" ps -a --format json
		equal "$kind $(jq length stdout)" "$kind 2"
		limit=30 refused "$(basename "$(dirname "$file")")" "mvm rm" -- "$mvm" wait "$(basename "$(dirname "$file")")"
	done
	expect 0 "$mvm" rm "$(basename "$(dirname "$file")")"
	equal "$("$mvm" ps -a --format json | jq -r '.[].name')" well
	# That of a VM that runs: its supervisor, which holds the lock, is the one to tell of it.
	echo garbage >"$(echo "$folder"/*/state.json)"
	limit=30 expect 0 "$mvm" ps -a
	limit=30 expect 0 "$mvm" rm -f "$("$mvm" ps -aq)"
	nothing_there
}

# A further command for a VM that has been told to end: it runs until the end, or is told so; nobody hangs.
test_exec_while_it_stops() {
	tidy_up
	local stop other
	expect 0 detached --name deaf -- sh -c 'trap "echo told" TERM; echo up; while :; do sleep 0.1; done'
	until_so logged deaf up
	"$mvm" exec deaf sleep 1000 2>other.err &
	other=$!
	until_so sh -c "'$mvm' top deaf | grep -q 'sleep 1000'"
	"$mvm" stop -t 15s deaf &
	stop=$!
	until_so logged deaf told
	limit=60 expect 0 "$mvm" exec deaf echo still here
	equal "$out" "still here"
	wait $stop || die "stop failed"
	# It was killed with the rest, or the end came first.
	wait $other
	case $?,$(cat other.err) in 137, | 125,*"VM has ended"*) ;; *) die "the other command: $(cat other.err)" ;; esac
	[ "$(wc -l <other.err)" -le 1 ] || die "said: $(cat other.err)"
	limit=60 refused deaf -- "$mvm" exec deaf true
}

# An installation that is replaced while its VMs run, file by file and each by a new one of its name, as a package manager does.
test_upgrade() {
	local part built
	built=$(dirname "$mvm")
	mkdir own
	cp "$built"/{mvm,mvm-supervisor,mvm-vmm,mvm-net,mvm-udp,mvm-bridge,agent.cpio} "$top/build/kernel/vmlinux" own/
	local mvm=$PWD/own/mvm
	tidy_up
	expect 0 "$mvm" run -d --name old --restart on-failure -p 0:80 -m 96M --rootfs "$small/small.ext4" -- \
		sh -c 'trap "echo bye; exit 0" TERM; echo up; while :; do sleep 0.1; done'
	until_so logged old up
	for part in vmlinux agent.cpio mvm-vmm mvm-net mvm-udp mvm-bridge mvm-supervisor mvm; do
		cp "own/$part" own/.new && mv own/.new "own/$part"
		expect 0 "$mvm" exec old echo "with a new $part"
	done
	[[ $(readlink "/proc/$("$mvm" ps --format json | jq '.[0].vmm')/exe") == *"(deleted)" ]] || die "its VMM was not replaced"
	echo data >file
	expect 0 "$mvm" cp file old:/tmp
	expect 0 "$mvm" exec old cat /tmp/file
	equal "$out" data
	expect 0 "$mvm" stats old
	expect 0 "$mvm" top old
	expect 0 "$mvm" pause old
	expect 0 "$mvm" resume old
	expect 0 "$mvm" update old --blk-iops 1000
	expect 0 "$mvm" inspect old --security
	expect 0 "$mvm" logs old
	equal "$out" up
	# The supervisor is the old one, and starts it again with what is there now.
	kill -KILL "$("$mvm" ps --format json | jq '.[0].vmm')"
	until_so sh -c "'$mvm' ps --format json | jq -e '.[0] | .restarts == 1 and .state == \"running\"'"
	until_so sh -c "[ \"\$('$mvm' logs old 2>/dev/null | grep -c '^up')\" = 2 ]"
	equal "$(readlink "/proc/$("$mvm" ps --format json | jq '.[0].vmm')/exe")" "$PWD/own/mvm-vmm"
	expect 0 "$mvm" stop old
	expect 0 "$mvm" logs -n 1 old
	equal "$out" bye
	expect 0 "$mvm" start old
	expect 0 "$mvm" rm -f old
	nothing_there
}

# What started it need not wait for its end: no descriptor of the caller's stays open.
test_caller_is_free() {
	tidy_up
	local got
	got=$(detached --name free -- sleep 1000 2>&1) || die "$got"
	[[ $got =~ ^[0-9a-f]{12}$ ]] || die "said: $got"
}

test_pause() {
	tidy_up
	expect 0 detached --name tick -- sh -c 'while :; do echo .; sleep 0.1; done'
	until_so logged tick .
	expect 0 "$mvm" pause tick
	equal "$("$mvm" ps --format json | jq -r '.[0].state')" paused
	refused paused -- "$mvm" pause tick
	refused resume -- "$mvm" exec tick true
	local lines
	lines=$("$mvm" logs tick | wc -l)
	sleep 1
	equal "$("$mvm" logs tick | wc -l)" "$lines"
	expect 0 "$mvm" resume tick
	refused 'not paused' -- "$mvm" resume tick
	until_so sh -c "[ \$('$mvm' logs tick | wc -l) -gt $lines ]"
	# A paused one can be ended, mildly and otherwise.
	expect 0 "$mvm" pause tick
	expect 0 "$mvm" stop tick
	expect 0 "$mvm" start tick
	expect 0 "$mvm" pause tick
	expect 0 "$mvm" kill tick
}

test_stats_and_top() {
	tidy_up
	expect 0 detached --name busy -- sh -c 'dd if=/dev/zero of=/tmp/x bs=1M count=8 2>/dev/null; sleep 1000'
	until_so sh -c "'$mvm' top busy | grep -q 'sleep 1000'"
	expect 0 "$mvm" top busy --format json
	equal "$(jq -c '[.all, (.processes[] | select(.command == "sleep 1000") | .uid, .state, .rss_kib > 0, .pid > 0, has("cpu_ms"))]' stdout)" \
		'[true,0,"S",true,true,true]'
	refused 'give table or json' -- "$mvm" top busy --format xml
	expect 0 "$mvm" stats busy --format json
	[ "$(jq '.[0].cpu_ns' stdout)" -gt 10000000 ] || die "no CPU time: $out"
	[ "$(jq '.[0].memory' stdout)" -gt 10000000 ] || [ "$(id -u)" != 0 ] || die "no memory: $out"
	[ "$(jq '.[0].guest_pids' stdout)" -ge 1 ] || die "no processes: $out"
	[ "$(jq '.[0].scratch_used' stdout)" -ge 8388608 ] || die "no scratch used: $out"
	refused nosuch -- sh -c "'$mvm' stats nosuch >/dev/null"
	expect 0 "$mvm" stats
	[[ $out == *busy* ]] || die "not in the table: $out"
}
