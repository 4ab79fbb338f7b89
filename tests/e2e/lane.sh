# For the scripts that run rows in lanes (tests/e2e/lane): crash, faults. Sourced; they set $mvm, $top and $seconds.
# A row is a test: it begins with good=yes, each thing that is wrong calls `why`, and it ends with `told NAME`.

# shellcheck source=tests/e2e/looks.sh
. "$top/tests/e2e/looks.sh"

why() {
	echo "# $*" | tr '\n' ' '
	echo
	good="not ok"
}

told() {
	[ "$good" = yes ] && good=ok
	echo "$good - $*"
}

# await WHAT COMMAND…: it succeeds in time
await() {
	local what=$1 end=$((SECONDS + seconds)) looked=$EPOCHREALTIME
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || { why "never so: $what"; return 1; }
		between_looks "$looked"
		looked=$EPOCHREALTIME
	done
}

gone() {
	! kill -0 "$1"
}

no_process() {
	! pgrep '^(mvm|pasta|passt)' >/dev/null
}

# A folder to work in, and what the host looks like: $before. The first run makes the folders that stay.
enter_lane() {
	as=root
	[ "$(id -u)" = 0 ] || as="a user"
	cd "$(mktemp -d)" || exit 2
	truncate -s 1M disk
	"$mvm" run --rootfs "$image" -m 48M -- true
	before=$("$top/tests/e2e/host_state")
}

# What must hold after the end, whatever happened: nothing runs, `mvm ps` puts everything right, the host is as before.
# $1: yes, if a VM that has ended may be there, with the name box; it can be removed.
settle() {
	local left
	await "all processes ended" no_process || { why "left: $(pgrep -a '^(mvm|pasta|passt)')"; pkill -KILL '^(mvm|pasta|passt)'; }
	"$mvm" ps -a >ps 2>err.ps || why "mvm ps: $(cat err.ps)"
	case $1:$(<ps) in
	*COMMAND) ;;
	yes:*box*ended*) "$mvm" rm box 2>err.ps || why "mvm rm: $(cat err.ps)" ;;
	*) why "after mvm ps there is still a VM: $(<ps)"; "$mvm" ps -aq | xargs -r "$mvm" rm -f ;;
	esac
	left=$(diff <(echo "$before") <("$top/tests/e2e/host_state")) || why "not as before: $left"
	[ -z "$(find . -name '.mvm*')" ] || { why "left: $(ls -A)"; rm -f .mvm*; }
}

# run_lanes NAME COMMAND…: the rows of $work/lane.N.UID, each file in a lane of its own as that user: COMMAND with the rows
# as its stdin. Prints what they told; 0 when each row told that it went well.
run_lanes() {
	local name=$1 i file wanted lines
	shift
	for ((i = 0; i < lanes; i++)); do
		for file in "$work/lane.$i".*; do
			[ ! -f "$file" ] || "$top/tests/e2e/lane" "$name-${file##*/lane.}" "${file##*.}" "$@" <"$file"
		done 2>&1 | grep --line-buffered -v ': line [0-9]*: *[0-9]* Killed ' | tee "$work/out.$i" &
	done
	wait
	cat "$work"/out.* >"$work/all"
	wanted=$(cat "$work"/lane.* | wc -l)
	lines=$(grep -cE '^(not )?ok - ' "$work/all")
	[ "$wanted" -eq "$lines" ] || echo "not ok - $name: $lines of $wanted rows told their end"
	[ "$wanted" -gt 0 ] && [ "$wanted" -eq "$lines" ] && ! grep -q '^not ok' "$work/all"
}
