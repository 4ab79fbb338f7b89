# libmvm as other programs use it: installed, found by pkg-config, linked both ways.

# The tree that `make install` makes, once per run of the tests, and what a program's build is told of it.
install_tree() {
	local variant
	tree=$(dirname "$PWD")/installed
	variant=$(basename "$(dirname "$mvm")")
	[ -e "$tree/usr/local/bin/mvm" ] || make -s -C "$top" VARIANT="$variant" B="build/$variant" DESTDIR="$tree" install >log 2>&1 ||
		die "make install: $(tail -5 log)"
	export PKG_CONFIG_PATH=$tree/usr/local/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$tree
	bin=$tree/usr/local/bin # beside mvm: where ../lib/mvm has the supervisor
}

test_installed_files() {
	install_tree
	equal "$(cd "$tree/usr/local" && find include lib -type f -o -type l | grep -v lib/mvm/ | sort | xargs)" \
		"include/mvm/mvm.h lib/libmvm.a lib/libmvm.so lib/libmvm.so.0 lib/pkgconfig/libmvm.pc"
	equal "$(pkg-config --modversion libmvm)" "$("$bin/mvm" version | sed -n 's/^mvm //p')"
	[ -f "$tree/usr/local/share/man/man3/libmvm.3" ] || die "no manual page"
}

# runs PROGRAM: it runs a command in a VM
runs() {
	expect 0 "$1" "$small/small.ext4" echo hello
	equal "$out" $'hello\nverdict: exited, status 0'
	expect 7 "$1" "$small/small.ext4" sh -c 'echo out; echo err >&2; exit 7'
	case $out in *err*"verdict: exited, status 7") ;; *) die "wrong output: $out" ;; esac
	expect 125 "$1" /nonexistent.img true
	case $out in *"verdict: refused, status 125") ;; *) die "wrong verdict: $out" ;; esac
}

test_shared() {
	install_tree
	# shellcheck disable=SC2046 # options, one word each
	cc -Wall -Werror -o "$bin/shared" "$top/tests/example/run.c" $(pkg-config --cflags --libs libmvm) || die "it does not build"
	readelf -d "$bin/shared" | grep -q 'NEEDED.*libmvm.so.0' || die "not linked with the shared library"
	readelf -d "$bin/shared" | grep -qE 'NEEDED.*(json|seccomp)' && die "linked with what is the library's own affair"
	export LD_LIBRARY_PATH=$tree/usr/local/lib
	runs "$bin/shared"
}

test_static() {
	install_tree
	# shellcheck disable=SC2046 # options, one word each
	cc -Wall -static -o "$bin/static" "$top/tests/example/run.c" $(pkg-config --static --cflags --libs libmvm) 2>log ||
		die "it does not build: $(cat log)"
	readelf -d "$bin/static" | grep -q NEEDED && die "not linked statically"
	runs "$bin/static"
}

# Eight threads at once that run commands in a VM, copy and attach, under ThreadSanitizer, which fails the program for what it finds.
test_threads() {
	tidy_up
	[ -x "$top/build/tsan/threads" ] || die "make VARIANT=tsan build/tsan/threads"
	detached --name box -- sh -c 'while :; do echo tick; sleep 0.3; done' >/dev/null
	limit=200 expect 0 env TSAN_OPTIONS="suppressions=$top/tests/tsan.supp atexit_sleep_ms=0 die_after_fork=0" "$top/build/tsan/threads" box
	equal "$out$err" ""
}
