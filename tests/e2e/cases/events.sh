# Events: what is told of VMs, to whom, and in which form.

events_set_up() {
	tidy_up
	root=/run/mvm
	[ "$(id -u)" = 0 ] || root=$XDG_RUNTIME_DIR/mvm
}

# kinds FILTER: the kinds of the events that it lets through, in a line
kinds() {
	"$mvm" events --format json --filter "$1" | jq -r .event | paste -sd' '
}

# event FILTER: the last of them
event() {
	"$mvm" events --format json --filter "$1" | tail -1
}

test_story() {
	events_set_up
	expect 0 detached --name story -e SECRET=hunter2 -e OTHER=x -- sh -c 'trap "" USR1; while :; do sleep 0.1; done'
	local id=$out
	expect 3 "$mvm" exec story -- sh -c 'exit 3'
	expect 0 "$mvm" pause story
	expect 0 "$mvm" resume story
	expect 0 "$mvm" update story --blk-iops 500
	expect 0 "$mvm" kill -s USR1 story
	expect 0 "$mvm" stop -t 0 story
	expect 0 "$mvm" rm story
	equal "$(kinds "id=$id,event=created,event=booted,event=started,event=exec,event=exec-ended,event=pause,event=resume,event=update,event=signal,event=stop,event=ended,event=removed")" \
		"created booted started exec exec-ended pause resume update signal stop ended removed"
	! "$mvm" events --format json | grep -q hunter2 || die "a variable's value was told"
	event "id=$id,event=created" >created
	equal "$(jq -r '[.name, .by_uid, .options.env, .options.memory, .options.detach] | @json' created)" \
		"[\"story\",$(id -u),[\"SECRET\",\"OTHER\"],100663296,true]"
	case $(jq -r .command created) in "sh -c trap"*) ;; *) die "$(cat created)" ;; esac
	case $(jq -r .time created) in 20??-*T*Z) ;; *) die "$(cat created)" ;; esac
	equal "$(event "id=$id,event=exec-ended" | jq -r '[.status, .verdict, .exec > 0] | @json')" '[3,"exited",true]'
	equal "$(event "id=$id,event=exec" | jq -r '[.command, .by_uid, .by_pid > 1] | @json')" \
		"[\"sh -c exit 3\",$(id -u),true]"
	equal "$(event "id=$id,event=update" | jq -r .blk_iops)" 500
	equal "$(event "id=$id,event=signal" | jq -r .signal)" USR1
	equal "$(event "id=$id,event=ended" | jq -r '[.verdict, .status, .word_of] | @json')" '["operator",125,"host"]'
	# the table, and what it is asked for
	expect 0 "$mvm" events --filter name=story,event=started
	equal "$(wc -l <stdout)" 2
	case $out in TIME*started*story*after_ms=*) ;; *) die "$out" ;; esac
	expect 0 "$mvm" events --since 2999-01-01 --format json
	equal "$out" ""
	expect 0 "$mvm" events --since 1h --filter "id=${id:0:6}" --format json
	[ "$(wc -l <stdout)" -ge 12 ] || die "$out"
	refused --filter keys -- "$mvm" events --filter colour=red
	refused --filter -- "$mvm" events --filter event
	refused --since -- "$mvm" events --since yesterday
	refused filter -- "$mvm" events story
}

# Runs without a name leave their events, and so do those that were refused.
test_unnamed_and_refused() {
	events_set_up
	expect 7 run -- sh -c 'exit 7'
	equal "$("$mvm" events --format json | jq -r 'select(.event == "ended") | .status' | tail -1)" 7
	! "$mvm" events --since 10s --filter event=violation --format json | grep -q "$("$mvm" events --format json | tail -1 | jq -r .id)" ||
		die "a regular end is told as a violation"
	expect 125 run --rootfs /etc/passwd -- true
	"$mvm" events --format json | tail -1 >last
	equal "$(jq -r '[.event, .severity, .verdict, .rootfs, .by_uid] | @json' last)" \
		"[\"refused\",\"warning\",\"refused\",\"/etc/passwd\",$(id -u)]"
	case $(jq -r .cause last) in *passwd*) ;; *) die "$(cat last)" ;; esac
}

# What a guest does that it may not; nothing of it steers a terminal.
test_security() {
	events_set_up
	expect 0 debian -- python3 -c '
import socket
for port in (77, 77, 99):
    s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    try: s.connect((2, port))
    except OSError: pass
    s.close()'
	equal "$("$mvm" events --format json --filter event=port-refused | jq -r .port | tail -2 | paste -sd' ')" "77 99"
	equal "$("$mvm" events --format json --filter event=ended | tail -1 | jq -r .ports_refused)" 3
	# a layer that may be missing is told
	"$mvm" events --format json --filter event=created,event=layer-missing | tail -1 >last
	if [ "$(jq -r .event last)" = layer-missing ]; then
		case $(jq -r .layers last) in *lsm*) ;; *) die "$(cat last)" ;; esac
	fi
	# a VMM that somebody kills
	expect 0 detached --name victim -- sleep 1000
	kill -KILL "$("$mvm" ps --format json | jq -r '.[] | select(.name == "victim") | .vmm')"
	until_so sh -c "'$mvm' events --format json --filter name=victim | grep -q '\"ended\"'"
	equal "$(event name=victim,event=ended | jq -r '[.verdict, .severity, .vmm_signal] | @json')" '["vmm-fault","error","KILL"]'
}

# A supervisor that is killed tells nothing; the next command does.
test_crash() {
	events_set_up
	expect 0 detached -- sleep 1000
	local id=$out
	kill -KILL "$("$mvm" ps --format json | jq -r ".[] | select(.id == \"$id\") | .supervisor")"
	until_so sh -c "'$mvm' events --format json --filter id=$id | grep -q '\"ended\"'"
	equal "$(event "id=$id,event=ended" | jq -r '[.verdict, .severity, .cause] | @json')" \
		'["vmm-fault","error","its supervisor died, and the VM with it"]'
	equal "$(kinds "id=$id,event=ended")" ended # once
}

test_follow() {
	events_set_up
	rm -f "$root/events" "$root/events.1"
	"$mvm" events -f --format json >followed &
	local follower=$!
	expect 0 run -- true
	until_so grep -q '"event":"ended"' followed
	# over a rotation
	local id
	id=$(jq -r 'select(.event == "ended") | .id' followed)
	expect 0 run -- true
	mv "$root/events" "$root/events.1"
	expect 3 run -- sh -c 'exit 3'
	until_so sh -c '[ "$(grep -c "\"event\":\"ended\"" followed)" = 3 ]'
	kill $follower
	equal "$(jq -r 'select(.event == "ended") | .status' followed | paste -sd' ')" "0 0 3"
	[ -n "$id" ] || die "no id"
}

# The journal keeps to its size, whatever happens.
test_bounded() {
	events_set_up
	expect 0 run -- true
	head -c 4194000 /dev/zero | tr '\0' x >>"$root/events"
	expect 0 run -- true
	[ -f "$root/events.1" ] || die "not rotated: $(ls -l "$root")"
	equal "$("$mvm" events --format json --filter event=ended | wc -l)" "$(cat "$root/events" "$root/events.1" | grep -c '"event":"ended"')"
	[ "$(stat -c %s "$root/events")" -lt 100000 ] || die "not small"
	rm -f "$root/events.1"
	# What is no file of ours is not written to, and stops no VM.
	rm -f "$root/events"
	ln -s "$PWD/elsewhere" "$root/events"
	expect 0 run -- true
	[ ! -e elsewhere ] || die "a link was followed"
	rm -f "$root/events"
}

# Daemons that listen, and one that does not.
test_sinks() {
	events_set_up
	[ "$(id -u)" = 0 ] || { echo "SKIP only root makes /dev/log"; return; }
	expect 4 run --events "file:$PWD/events.json" -- sh -c 'exit 4'
	equal "$(jq -r .event events.json | paste -sd' ' | sed 's/layer-missing //')" "created booted started ended"
	equal "$(stat -c %a events.json)" 600
	refused --events journald -- run --events nonsense -- true
	refused --events none/such -- run --events "file:$PWD/none/such" -- true
	[ ! -e /dev/log ] && [ ! -e /run/systemd/journal/socket ] && [ ! -e /etc/mvm.conf ] ||
		{ echo "SKIP daemons or a configuration are here"; return; }
	refused --events /dev/log daemon -- run --events syslog -- true
	mkdir -p /run/systemd/journal
	socat -u UNIX-RECV:/dev/log OPEN:syslog.out,creat,append &
	one=$!
	socat -u UNIX-RECV:/run/systemd/journal/socket OPEN:journald.out,creat,append &
	two=$!
	# no locals: they are gone when the shell ends
	trap 'rm -f /dev/log /run/systemd/journal/socket /etc/mvm.conf; kill $one $two 2>/dev/null' EXIT
	until_so [ -S /dev/log ]
	until_so [ -S /run/systemd/journal/socket ]
	echo 'events = syslog' >/etc/mvm.conf
	expect 5 run --events journald -- sh -c 'exit 5'
	until_so grep -q MVM_EVENT=ended journald.out
	until_so grep -q '"event":"ended"' syslog.out
	grep -qx MESSAGE_ID=c60d801722b148fdaf9df42963fb29d5 journald.out || die "$(cat journald.out)"
	grep -qx MVM_STATUS=5 journald.out || die "$(cat journald.out)"
	grep -qx SYSLOG_IDENTIFIER=mvm journald.out || die "$(cat journald.out)"
	grep -qE '<30>[A-Z][a-z]{2} [ 0-9]{2} [0-9:]{8} mvm\[[0-9]+\]: \{' syslog.out || die "$(cat syslog.out)"
	# One that takes nothing holds nobody up.
	kill -STOP $one $two
	expect 0 run --events journald -- true
	for _ in $(seq 6); do run --events journald -- true & done
	wait $(jobs -p | grep -vxE "$one|$two")
	kill -CONT $one $two
	kill $one $two
	wait $one $two 2>/dev/null
	rm -f /dev/log /run/systemd/journal/socket
	refused /etc/mvm.conf /dev/log -- run -- true
	echo 'events = somewhere' >/etc/mvm.conf
	refused /etc/mvm.conf line -- run -- true
}
