# The README's "A service's day" and "A service that faces the internet", as written there. TOUR_IMAGE: another image with redis than Debian's.

# commands NAME LEAST: of that block. Which mvm is this test's affair, and what copies is left out of an mvm that cannot (yet).
commands() {
	awk -v name="$1" '$0 == "```sh " name { on = 1; next } /^```$/ { on = 0 } on' "$top/README.md" |
		grep -v '^PATH=' |
		sed "s|build/images/debian.img|${TOUR_IMAGE:-$img}|; s|README.md|$top/README.md|" >tour
	"$mvm" cp --help >help 2>&1 || sed -i '/notes/d' tour
	[ "$(wc -l <tour)" -ge "$2" ] || die "the README's commands were not found: $(cat tour)"
}

test_service_of_the_readme() {
	local before
	trap '"$mvm" rm -f cache >/dev/null 2>&1' EXIT
	expect 0 run -- true # the first makes the folders that stay
	commands service 12
	before=$("$top/tests/e2e/host_state")
	PATH=$(dirname "$mvm"):$PATH expect 0 bash -ec "$(cat tour)"
	for word in PONG OK 42 'Ready to accept connections' redis-server 'User requested shutdown' ended; do
		[[ $out == *"$word"* ]] || die "'$word' is missing: $out; $err"
	done
	grep -qx 42 stdout || die "no answer: $out"
	[ "$(grep -c README tour)" -eq 0 ] || [[ $out == *"$(wc -c <"$top/README.md") /tmp/notes"* ]] || die "not copied: $out"
	equal "$("$mvm" ps -aq)" ""
	equal "$("$top/tests/e2e/host_state")" "$before"
}

test_web_of_the_readme() {
	command -v curl >/dev/null || { echo "SKIP no curl on this machine"; return; }
	trap '"$mvm" rm -f web >/dev/null 2>&1' EXIT
	commands web 8
	PATH=$(dirname "$mvm"):$PATH expect 0 bash -ec "$(cat tour)"
	for word in '<html' PORTS '127.0.0.1:8080->80/tcp' CLIENTS; do
		[[ $out == *"$word"* ]] || die "'$word' is missing: $out; $err"
	done
	equal "$("$mvm" ps -aq)" ""
}
