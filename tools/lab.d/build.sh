# shellcheck shell=bash
# shellcheck disable=SC2154 # lab_d and build are tools/lab's
#
# Sourced by tools/lab: makes what a lab boots from, once, in build/lab/.
#   build/lab/SERIES/tree/      the kernel package unpacked (nothing is installed)
#   build/lab/SERIES/vmlinux    its kernel, decompressed
#   build/lab/SERIES/initramfs  busybox, lab-guest, init and the modules
#   build/lab/SERIES/lab-host   the host's end
#   build/lab/SERIES/key        what the last three were made from

# kernel_fetch SERIES DIR: unpacks the newest Debian kernel of that series
kernel_fetch() {
	local meta package
	case $1 in
	6.1) meta=linux-image-amd64 ;;
	*) meta=linux-image-$1-amd64 ;;
	esac
	package=$(apt-cache depends "$meta" 2>/dev/null | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }')
	[ "$package" ] || die "apt knows no package $meta: run 'apt-get update', or choose another --kernel"
	case $package in
	*"-$1."* | *"-$1-"*) ;;
	*) die "$meta is $package here, not a $1 kernel" ;;
	esac
	say "fetching $package"
	(cd "$2" && apt-get download -qq "$package" 2>apt.log) || {
		cat "$2/apt.log" >&2
		die "could not download $package"
	}
	dpkg -x "$2/$package"_*.deb "$2/tree"
	rm -f "$2/$package"_*.deb "$2/apt.log"
}

# kernel_extract VMLINUZ OUT: the ELF kernel inside, so that the lab need not
# decompress it with an emulated CPU.  Linux boot protocol: setup_sects at 0x1f1,
# payload_offset and payload_length at 0x248 and 0x24c.
kernel_extract() {
	local sects offset length
	sects=$(od -An -tu1 -j$((0x1f1)) -N1 "$1" | tr -d ' ')
	offset=$(od -An -tu4 -j$((0x248)) -N4 "$1" | tr -d ' ')
	length=$(od -An -tu4 -j$((0x24c)) -N4 "$1" | tr -d ' ')
	# The last four bytes of the payload are its unpacked size, not compressed data.
	tail -c "+$(((sects + 1) * 512 + offset + 1))" "$1" | head -c $((length - 4)) >"$2.packed"
	case $(head -c 4 "$2.packed" | od -An -tx1 | tr -d ' ') in
	28b52ffd) zstd -qdc "$2.packed" ;;
	fd377a58) xz -dc "$2.packed" ;;
	1f8b*) gzip -dc "$2.packed" ;;
	*) die "$1: compressed in a way that is not known" ;;
	esac >"$2"
	rm -f "$2.packed"
}

# module_list TREE VERSION STAGE DIR: copies a stage's modules to DIR/modules and
# lists them in loading order in DIR/STAGE
module_list() {
	local name kind file
	while read -r name; do
		modprobe -d "$1" -S "$2" --show-depends "$name" || die "the kernel has no module $name"
	done <"$lab_d/$3" | while read -r kind file; do
		[ "$kind" = insmod ] || continue
		name=${file##*/}
		name=${name%.xz}
		[ -e "$4/modules/$name" ] && continue
		case $file in
		*.xz) xz -dc "$file" >"$4/modules/$name" ;;
		*) cp "$file" "$4/modules/$name" ;;
		esac
		# Drops the signature too: checking those of kvm and its like costs the
		# emulated CPU more than half a second.
		strip --strip-debug "$4/modules/$name"
		echo "/modules/$name"
	done >"$4/$3"
}

# initramfs_make TREE VERSION GUEST OUT
initramfs_make() {
	local root=$4.d applet
	rm -rf "$root"
	mkdir -p "$root"/{bin,dev,proc,sys,lower,rw,root,modules}
	cp "$(command -v busybox)" "$root/bin/busybox"
	for applet in sh mount mkdir ln cp mknod chmod chown grep sed cut cat uname printf sleep tr ip hostname switch_root rmdir; do
		ln -s busybox "$root/bin/$applet"
	done
	cp "$lab_d/init" "$lab_d/init-systemd" "$root/"
	cp "$3" "$root/lab-guest"
	chmod 755 "$root/init" "$root/lab-guest"
	module_list "$1" "$2" modules-root "$root"
	module_list "$1" "$2" modules-work "$root"
	(cd "$root" && find . | sort | cpio --quiet -o -H newc -R 0:0 --reproducible) >"$4"
	rm -rf "$root"
}

# lab_build SERIES: everything above, if it is not there already
lab_build() {
	local dir=$build/$1 key version made
	local cflags='-std=gnu11 -O2 -Wall -Wextra -pthread'
	key=$(cat "$lab_d"/{build.sh,init,init-systemd,modules-root,modules-work,frame.h,guest.c,host.c} | sha256sum)
	[ "$(cat "$dir/key" 2>/dev/null)" = "$key" ] && return

	for tool in busybox cpio modprobe depmod xz zstd strip "${CC:-cc}" dpkg apt-get; do
		command -v "$tool" >/dev/null || die "$tool is missing (packages: busybox-static cpio kmod xz-utils zstd gcc binutils)"
	done
	mkdir -p "$dir" || die "cannot write $dir"
	(
		flock 9
		# Another lab may have done it while we waited.
		[ "$(cat "$dir/key" 2>/dev/null)" = "$key" ] && exit
		if ! [ -e "$dir/vmlinux" ]; then
			rm -rf "$dir/tree"
			kernel_fetch "$1" "$dir"
			version=$(ls "$dir/tree/lib/modules")
			depmod -b "$dir/tree" "$version"
			kernel_extract "$dir/tree/boot/vmlinuz-$version" "$dir/vmlinux.new"
			mv "$dir/vmlinux.new" "$dir/vmlinux"
		fi
		version=$(ls "$dir/tree/lib/modules")
		say "building the lab's initramfs for $version"
		made=$(mktemp -d "$dir/make.XXXXXX")
		trap 'rm -rf "$made"' EXIT
		# shellcheck disable=SC2086
		"${CC:-cc}" $cflags -o "$made/lab-host" "$lab_d/host.c" &&
			"${CC:-cc}" $cflags -static -o "$made/lab-guest" "$lab_d/guest.c" ||
			die "the lab's helpers did not compile"
		initramfs_make "$dir/tree" "$version" "$made/lab-guest" "$made/initramfs"
		mv "$made/lab-host" "$made/initramfs" "$dir/"
		echo "$key" >"$dir/key"
	) 9>"$build/lock" || exit 125
}
