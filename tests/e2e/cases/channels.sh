# What a VM may dial on its host (--allow-port), and what it may not.

# Echo servers on echo.sock and on a TCP port of the loopback, told in $port: each answers when it has read to the end.
echo_servers() {
	cat >server.py <<-'PY'
		import os, socket, threading
		def serve(s):
		    while True:
		        c, _ = s.accept()
		        threading.Thread(target=echo, args=(c,), daemon=True).start()
		def echo(c):
		    got = b""
		    while data := c.recv(65536):
		        got += data
		    c.sendall(b"<" + got + b">")
		    c.close()
		u = socket.socket(socket.AF_UNIX); u.bind("echo.sock"); u.listen(16)
		t = socket.create_server(("127.0.0.1", 0))
		threading.Thread(target=serve, args=(u,), daemon=True).start()
		open("port.new", "w").write(str(t.getsockname()[1]))
		os.rename("port.new", "port")
		serve(t)
	PY
	python3 server.py &
	server=$!
	trap 'kill $server' EXIT
	for _ in $(seq 500); do
		[ ! -s port ] || break
		sleep 0.02
	done
	port=$(cat port)
}

# The guest's side: dials each port of its arguments, sends, closes that half, prints what comes back.
dialler='
import socket, sys
for port in map(int, sys.argv[1:]):
    s = socket.socket(socket.AF_VSOCK)
    try:
        s.connect((2, port))
        s.sendall(b"x" * 100000 + str(port).encode())
        s.shutdown(socket.SHUT_WR)
        got = b""
        while data := s.recv(65536):
            got += data
        print(len(got), got[-4:].decode())
    except OSError as e:
        print(e.strerror)
    s.close()
'

test_channels() {
	command -v python3 >/dev/null || { echo "SKIP no python3 on this machine"; return; }
	echo_servers
	expect 0 debian --allow-port 500=unix:echo.sock --allow-port "501=tcp:127.0.0.1:$port" \
		--allow-port "502=tcp:localhost:$port" --receipt r.json -- python3 -c "$dialler" 500 501 502 500
	equal "$(echo "$out" | tr '\n' ' ')" "100005 500> 100005 501> 100005 502> 100005 500> "
	equal "$err" ""
	equal "$(jq -c '.channels.allowed | map([.port, .opened, .failed])' r.json)" '[[500,2,0],[501,1,0],[502,1,0]]'
	equal "$(jq .channels.refused r.json)" 0
}

test_unnamed_ports_are_refused() {
	expect 0 debian --log-level info --allow-port 500=unix:nowhere.sock --receipt r.json -- \
		python3 -c "$dialler" 77 77 500 77 1073741824
	equal "$(echo "$out" | sort | uniq -c | tr -s ' \n' ' ')" " 5 Connection reset by peer "
	equal "$(grep -c 'dialled host port 77,' stderr)" 1
	grep -q 'were refused: 77 (3), 1073741824 (1)' stderr || die "no count of the refused ones: $err"
	grep -q 'port 500: unix:.*/nowhere.sock: No such file' stderr || die "no word of the failed one: $err"
	equal "$(jq -c '.channels | [.refused, .allowed[0].failed]' r.json)" '[4,1]'
}

# Listens, takes one connection, and never reads.
deaf='
import os, socket, time
s = socket.socket(socket.AF_UNIX)
s.bind("deaf.new")
s.listen()
os.rename("deaf.new", "deaf.sock")
kept = s.accept()
time.sleep(1000)
'
# Sends until nothing more is taken.
flooder='
import os, socket
s = socket.socket(socket.AF_VSOCK)
s.connect((2, 500))
s.settimeout(2)
try:
    while True:
        s.send(b"x" * 65536)
except TimeoutError:
    os._exit(3)
'

# A channel's other end that never reads keeps no VM that is over.
test_unread_channel() { # for the long run
	command -v python3 >/dev/null || { echo "SKIP no python3 on this machine"; return; }
	python3 -c "$deaf" &
	trap "kill $!" EXIT
	for _ in $(seq 500); do
		[ ! -S deaf.sock ] || break
		sleep 0.02
	done
	expect 3 debian --allow-port 500=unix:deaf.sock --receipt r.json -- python3 -c "$flooder"
	grep -Eq '[0-9]{5,} bytes for --allow-port' stderr || die "no word of the lost bytes: $err"
	equal "$(jq -r .verdict r.json)" exited
}

test_refused_options() {
	refused allow-port "mvm's own" -- run --allow-port 1=unix:/x -- true
	refused allow-port twice -- run --allow-port 5=unix:/x --allow-port 5=unix:/y -- true
	refused allow-port resolved no-such-host.invalid -- run --allow-port 5=tcp:no-such-host.invalid:80 -- true
}
