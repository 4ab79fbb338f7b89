# --restart: VMs that are started again when they end; --idle-timeout and --boot-timeout: VMs that are ended.

# Every test here has its VMs end with it.
restart_set_up() {
	cgroups=$(groups_of_vms)
	trap 'remove_all; all_gone' EXIT
}

groups_of_vms() {
	find /sys/fs/cgroup -maxdepth 6 -type d -name 'mvm-*' 2>/dev/null | sort
}

all_gone() {
	nothing_there
	equal "$(groups_of_vms)" "$cgroups"
}

# of VM KEY: what its record says
of() {
	"$mvm" ps -a --format json | jq -r --arg vm "$1" ".[] | select(.name == \$vm) | .$2"
}

is() { # VM KEY VALUE
	[ "$(of "$1" "$2")" = "$3" ]
}

at_least() { # VM KEY VALUE
	[ "$(of "$1" "$2")" -ge "$3" ]
}

# In its back-off, with seconds to go: six restarts are behind it.
in_back_off() { # VM
	is "$1" state restarting && at_least "$1" restarts 7
}

# So often and no more; each start has the image as it is, and the same id; who waits, waits for the last end.
test_on_failure() {
	restart_set_up
	expect 0 detached --name fails --restart on-failure:2 -- sh -c '[ -e /mark ] && exit 0; touch /mark; echo run; exit 3'
	local id=$out
	expect 0 "$mvm" logs -f fails
	equal "$out" $'run\nrun\nrun'
	expect 0 "$mvm" wait fails
	equal "$out" 3
	equal "$(of fails id)" "$id"
	equal "$(of fails state),$(of fails verdict),$(of fails restarts)" "ended,exited,2"
	# What went well is over.
	expect 0 detached --name well --restart on-failure -- sh -c 'sleep 1; exit 0'
	expect 0 "$mvm" wait well
	equal "$out,$(of well restarts)" "0,0"
	# A time-out is a failure, and each run has its own.
	expect 0 detached --name late --restart on-failure:1 --timeout 8s -- sh -c 'echo run; sleep 1000'
	expect 0 "$mvm" wait late
	equal "$out,$(of late verdict),$(of late restarts),$("$mvm" logs late 2>/dev/null | grep -c run)" "124,timeout,1,2"
	# A VMM that was killed is a failure, too.
	expect 0 detached --name shot --restart on-failure -- sleep 1000
	kill -KILL "$(of shot vmm)"
	until_so is shot restarts 1
	until_so is shot state running
	expect 0 "$mvm" stop -t 0s shot
	equal "$(of shot verdict)" operator
}

# Until somebody ends it, and then for good; a later start counts from nothing.
test_always() {
	restart_set_up
	expect 0 detached --name ever --restart always -- sh -c 'echo run; exit 0'
	until_so at_least ever restarts 3
	expect 0 "$mvm" ps
	expect 0 "$mvm" stop -t 0s ever
	equal "$(of ever state)" ended
	expect 0 "$mvm" ps -q
	equal "$out" ""
	expect 0 "$mvm" start ever
	! at_least ever restarts 3 || die "it goes on counting"
	until_so at_least ever restarts 1
	expect 0 "$mvm" rm -f ever
	all_gone
}

# A run that was going well when it was stopped, killed, or its supervisor told to end, is not started again.
test_operator() {
	restart_set_up
	local how
	for how in stop kill term; do
		expect 0 detached --name "op$how" --restart always -- sleep 1000
		if [ "$how" = term ]; then
			kill -TERM "$(of "op$how" supervisor)"
		else
			expect 0 "$mvm" "$how" "op$how"
		fi
		expect 0 "$mvm" wait "op$how"
		equal "$(of "op$how" state),$(of "op$how" verdict),$(of "op$how" restarts)" "ended,operator,0"
	done
}

# Between two runs: what there is to be seen and done.
test_back_off() { # for the long run
	restart_set_up
	expect 0 detached --name off --restart always -- sh -c 'exit 5'
	until_so in_back_off off
	until_so sh -c "'$mvm' ps | grep -q 'restarting exited (5), restart [1-9]'"
	# Tried until it is between two runs: these are longer and longer apart.
	local verb
	for verb in 'exec off true' 'attach off' 'top off' 'pause off'; do
		until_so sh -c "'$mvm' $verb 2>&1 </dev/null | grep -q 'is to be started again'"
	done
	refused runs -- "$mvm" rm off
	refused runs -- "$mvm" start off
	until_so sh -c "'$mvm' inspect off --format json | jq -e '.state == \"restarting\" and .vmm == 0 and .restarts >= 7'"
	"$mvm" wait off >waited &
	local pid=$!
	# At the beginning of one.
	local n
	n=$(of off restarts)
	until_so sh -c "'$mvm' ps --format json | jq -e '.[0] | .state == \"restarting\" and .restarts > $n'"
	expect 0 "$mvm" stop off
	equal "$(of off state),$(of off verdict)" "ended,exited"
	wait $pid
	equal "$(cat waited)" 5
	expect 0 "$mvm" rm off
	all_gone
}

# Killed in its back-off, a supervisor leaves what the next command puts right.
test_crash_in_back_off() { # for the long run
	restart_set_up
	expect 0 detached --name crash --restart always -- sh -c 'exit 5'
	local id=$out supervisor
	until_so in_back_off crash
	supervisor=$(of crash supervisor)
	kill -KILL "$supervisor"
	until_so sh -c "! kill -0 $supervisor"
	equal "$(of crash state),$(of crash verdict),$(of crash supervisor)" "ended,vmm-fault,0"
	expect 0 "$mvm" start crash
	equal "$out" "$id"
	until_so is crash restarts 1
	expect 0 "$mvm" rm -f crash
	# And while it is being started again, at whatever point that is.
	local n
	for n in 1 2 3 4; do
		expect 0 detached --name "crash$n" --restart always -- sh -c 'exit 5'
		until_so is "crash$n" restarts 1
		sleep "0.$((n * 2))"
		supervisor=$(of "crash$n" supervisor)
		kill -KILL "$supervisor"
		until_so sh -c "! kill -0 $supervisor && ! pgrep -x mvm-vmm"
		equal "$(of "crash$n" state)" ended
		expect 0 "$mvm" rm "crash$n"
	done
	all_gone
}

# Its clients: one that is attached or runs a command hears of the run's end; one that follows the log follows on.
test_clients() {
	restart_set_up
	expect 0 detached -i --name clients --restart on-failure:1 -- sh -c 'echo up; read go; exit 6'
	"$mvm" logs -f clients >followed 2>&1 &
	local follower=$!
	"$mvm" exec clients sleep 1000 2>exec.err &
	local exec=$!
	until_so sh -c "'$mvm' top clients | grep -q 'sleep 1000'"
	expect 6 bash -c "echo | '$mvm' attach clients"
	wait $exec
	local status=$? # its own end, if the guest came to tell it, or the VM's
	[ $status -eq 137 ] || [ $status -eq 125 ] || die "exec ended with $status: $(cat exec.err)"
	until_so is clients restarts 1
	until_so is clients state running
	expect 0 "$mvm" exec clients true
	expect 6 bash -c "echo | '$mvm' attach clients"
	wait $follower
	equal $? 0
	equal "$(grep -c '^up' followed)" 2
	grep -q 'mvm: exited (6): .*restart 1' followed || die "not told: $(cat followed)"
	equal "$(of clients restarts)" 1
}

# Nothing gathers in the supervisor from run to run.
test_nothing_gathers() {
	restart_set_up
	expect 0 detached -i --name gather --restart always -- sh -c 'read go; exit 1'
	local supervisor first n
	supervisor=$(of gather supervisor)
	for n in 1 2 3 4; do
		expect 1 bash -c "echo | '$mvm' attach gather"
		until_so is gather restarts "$n"
		until_so is gather state running
		first=${first:-$(find "/proc/$supervisor/fd" -type l | wc -l)}
	done
	equal "$(of gather supervisor)" "$supervisor"
	equal "$(find "/proc/$supervisor/fd" -type l | wc -l)" "$first"
	equal "$(pgrep -c -P "$supervisor")" 1
	expect 0 "$mvm" rm -f gather
}

# An image that is gone is a failure like others: tried again, until it is back.
test_image_gone() {
	restart_set_up
	cp "$small/small.ext4" image
	expect 0 "$mvm" run -d --rootfs image -m 96M --name image --restart always -- sh -c 'sleep 1; exit 1'
	mv image away
	until_so is image verdict refused
	expect 0 "$mvm" inspect image
	expect 0 "$mvm" stop image
	equal "$(of image state),$(of image verdict)" ended,refused
	mv away image
	expect 0 "$mvm" start image
	mv image away
	until_so is image verdict refused
	mv away image
	until_so is image state running
	expect 0 "$mvm" kill image
}

test_options() {
	restart_set_up
	refused '--detach' -- run --name x --restart always -- true
	refused '--name' -- detached --restart always -- true
	refused '--rm' -- detached --name x --rm --restart always -- true
	refused '--receipt' -- detached --name x --restart always --receipt fd:3 -- true
	refused 'on-failure' -- detached --name x --restart sometimes -- true
	refused '1s or more' -- run --idle-timeout 100ms -- true
	# A start that fails is its caller's to hear of, and not tried again.
	expect 127 detached --name x --restart always -- /nonexistent
	equal "$(of x state),$(of x restarts)" "ended,0"
	# The receipt is the last run's.
	expect 0 detached --name r --restart on-failure:1 --receipt r.json -- sh -c 'exit 8'
	expect 0 "$mvm" wait r
	equal "$(jq -r .status r.json)" 8
}

# Idle for so long, it is ended, attached or not; what runs, prints or is fed is not.
test_idle_timeout() {
	restart_set_up
	expect 124 run --idle-timeout 2s --receipt r.json -- sleep 1000
	equal "$(jq -r .verdict r.json),$(jq -r .word_of r.json)" idle-timeout,host
	equal "$err" "mvm: idle-timeout: the VM was idle for as long as --idle-timeout says"
	expect 9 run --idle-timeout 2s -- sh -c 'timeout 5 sh -c "while :; do :; done"; exit 9'
	expect 9 bash -c 'for i in 1 2 3 4 5 6; do echo $i; sleep 1; done | run -i --idle-timeout 3s -- sh -c "cat >/dev/null; exit 9"'
	expect 0 detached --name idle --restart on-failure --idle-timeout 3s -- sleep 1000
	expect 0 "$mvm" exec idle sleep 7
	expect 0 "$mvm" wait idle
	equal "$out" 124
	equal "$(of idle verdict),$(of idle restarts)" idle-timeout,0
}

# A guest that does not come so far as to run its command.
test_boot_timeout() {
	restart_set_up
	expect 124 run --boot-timeout 20ms --receipt r.json -- true
	equal "$(jq -r .verdict r.json)" boot-timeout
	expect 124 detached --name late --boot-timeout 20ms -- true
	case $err in *--boot-timeout*) ;; *) die "not told why: $err" ;; esac
	expect 0 run --boot-timeout 60s -- sleep 2
}
