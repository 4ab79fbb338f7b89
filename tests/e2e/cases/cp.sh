# mvm cp, both ways: what goes where, what is refused, and what a hostile guest can do to the caller's files: nothing.

cp_set_up() {
	tidy_up
	expect 0 detached --name box -m "${1:-96M}" -- sleep 1000
}

in_box() {
	"$mvm" exec box "$@"
}

test_cp_files_and_folders() { # with a VM
	cp_set_up
	mkdir -p tree/sub/empty
	echo data >file
	: >tree/nothing
	echo umlaut >'tree/ä ö 😀'
	printf 'x' >"tree/$(printf 'new\nline')"
	ln -s /etc/passwd tree/link
	echo deep >tree/sub/deep
	chmod 640 file
	chmod 711 tree/sub
	head -c 100000 /dev/urandom >tree/random
	touch -d @1234567 tree/random
	expect 0 "$mvm" cp file box:/tmp
	expect 0 "$mvm" cp file box:/tmp/other
	equal "$(in_box stat -c '%a %u %g' /tmp/file /tmp/other | sort -u)" "640 0 0"
	equal "$(in_box cat /tmp/file /tmp/other | sort -u)" data
	# A folder to a new name, then into one that is there; its contents.
	expect 0 "$mvm" cp tree box:/tmp/copy
	expect 0 "$mvm" cp tree box:/tmp/copy
	expect 0 "$mvm" cp tree/. box:/tmp/contents
	expect 0 "$mvm" exec box -- sh -c 'cd /tmp && diff -r copy/tree contents && rm -r copy/tree && diff -r copy contents'
	equal "$(in_box readlink /tmp/copy/link)" /etc/passwd
	equal "$(in_box stat -c '%a' /tmp/copy/sub)" 711
	equal "$(in_box stat -c '%Y' /tmp/copy/random)" 1234567
	equal "$out$err" ""
	# And back.
	expect 0 "$mvm" cp box:/tmp/copy back
	diff -r --no-dereference tree back || die "another tree came back"
	equal "$(stat -c %Y back/random)" 1234567
	expect 0 "$mvm" cp box:/tmp/copy back
	diff -r --no-dereference tree back/copy || die "another tree came back into a folder"
	mkdir into
	expect 0 "$mvm" cp box:/tmp/copy/. into
	diff -r --no-dereference tree into || die "other contents came back"
	expect 0 "$mvm" cp box:/tmp/file .
	expect 0 "$mvm" cp box:tmp/file named
	cmp file named || die "another file came back"
	equal "$(stat -c %U file)" "$(id -un)"
	(umask 077 && expect 0 "$mvm" cp box:/tmp/copy/sub private)
	equal "$(stat -c %a private)" 700
	# Over what is there: a file, and a link, which is followed where it is the destination itself.
	echo old >named
	ln -s named alias
	expect 0 "$mvm" cp box:/tmp/file alias
	equal "$(cat named) $(readlink alias)" "data named"
	# Links in a guest's path stay inside the guest.
	in_box ln -s /tmp/contents /abs
	in_box ln -s ../../../../../../tmp/new /up
	expect 0 "$mvm" cp file box:/abs/here
	expect 0 "$mvm" cp file box:/up
	equal "$(in_box cat /tmp/contents/here /tmp/new | sort -u)" data
	expect 0 "$mvm" cp box:/abs link
	equal "$(readlink link)" /tmp/contents
	expect 0 "$mvm" cp -L box:/abs folder
	equal "$(cat folder/here)" data
	expect 0 "$mvm" cp ./fi*e box:/a:b
	expect 0 "$mvm" cp box:/a:b ./c:d
	cmp file ./c:d || die "a name with a colon"
}

test_cp_streams() { # with a VM
	cp_set_up
	mkdir -p tree/sub
	echo data >tree/sub/file
	in_box mkdir /dir
	tar c -C tree . | "$mvm" cp - box:/dir || die "a stream in"
	equal "$(in_box cat /dir/sub/file)" data
	"$mvm" cp box:/dir - | tar x || die "a stream out"
	diff -r tree dir || die "another tree came back"
	equal "$("$mvm" cp box:/dir/sub/file - | tar t)" file
	# GNU tar's and pax's own forms, with links of both kinds and a sparse file.
	ln tree/sub/file tree/hard
	ln -s sub/file tree/soft
	truncate -s 3G tree/hole
	long=$(printf '%140s' '' | tr ' ' n)
	echo long >"tree/$long"
	for form in gnu posix; do
		in_box rm -rf /dir
		in_box mkdir /dir
		[ $form = posix ] || mv tree/hole .
		tar cS --format=$form tree | "$mvm" cp - box:/dir || die "$form"
		[ $form = posix ] || mv hole tree/
		equal "$(in_box cat /dir/tree/hard /dir/tree/soft "/dir/tree/$long" | tr '\n' ' ')" "data data long "
		equal "$(in_box stat -c %h /dir/tree/hard)" 2
	done
	equal "$(in_box stat -c %s /dir/tree/hole)" 3221225472
	refused 'old form' -- bash -c "tar cS tree | $mvm cp - box:/dir"
	refused 'no such folder' -- bash -c "tar c tree | $mvm cp - box:/nodir"
	refused 'no tar' -- bash -c "yes | $mvm cp - box:/dir"
	refused 'cut short' -- bash -c "tar c tree/sub | head -c 700 | $mvm cp - box:/dir"
	# What an untrusted stream may not.
	mkdir evil
	tar cPf evil/up --transform 's,.*,../../tmp/up,' tree/sub/file
	python3 - <<-'END' || die "no python"
		import tarfile
		t = tarfile.open("evil/link", "w")
		i = tarfile.TarInfo("l"); i.type = tarfile.SYMTYPE; i.linkname = "/etc"; t.addfile(i)
		i = tarfile.TarInfo("l/evil"); t.addfile(i); t.close()
	END
	refused upwards -- bash -c "$mvm cp - box:/dir <evil/up"
	refused link -- bash -c "$mvm cp - box:/dir <evil/link"
	expect 1 "$mvm" exec box -- ls /tmp/up /etc/evil
}

test_cp_large_and_sparse() { # with a VM
	cp_set_up 512M
	head -c 100000000 /dev/urandom >large
	expect 0 "$mvm" cp large box:/tmp/
	expect 0 "$mvm" cp box:/tmp/large back
	cmp large back || die "100 MB came back otherwise"
	expect 0 "$mvm" exec box -- rm /tmp/large
	# Ten gigabytes of nothing: neither memory nor time, nor room at either side.
	truncate -s 5G sparse
	printf middle >>sparse
	truncate -s 10G sparse
	expect 0 "$mvm" cp sparse box:/tmp/
	equal "$(in_box stat -c %s /tmp/sparse)" 10737418240
	[ "$(in_box stat -c %b /tmp/sparse)" -lt 10000 ] || die "its holes were filled inside"
	expect 0 "$mvm" cp box:/tmp/sparse sparse2
	equal "$(stat -c %s sparse2)" 10737418240
	[ "$(stat -c %b sparse2)" -lt 10000 ] || die "its holes were filled here"
	equal "$(dd if=sparse2 bs=1M skip=5120 count=1 status=none | tr -d '\0')" middle
}

# What the caller writes is the caller's: a path may go up, and inside ends at the workload's root.
test_cp_paths_that_go_up() { # with a VM
	cp_set_up
	echo data >file
	mkdir here
	in_box cat /etc/passwd >passwd
	expect 0 "$mvm" cp box:/tmp/../etc/passwd here/../got
	cmp got passwd || die "another file came"
	expect 0 "$mvm" cp box:../../../etc/passwd got2
	cmp got2 passwd || die "another file came from above the root"
	expect 0 "$mvm" cp here/../file box:/tmp/../tmp/one
	expect 0 "$mvm" cp file box:../../tmp/two
	equal "$(in_box cat /tmp/one /tmp/two | sort -u)" data
	# A source that ends in .. is what is in it, as of FOLDER/.
	in_box sh -c 'mkdir -p /t/sub && echo x >/t/x'
	expect 0 "$mvm" cp box:/t/sub/.. up
	equal "$(find up | sort | xargs)" "up up/sub up/x"
	equal "$(ls | xargs)" "file got got2 here passwd stderr stdout up"
}

test_cp_is_refused() { # with a VM
	cp_set_up
	echo data >file
	refused nosuch -- "$mvm" cp file nosuch:/tmp
	refused 'which VM' -- "$mvm" cp file file2
	refused 'two VMs' -- "$mvm" cp box:/a box:/b
	refused 'source and a destination' -- "$mvm" cp box:/a
	refused unknown -- "$mvm" cp --nosuch box:/a b
	refused path -- "$mvm" cp box: b
	refused path -- "$mvm" cp file box:
	refused nothere 'No such file' -- "$mvm" cp nothere box:/tmp
	refused nothere 'No such file' -- "$mvm" cp box:/nothere .
	refused 'make it first' -- "$mvm" cp file box:/no/such
	refused 'make it first' -- "$mvm" cp file box:/tmp/new/
	refused 'make it first' -- "$mvm" cp box:/etc/passwd no/such
	refused device -- "$mvm" cp box:/dev/null .
	refused device -- "$mvm" cp /dev/null box:/tmp
	refused kernel -- "$mvm" cp box:/proc/cpuinfo .
	mkdir busybox
	refused 'a folder is there' -- "$mvm" cp box:/bin/busybox .
	refused 'no folder' -- "$mvm" cp box:/bin file
	in_box mkfifo /tmp/pipe
	refused device -- "$mvm" cp file box:/tmp/pipe
	in_box sh -c 'mkdir /ro && mount -t tmpfs -o ro tmpfs /ro'
	refused 'read-only' -- "$mvm" cp file box:/ro
	equal "$(cat file)" data
	if [ "$(id -u)" != 0 ]; then
		echo secret >closed
		chmod 0 closed
		refused closed denied -- "$mvm" cp closed box:/tmp
		expect 1 "$mvm" exec box -- ls /tmp/closed
		refused denied -- "$mvm" cp box:/bin/busybox /usr
		refused permitted -- "$mvm" cp -a box:/bin/busybox mine
		[ ! -e mine ] || die "a file whose owner could not be set is there"
	fi
	# With what cannot be copied in it, a tree is copied, and that is told.
	mkdir tree
	mkfifo tree/pipe
	echo data >tree/file
	expect 0 "$mvm" cp tree box:/tmp
	[[ $err == *"1 left out"*tree/pipe* ]] || die "no word of the fifo: $err"
	equal "$(in_box ls /tmp/tree)" file
	expect 0 "$mvm" cp box:/dev dev
	[[ $err == *"left out"* ]] || die "no word of the devices: $err"
	[ -z "$(find dev ! -type d ! -type l ! -type f)" ] || die "a device was made"
}

test_cp_with_no_room() { # with a VM
	cp_set_up
	head -c 60000000 /dev/urandom >large
	refused 'no space' -- "$mvm" cp large box:/tmp/large
	expect 1 "$mvm" exec box -- ls /tmp/large
	equal "$(in_box ls -A /tmp)" ""
	[ "$(id -u)" = 0 ] || return 0
	mkdir small
	mount -t tmpfs -o size=2m tmpfs small || die "no tmpfs"
	echo kept >small/busy
	head -c 4000000 /dev/urandom >medium
	expect 0 "$mvm" cp medium box:/tmp/busy
	refused 'no space' -- "$mvm" cp box:/tmp/busy small/
	equal "$(ls -A small) $(cat small/busy)" "busy kept"
	mount -o remount,ro small
	expect 0 "$mvm" exec box -- sh -c 'echo x >/tmp/busy'
	refused small 'ead-only' -- "$mvm" cp box:/tmp/busy small/
	umount small
}

test_cp_owners_and_modes() { # with a VM
	cp_set_up
	in_box sh -c 'mkdir /t && echo x >/t/suid && chmod 6755 /t/suid && echo y >/t/mine && chown 1234:5678 /t/mine &&
		chmod 666 /t/mine'
	expect 0 "$mvm" cp box:/t plain
	equal "$(stat -c '%a %u' plain/suid plain/mine | tr '\n' ' ')" "755 $(id -u) 644 $(id -u) "
	chmod 6755 plain/suid
	expect 0 "$mvm" cp plain/suid box:/tmp/
	equal "$(in_box stat -c '%a %u' /tmp/suid)" "755 0"
	expect 0 "$mvm" cp -a plain/suid box:/tmp/kept
	equal "$(in_box stat -c '%a %u' /tmp/kept)" "6755 $(id -u)"
	[ "$(id -u)" = 0 ] || return 0
	expect 0 "$mvm" cp --archive box:/t archive
	equal "$(stat -c '%a %u %g' archive/suid archive/mine | tr '\n' ' ')" "6755 0 0 666 1234 5678 "
}

# A VM that is not there to answer, before and in the middle.
test_cp_and_the_end() { # with a VM
	cp_set_up
	echo data >file
	expect 0 "$mvm" pause box
	refused paused 'mvm resume' -- "$mvm" cp file box:/tmp
	expect 0 "$mvm" resume box
	expect 0 "$mvm" cp file box:/tmp
	mkfifo pipe
	"$mvm" cp - box:/tmp <pipe 2>said &
	local one=$!
	exec 7>pipe
	in_box true
	kill -KILL "$("$mvm" ps --format json | jq '.[0].vmm')"
	wait $one
	equal $? 125
	grep -q 'VM has ended' said || die "said: $(cat said)"
	equal "$(wc -l <said)" 1
	exec 7>&-
	refused box -- "$mvm" cp file box:/tmp
	# Somebody who leaves in the middle leaves nothing behind.
	expect 0 "$mvm" start box
	head -c 100000 /dev/urandom >large
	{
		tar c large | head -c 5000
		cat pipe
	} | "$mvm" cp - box:/tmp 2>said &
	exec 7>pipe
	expect 0 "$mvm" exec box -- true
	kill -KILL "$(pgrep -f 'cp - box:/tmp' | head -1)"
	exec 7>&-
	wait
	equal "$(in_box ls -A /tmp)" ""
	expect 0 "$mvm" stop -t 0 box
}

# Who works in the destination meanwhile swaps its folders for links, and gains nothing by it.
test_cp_in_a_race() { # with a VM
	cp_set_up
	mkdir -p tree/sub
	for i in $(seq 50); do echo marker >"tree/sub/marker$i"; done
	in_box mkdir -p /tmp/tree/sub /tmp/other /victim
	"$mvm" exec box -- sh -c 'cd /tmp/tree; while :; do mv sub ../other/ && ln -s /victim sub; rm sub; mv ../other/sub .; done' \
		2>/dev/null &
	local racer=$!
	for _ in $(seq "${RACES:-30}"); do
		"$mvm" cp tree box:/tmp >/dev/null 2>&1
	done
	kill $racer
	wait $racer
	equal "$(in_box ls /victim)" ""
}

# ---- a guest that is an attacker's ----

# shellcheck source=tests/e2e/fake.sh
. "$top/tests/e2e/fake.sh"

evil_set_up() {
	trap 'jobs -p | xargs -r kill -KILL' EXIT
	fake_set_up
}

# evil_start FILE: a guest that sends FILE for whatever is copied out of it; $id.
evil_start() {
	rm -rf dest outside said_up
	mkdir dest outside
	echo kept >outside/secret
	ln -s ../outside dest/way
	mkfifo said_up
	"$fakes/mvm" run -i --rootfs "$fakes/app.img" --cmdline fake=copies -- x <"$1" >said_up 2>vm.err &
	vm=$!
	read -r _ <said_up || die "the stand-in does not run: $(cat vm.err)"
	id=$("$fakes/mvm" ps -q | head -1)
}

# evil_end: nothing beside the destination has changed.
evil_end() {
	"$fakes/mvm" kill "$id" 2>/dev/null # it has no name: nothing is left to be told of it
	wait "$vm"
	equal "$(ls -A outside) $(cat outside/secret) $(stat -c %h outside/secret)" "secret kept 1"
	[ -z "$(find dest -name '.mvm-cp-*')" ] || die "something unfinished is left"
	[ -z "$(find dest ! -type d ! -type f ! -type l)" ] || die "a device was made"
	[ -z "$(find dest -perm /6000)" ] || die "a set-id bit was kept"
}

# evil FILE WORD…: the copy of /x to dest/ fails, and says WORD; without one it succeeds.
evil() {
	local file=$1 vm id
	shift
	evil_start "$file"
	if [ $# -gt 0 ]; then
		limit=30 refused "$@" -- "$fakes/mvm" cp "$id:/x" dest/
	else
		limit=30 expect 0 "$fakes/mvm" cp "$id:/x" dest/
	fi
	case $err in *[$'\001'-$'\010\033\200'-$'\237']*) die "$file: control bytes came through" ;; esac
	evil_end
}

test_cp_from_an_attacker() {
	evil_set_up
	python3 - <<-'END' || die "no python"
		import io, tarfile
		def make(name, *members):
		    with tarfile.open(name, "w", format=tarfile.PAX_FORMAT) as t:
		        for path, kind, link, mode, data in members:
		            i = tarfile.TarInfo(path); i.type = kind; i.linkname = link; i.mode = mode; i.size = len(data)
		            t.addfile(i, io.BytesIO(data))
		d, f, s, h = tarfile.DIRTYPE, tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
		top = ("x", d, "", 0o777, b"")
		make("other", ("y", f, "", 0o644, b"y"))
		make("up", top, ("x/../../outside/secret", f, "", 0o644, b"evil"))
		make("absolute", ("/etc/evil", f, "", 0o644, b"evil"))
		make("link", top, ("x/l", s, "../../outside", 0o777, b""), ("x/l/secret", f, "", 0o644, b"evil"))
		make("toplink", ("x", s, "../outside", 0o777, b""), ("x/secret", f, "", 0o644, b"evil"))
		make("way", ("way/secret", f, "", 0o644, b"evil"))
		make("hard", top, ("x/h", h, "../outside/secret", 0o644, b""))
		make("hardway", top, ("x/h", h, "way/secret", 0o644, b""))
		make("setid", top, ("x/suid", f, "", 0o6777, b"evil"), ("x/dir", d, "", 0o7777, b""))
		make("devices", top, ("x/null", tarfile.CHRTYPE, "", 0o666, b""), ("x/sda", tarfile.BLKTYPE, "", 0o666, b""),
		     ("x/fifo", tarfile.FIFOTYPE, "", 0o666, b""))
		make("control", top, ("x/\033]0;evil\007\n/../a", f, "", 0o644, b""))
		make("many", top, *[("x/d%d/f%d" % (i % 50, i), f, "", 0o644, b"") for i in range(5000)])
		make("deep", ("x/" + "d/" * 1500 + "f", f, "", 0o644, b""))
		make("file", ("x", f, "", 0o644, b"data" * 1000))
		whole = open("file", "rb").read()
		open("cut", "wb").write(whole[:2000])
		open("mute", "wb").write(b"!" + whole)
		open("mutecut", "wb").write(b"!" + whole[:2000])
		open("none", "wb").write(b"")
		open("garbage", "wb").write(b"garbage" * 1000)
		i = tarfile.TarInfo("x"); i.size = 8 ** 11 - 1
		open("liar", "wb").write(i.tobuf() + b"data" * 1000)
	END
	evil other 'not below'
	evil up upwards
	evil absolute 'not below'
	evil link link
	evil toplink link
	evil way 'not below'
	evil hard 'hard link'
	evil hardway 'hard link'
	evil control upwards
	evil deep deep
	evil cut 'cut short'
	evil liar 'cut short'
	[ ! -e dest/x ] || die "a file that is not whole has its name"
	evil none 'cut short'
	evil mute 'does not end the copy' # … nor holds the caller up
	evil mutecut 'cut short'
	evil garbage 'no tar'
	evil setid
	equal "$(stat -c %a dest/x/suid)" 755
	evil devices
	[[ $err == *"3 left out"* ]] || die "no word of the devices: $err"
	evil many
	equal "$(find dest/x -type f | wc -l)" 5000
	evil file
	equal "$(wc -c <dest/x)" 4000
}

# One that never ends: no memory is taken for it, and who leaves leaves nothing unfinished.
test_cp_from_an_endless_guest() {
	local vm id one kept
	evil_set_up
	python3 - <<-'END' || die "no python"
		import tarfile
		i = tarfile.TarInfo("x")
		open("endless", "wb").write(b"+" + i.tobuf() * 1000)
		i.size = 8 ** 11 - 1
		open("large", "wb").write(b"+" + i.tobuf() + b"x" * 100000)
	END
	for kept in endless large; do
		evil_start $kept
		(ulimit -v 200000 && exec "$fakes/mvm" cp "$id:/x" dest/) &
		one=$!
		for _ in $(seq 200); do
			[ $kept = endless ] && [ -e dest/x ] && break
			grep -q 'write_bytes: [1-9]\|wchar: [0-9]\{7\}' "/proc/$one/io" && [ $kept = large ] && break
			sleep 0.05
		done
		kill -0 $one || die "$kept: it ended"
		kill -TERM $one
		wait $one
		equal $? 143
		[ $kept = endless ] || [ ! -e dest/x ] || die "a file that is not whole has its name"
		evil_end
	done
}
