# A terminal: a real shell, a real editor, a real resize, driven through tmux.
tm() {
	tmux -L "mvm$$" -f tmux.conf "$@"
}

wait_for() { # wait_for TEXT: until the screen shows it
	for _ in $(seq 400); do
		tm capture-pane -p 2>/dev/null | grep -qF -- "$1" && return
		sleep 0.05
	done
	die "the screen never showed '$1': $(tm capture-pane -p)"
}

test_shell_editor_resize() {
	echo 'set -g status off' >tmux.conf # else a row of the terminal is tmux's own
	trap 'tm kill-server 2>/dev/null' EXIT
	tm new-session -d -x 100 -y 30 "TERM=xterm $mvm run -t -i --rootfs $img -m 256M -- /bin/bash --norc; echo status=\$?; sleep 60"
	wait_for '#'
	tm send-keys 'stty size' Enter
	wait_for '30 100'
	tm resize-window -x 120 -y 40
	tm send-keys 'clear; stty size' Enter
	wait_for '40 120'
	tm send-keys 'vi /tmp/file' Enter
	wait_for '~'
	tm send-keys 'ihello from vi' Escape ':wq' Enter
	tm send-keys 'clear; cat /tmp/file; tty' Enter
	wait_for 'hello from vi'
	wait_for '/dev/pts/'
	tm send-keys 'sleep 100' Enter
	tm send-keys C-c
	tm send-keys 'clear; echo still-$((40+2))' Enter
	wait_for 'still-42'
	tm send-keys 'exit 11' Enter
	wait_for 'status=11'
}
