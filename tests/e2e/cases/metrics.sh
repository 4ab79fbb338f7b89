# Metrics: their format, that the numbers are those of the VMs, and who is served.

metrics_set_up() {
	trap 'kill $served 2>/dev/null; remove_all' EXIT
	served=$$.none
	command -v python3 >/dev/null || { echo "SKIP no python3 on this machine"; exit 0; }
}

# scrape: what the VMs do now, checked
scrape() {
	"$mvm" metrics >exposition || die "no metrics"
	"$top/tests/e2e/exposition.py" --flat <exposition >flat || die "not valid: $("$top/tests/e2e/exposition.py" <exposition 2>&1)"
}

# value NAME LABEL…: of the sample with these labels
value() {
	local lines name=$1
	shift
	lines=$(grep "^$name{" flat)
	for label; do
		lines=$(grep -F "$label" <<<"$lines")
	done
	equal "$(wc -l <<<"$lines")" 1
	echo "${lines##* }"
}

test_numbers() {
	metrics_set_up
	expect 0 detached --name one -c 2 -- sh -c 'echo out; while :; do sleep 0.1; done'
	local id=$out me='name="one"'
	until_so sh -c "'$mvm' logs one | grep -q out"
	expect 0 "$mvm" exec one -- sh -c 'dd if=/dev/vda of=/dev/null bs=64k count=16 iflag=direct 2>/dev/null || dd if=/dev/vda of=/dev/null bs=64k count=16'
	scrape
	equal "$(value mvm_vm_up "$me")" 1
	equal "$(value mvm_vm_state "$me" 'state="running"')" 1
	equal "$(value mvm_vm_vcpus "$me")" 2
	equal "$(value mvm_vm_guest_memory_bytes "$me")" 100663296
	equal "$(value mvm_vm_execs_total "$me")" 1
	equal "$(value mvm_vm_execs_ended_total "$me")" 1
	[ "$(value mvm_vm_log_bytes_total "$me")" -ge 4 ] || die "log"
	[ "$(value mvm_vm_memory_bytes "$me")" -gt 1000000 ] || die "memory"
	[ "$(value mvm_vm_resident_bytes "$me")" -gt 1000000 ] || die "resident"
	[ "$(value mvm_vm_cpu_seconds_total "$me" 'mode="guest"' | tr -d .)" -gt 0 ] || die "guest"
	[ "$(value mvm_vm_exits_total "$me" 'reason="mmio_write"')" -gt 10 ] || die "exits"
	[ "$(value mvm_vm_queue_kicks_total "$me" 'device="vsock"')" -gt 0 ] || die "kicks"
	[ "$(value mvm_vm_vsock_bytes_total "$me" 'direction="from_guest"')" -gt 3 ] || die "vsock"
	# the disk: what was read, and that every request has its place in the histogram
	local reads
	reads=$(value mvm_vm_disk_bytes_total "$me" 'op="read"')
	[ "$reads" -ge 1048576 ] || die "read $reads"
	equal "$(value mvm_vm_disk_latency_seconds_count "id=\"$id\"")" \
		"$(grep '^mvm_vm_disk_requests_total{' flat | grep -F "$me" | awk '{ n += $NF } END { print n }')"
	# they grow, and go with the VM
	expect 0 "$mvm" exec one -- dd if=/dev/vda of=/dev/null bs=64k count=1 skip=40
	"$mvm" pause one
	scrape
	equal "$(value mvm_vm_execs_total "$me")" 2
	equal "$(value mvm_vm_state "$me" 'state="paused"')" 1
	equal "$(value mvm_vms 'state="paused"')" 1
	"$mvm" rm -f one
	scrape
	! grep -q "$me" flat || die "of a VM that is gone"
}

# A supervisor that does not answer costs a second, and is told as such.
test_supervisor_stopped() {
	metrics_set_up
	expect 0 detached --name deaf -- sleep 1000
	local supervisor
	supervisor=$("$mvm" ps --format json | jq -r '.[] | select(.name == "deaf") | .supervisor')
	kill -STOP "$supervisor"
	scrape
	kill -CONT "$supervisor"
	equal "$(value mvm_vm_up 'name="deaf"')" 0
	! grep '^mvm_vm_vcpus' flat | grep -q deaf || die "numbers of one that did not answer"
	scrape
	equal "$(value mvm_vm_up 'name="deaf"')" 1
}

test_served() {
	metrics_set_up
	command -v curl >/dev/null || die "no curl: tools/setup installs it"
	"$mvm" metrics --listen "unix:$PWD/socket" 2>served.err &
	served=$!
	until_so [ -S socket ]
	equal "$(stat -c %a socket)" 600
	curl -sS --unix-socket socket -D headers http://x/metrics >exposition || die "$(cat served.err)"
	"$top/tests/e2e/exposition.py" <exposition || die "not valid"
	grep -qi 'content-type: text/plain; version=0.0.4' headers || die "$(cat headers)"
	equal "$(curl -sS -o /dev/null -w '%{http_code}' --unix-socket socket http://x/)" 404
	equal "$(curl -sS -o /dev/null -w '%{http_code}' --unix-socket socket http://x/metrics/../etc/passwd --path-as-is)" 404
	equal "$(curl -sS -o /dev/null -w '%{http_code}' --unix-socket socket -d x=1 http://x/metrics)" 405
	equal "$(curl -sS -I -o /dev/null -w '%{http_code}' --unix-socket socket http://x/metrics)" 200
	[ "$(curl -sS -o /dev/null -w '%{http_code}' --unix-socket socket -H "X: $(head -c 20000 /dev/zero | tr '\0' x)" http://x/metrics)" -ge 400 ] ||
		die "headers of any size"
	# those that say nothing keep nobody out
	python3 -c '
import socket, time
silent = [socket.socket(socket.AF_UNIX) for _ in range(10)]
for s in silent:
    s.connect("socket")
print("connected", flush=True)
time.sleep(3)' >silent &
	until_so grep -q connected silent
	curl -sS --unix-socket socket http://x/metrics | "$top/tests/e2e/exposition.py" || die "not valid beside others"
	# two on one path
	refused socket use -- "$mvm" metrics --listen "unix:$PWD/socket"
	kill -TERM $served
	wait $served || die "it ended with $?: $(cat served.err)"
	[ ! -e socket ] || die "the socket is left"
	# a crash's is taken over
	python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
	"$mvm" metrics --listen "unix:$PWD/socket" &
	served=$!
	until_so curl -sS -o /dev/null --unix-socket socket http://x/metrics
	kill -KILL $served
	wait $served 2>/dev/null
	# the loopback, and nothing else
	local port
	port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
	"$mvm" metrics --listen "127.0.0.1:$port" &
	served=$!
	until_so curl -sS -o /dev/null "http://127.0.0.1:$port/metrics"
	curl -sS "http://127.0.0.1:$port/metrics" | "$top/tests/e2e/exposition.py" || die "not valid by TCP"
	# by its own name alone: a page from elsewhere, in a browser here, points its name at this host
	python3 -c '
import socket, sys
port = sys.argv[1]
def status(host):
    with socket.create_connection(("127.0.0.1", int(port))) as s:
        s.sendall(f"GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return s.makefile("rb").readline().split()[1].decode()
for host in "localhost", "LocalHost", "localhost:" + port, "127.0.0.1", "127.0.0.1:" + port, "[::1]", "[::1]:" + port, "127.0.0.1:":
    if status(host) != "200":
        print(host, "is refused")
for host in ("evil.example", "evil.example:" + port, "localhost.evil.example", "127.0.0.1.evil.example", "127.0.0.1:" + port + ".evil.example",
             "127.0.0.2", "[::1", "[::1]x", "::1", "127.1", "localhost:x", "x@localhost", " "):
    if status(host) != "403":
        print(host, "is let in")
' "$port" >hosts
	equal "$(cat hosts)" ""
	equal "$(curl -sS -0 -H Host: -o /dev/null -w '%{http_code}' "http://127.0.0.1:$port/metrics")" 403
	kill -TERM $served
	wait $served || die "it ended with $?"
	refused --listen others -- "$mvm" metrics --listen "0.0.0.0:$port"
	refused --listen others -- "$mvm" metrics --listen "192.0.2.1:$port"
	refused --listen others -- "$mvm" metrics --listen "localhost:$port"
	refused --listen port -- "$mvm" metrics --listen 127.0.0.1:0
	refused --listen port -- "$mvm" metrics --listen 127.0.0.1:65536
	refused --listen port -- "$mvm" metrics --listen 127.0.0.1:80x
	refused --listen absolute -- "$mvm" metrics --listen unix:socket
	refused metrics -- "$mvm" metrics one
}

# The manual names every family, and no other.
test_documented() {
	metrics_set_up
	diff <("$mvm" metrics | sed -n 's/^# TYPE \([a-z_]*\) .*/\1/p' | sort -u) \
		<(grep -oE '^\.It Cm mvm_[a-z_]*( , mvm_[a-z_]*)*' "$top/tools/man/mvm-metrics.1" | grep -oE 'mvm_[a-z_]*' | sort -u) ||
		die "the manual differs"
}
