# The main job in a few seconds.
test_answer() {
	expect 0 debian -- python3 -c 'print(6*7)'
	equal "$out" 42
	equal "$err" ""
}

test_exit_status() {
	expect 7 run -- sh -c 'exit 7'
}

test_streams_apart() {
	expect 0 run -- sh -c 'echo out; echo err >&2'
	equal "$out" out
	equal "$err" err
}
