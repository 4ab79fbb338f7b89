/* Trees as tar streams and back; and streams of an attacker's, of which nothing may come to lie outside of the destination. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file system without files that have no name: the other way is to do the same. */
static bool no_tmpfile;

static int test_openat(int dir, const char *name, int flags, ...)
{
	va_list ap;
	mode_t mode = 0;

	if ((flags & O_TMPFILE) == O_TMPFILE && no_tmpfile) {
		errno = EOPNOTSUPP;
		return -1;
	}
	va_start(ap, flags);
	if (flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY)))
		mode = va_arg(ap, mode_t);
	va_end(ap);
	return openat(dir, name, flags, mode);
}

#define openat test_openat
#include "place.c" // NOLINT(bugprone-suspicious-include)
#undef openat

#include "unpack.h"

#include <cmocka.h> /* behind what calls fail(), which is a macro of its */

static char home[] = "/tmp/test_unpack.XXXXXX";

/* "secret" lies beside the destination "dest"; every test runs in a fresh folder that holds the two. */
static int fresh(void **state)
{
	(void)state;
	no_tmpfile = false;
	(void)umask(022);
	assert_int_equal(chdir("/"), 0);
	memcpy(strrchr(home, '.') + 1, "XXXXXX", 6);
	return !mkdtemp(home) || chdir(home) < 0 || mkdir("dest", 0755) < 0 || system("echo kept >secret") != 0;
}

static int forget(void **state)
{
	char command[100];

	(void)state;
	(void)snprintf(command, sizeof(command), "chmod -R u+rwx %s && rm -rf %s", home, home);
	return system(command);
}

static void shell(const char *command)
{
	if (system(command) != 0)
		fail_msg("%s", command);
}

/* ---- streams ---- */

static int stream = -1;

static void begin_stream(void)
{
	stream = open("stream", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(stream >= 0);
}

static void put_bytes(const void *p, size_t len)
{
	static const char zero[TAR_BLOCK];

	assert_int_equal(write(stream, p, len), len);
	assert_int_equal(write(stream, zero, -len % TAR_BLOCK), -len % TAR_BLOCK);
}

/* A header as an attacker would write it: nothing is checked. */
static void put_header(char type, const char *name, const char *link, unsigned mode, uint64_t size)
{
	struct tar_header h = { .type = type, .magic = "ustar", .version = "00" };
	unsigned sum = 0;

	memcpy(h.name, name, strnlen(name, sizeof(h.name)));
	memcpy(h.link, link, strnlen(link, sizeof(h.link)));
	(void)snprintf(h.mode, sizeof(h.mode), "%07o", mode);
	(void)snprintf(h.size, sizeof(h.size), "%011llo", (unsigned long long)size & 077777777777ULL);
	memset(h.checksum, ' ', sizeof(h.checksum));
	for (size_t i = 0; i < sizeof(h); i++)
		sum += ((unsigned char *)&h)[i];
	(void)snprintf(h.checksum, sizeof(h.checksum), "%06o", sum);
	put_bytes(&h, sizeof(h));
}

static void put_file(const char *name, const char *content)
{
	put_header('0', name, "", 0644, strlen(content));
	put_bytes(content, strlen(content));
}

static void put_pax(const char *records)
{
	put_header('x', "pax", "", 0644, strlen(records));
	put_bytes(records, strlen(records));
}

static void end_stream(void)
{
	static const char zero[2 * TAR_BLOCK];

	put_bytes(zero, sizeof(zero));
}

static struct pack_note note;
static struct failure why;

static int take(const char *dest, const char *top, bool archive, bool hard_links)
{
	const struct unpack_options options = { dest, top, archive, hard_links };
	int r;

	assert_int_equal(lseek(stream, 0, SEEK_SET), 0);
	r = unpack(&options, stream, &note, &why);
	(void)close(stream);
	return r;
}

/* Nothing beside the destination has changed, and nothing unfinished lies in it. */
static void nothing_outside(void)
{
	shell("test \"$(cat secret)\" = kept && test \"$(stat -c '%h %a' secret)\" = '1 644'");
	shell("test \"$(ls -A | tr '\\n' ' ')\" = 'dest secret stream '");
	shell("test -z \"$(find . -name '.mvm-cp-*')\"");
}

/* ---- where a name goes ---- */

static const struct plan_case {
	const char *path, *top, *as;
	int r;
	const char *want; /* the parts, each with a slash before it */
} plan_cases[] = {
	{ "x/a", "x", NULL, 0, "/x/a" },
	{ "x/a", "x", "y", 0, "/y/a" },
	{ "x", "x", "y", 0, "/y" },
	{ "./x//a/./b/", "x", NULL, 0, "/x/a/b" },
	{ "/etc/passwd", NULL, NULL, 0, "/etc/passwd" },
	{ "/etc/passwd", "x", NULL, -EPERM, "" },
	{ "./", ".", NULL, 0, "" },
	{ "./", ".", "new", 0, "/new" },
	{ "./a", ".", "new", 0, "/new/a" },
	{ "a", ".", NULL, 0, "/a" },
	{ "..", NULL, NULL, -EPERM, "" },
	{ "../x", "x", NULL, -EPERM, "" },
	{ "x/..", "x", NULL, -EPERM, "" },
	{ "x/../x/a", "x", NULL, -EPERM, "" },
	{ "x/a/..", NULL, NULL, -EPERM, "" },
	{ "y", "x", NULL, -EPERM, "" },
	{ "xy", "x", NULL, -EPERM, "" },
	{ ".", "x", NULL, -EPERM, "" },
	{ "///", "x", "y", -EPERM, "" },
	{ "...", NULL, NULL, 0, "/..." },
	{ "x/..a", "x", NULL, 0, "/x/..a" },
};

static void test_plan(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(plan_cases) / sizeof(plan_cases[0]); i++) {
		const struct plan_case *c = &plan_cases[i];
		const struct unpack_rule rule = { c->top, c->as };
		char path[64], got[64] = "";
		struct unpack_plan plan;
		int r;

		(void)snprintf(path, sizeof(path), "%s", c->path);
		r = unpack_plan(path, &rule, &plan, &why);
		for (unsigned n = 0; r == 0 && n < plan.n; n++)
			(void)snprintf(got + strlen(got), sizeof(got) - strlen(got), "/%s", plan.part[n]);
		if (r != c->r || strcmp(got, c->want) != 0)
			fail_msg("%s: gave %d %s", c->path, r, got);
	}
}

static void test_plan_is_bounded(void **state)
{
	const struct unpack_rule any = { NULL, NULL };
	char path[TAR_PATH_MAX];
	struct unpack_plan plan;

	(void)state;
	memset(path, 'n', NAME_MAX + 1);
	path[NAME_MAX + 1] = 0;
	assert_int_equal(unpack_plan(path, &any, &plan, &why), -ENAMETOOLONG);
	for (size_t i = 0; i < 2 * (UNPACK_DEPTH_MAX + 1); i += 2)
		memcpy(path + i, "a/", 3);
	assert_int_equal(unpack_plan(path, &any, &plan, &why), -ELOOP);
}

/* ---- an attacker's streams ---- */

struct attack_member {
	char type;
	const char *name, *link;
};

static const struct attack {
	const char *what;
	const char *top;
	bool hard_links;
	struct attack_member members[4];
	int r;
} attacks[] = {
	{ "upwards", NULL, true, { { '0', "../secret", "" } }, -EPERM },
	{ "upwards, inside", "x", true, { { '5', "x/", "" }, { '0', "x/../../secret", "" } }, -EPERM },
	{ "from the root", "x", true, { { '0', "/tmp/x", "" } }, -EPERM },
	{ "another name", "x", true, { { '5', "x/", "" }, { '0', "y", "" } }, -EPERM },
	{ "the folder itself", "x", true, { { '5', "./", "" } }, -EPERM },
	{ "through a link",
	  "x",
	  true,
	  { { '5', "x/", "" }, { '2', "x/l", "../.." }, { '0', "x/l/secret", "" } },
	  -ENOTDIR },
	{ "a folder through a link",
	  "x",
	  true,
	  { { '5', "x/", "" }, { '2', "x/l", "../.." }, { '5', "x/l/", "" }, { '0', "x/l/secret", "" } },
	  -ENOTDIR },
	{ "the top as a link", "x", true, { { '2', "x", ".." }, { '0', "x/secret", "" } }, -ENOTDIR },
	{ "a link to a file, then the file", "x", true, { { '2', "x", "../secret" }, { '0', "x", "" } }, 0 },
	{ "a hard link upwards", "x", true, { { '5', "x/", "" }, { '1', "x/h", "../secret" } }, -EPERM },
	{ "a hard link from the root", "x", true, { { '5', "x/", "" }, { '1', "x/h", "/etc/passwd" } }, -EPERM },
	{ "a hard link through a link",
	  "x",
	  true,
	  { { '5', "x/", "" }, { '2', "x/l", "../.." }, { '1', "x/h", "x/l/secret" } },
	  -ENOTDIR },
	{ "a hard link to a folder",
	  "x",
	  true,
	  { { '5', "x/", "" }, { '5', "x/d/", "" }, { '1', "x/h", "x/d" } },
	  -EINVAL },
	{ "a hard link where none is taken", "x", false, { { '0', "x", "" }, { '1', "x", "x" } }, -EPERM },
	{ "a device",
	  "x",
	  true,
	  { { '5', "x/", "" }, { '3', "x/null", "" }, { '4', "x/sda", "" }, { '6', "x/p", "" } },
	  0 },
	{ "a folder over a file", "x", true, { { '0', "x", "" }, { '5', "x/", "" } }, -ENOTDIR },
	{ "a file over a folder", "x", true, { { '5', "x/", "" }, { '0', "x", "" } }, -EISDIR },
	{ "a file below a file", "x", true, { { '0', "x", "" }, { '0', "x/y", "" } }, -ENOTDIR },
	{ "an unknown type", "x", true, { { 'Z', "x", "" } }, -EBADMSG },
	{ "GNU's old sparse form", "x", true, { { 'S', "x", "" } }, -EBADMSG },
	{ "a link to nothing", "x", true, { { '2', "x", "" } }, -EBADMSG },
	{ "no name", NULL, true, { { '0', "", "" } }, -EBADMSG },
};

static void test_attacks(void **state)
{
	for (int way = 0; way < 2; way++)
		for (size_t i = 0; i < sizeof(attacks) / sizeof(attacks[0]); i++) {
			const struct attack *a = &attacks[i];
			int r;

			no_tmpfile = way;
			begin_stream();
			for (size_t m = 0; m < 4 && a->members[m].name; m++)
				put_header(a->members[m].type, a->members[m].name, a->members[m].link, 0755, 0);
			end_stream();
			r = take("dest", a->top, false, a->hard_links);
			if (r != a->r)
				fail_msg("%s: gave %d: %s", a->what, r, r < 0 ? why.text : "");
			nothing_outside();
			shell("find dest ! -type d ! -type f ! -type l | wc -l | grep -qx 0");
			assert_int_equal(forget(state), 0);
			assert_int_equal(fresh(state), 0);
		}
}

/* What is in the destination already is no way out of it either. */
static void test_links_that_are_there(void **state)
{
	(void)state;
	shell("mkdir other && ln -s ../other dest/x && rm -f stream");
	begin_stream();
	put_header('5', "x/", "", 0755, 0);
	put_file("x/f", "data");
	end_stream();
	assert_int_equal(take("dest", "x", false, false), -ENOTDIR);
	shell("test -z \"$(ls other)\"");
	/* A file takes a link's place; what the link leads to stays. */
	begin_stream();
	put_file("x", "data");
	end_stream();
	assert_int_equal(take("dest", "x", false, false), 0);
	shell("test -f dest/x -a ! -L dest/x && test -d other");
	shell("rm dest/x && ln -s ../secret dest/x");
	begin_stream();
	put_file("x", "data");
	end_stream();
	assert_int_equal(take("dest", "x", false, false), 0);
	shell("rmdir other");
	nothing_outside();
}

static void test_devices_are_not_replaced(void **state)
{
	(void)state;
	shell("mkfifo dest/x");
	begin_stream();
	put_file("x", "data");
	end_stream();
	assert_int_equal(take("dest", "x", false, false), -EEXIST);
	shell("test -p dest/x");
	begin_stream();
	put_file("x", "data");
	end_stream();
	assert_int_equal(take("dest/x", "x", false, false), -EEXIST);
	shell("test -p dest/x");
	nothing_outside();
}

/* Cut anywhere: what has its name is whole, the rest is not there. */
static void test_cut_streams(void **state)
{
	static char text[3000];

	(void)state;
	memset(text, 'a', sizeof(text) - 1);
	for (int way = 0; way < 2; way++)
		for (off_t cut = 0; cut < 5 * (off_t)TAR_BLOCK; cut += 100) {
			no_tmpfile = way;
			begin_stream();
			put_file("x", text);
			end_stream();
			assert_int_equal(ftruncate(stream, cut), 0);
			assert_int_equal(take("dest", "x", false, false), -ENODATA);
			shell("test -z \"$(ls -A dest)\"");
		}
	begin_stream();
	put_header('0', "x", "", 0644, 077777777777);
	put_bytes(text, sizeof(text) - 1);
	assert_int_equal(take("dest", "x", false, false), -ENODATA);
	shell("test -z \"$(ls -A dest)\"");
	/* What was there before stays until the new one is whole. */
	shell("echo old >dest/x");
	begin_stream();
	put_header('0', "x", "", 0644, 4000);
	put_bytes(text, sizeof(text) - 1);
	assert_int_equal(take("dest", "x", false, false), -ENODATA);
	shell("grep -qx old dest/x");
	nothing_outside();
}

/* "LENGTH key=value\n" behind what is there. */
static void add_record(char *records, const char *record)
{
	size_t len = strlen(record) + 5; /* of two digits */

	(void)sprintf(records + strlen(records), "%zu %s\n", len - 1, record);
}

#define SIZE_10 "GNU.sparse.realsize=10"

static const struct {
	const char *what, *record, *map;
	unsigned stored;
	const char *says;
} bad_maps[] = {
	{ "beyond the size", SIZE_10, "1\n5\n6\n", 518, "no sense" },
	{ "far beyond", SIZE_10, "1\n9223372036854775807\n9223372036854775807\n", 512, "no sense" },
	{ "overlapping", SIZE_10, "2\n0\n5\n4\n1\n", 518, "no sense" },
	{ "more than is stored", SIZE_10, "1\n0\n5\n", 514, "another size" },
	{ "less than is stored", SIZE_10, "1\n0\n1\n", 514, "another size" },
	{ "too many", SIZE_10, "99999999\n", 512, "too many" },
	{ "no number", SIZE_10, "one\n", 512, "malformed" },
	{ "negative", SIZE_10, "1\n-5\n1\n", 513, "malformed" },
	{ "a long number", SIZE_10, "0000000000000000000000000\n", 512, "malformed" },
	{ "no end", SIZE_10, "1", 1, "cut" },
	{ "another version", "GNU.sparse.minor=1", "0\n", 512, "form" },
	{ "another form", "GNU.sparse.numblocks=1", "0\n", 512, "form" },
	{ "a size that is none", "GNU.sparse.realsize=x", "0\n", 512, "malformed" },
};

static void test_sparse_maps(void **state)
{
	char good[200] = "";

	(void)state;
	for (size_t i = 0; i < sizeof(bad_maps) / sizeof(bad_maps[0]); i++) {
		char pax[200] = "", block[TAR_BLOCK] = "";
		int r;

		add_record(pax, "GNU.sparse.major=1");
		add_record(pax, "GNU.sparse.minor=0");
		add_record(pax, bad_maps[i].record);
		(void)snprintf(block, sizeof(block), "%s", bad_maps[i].map);
		begin_stream();
		put_pax(pax);
		put_header('0', "x", "", 0644, bad_maps[i].stored);
		put_bytes(block, bad_maps[i].stored < TAR_BLOCK ? bad_maps[i].stored : TAR_BLOCK);
		if (bad_maps[i].stored > TAR_BLOCK)
			put_bytes("0123456789", bad_maps[i].stored - TAR_BLOCK);
		end_stream();
		r = take("dest", "x", false, false);
		if (r != -EBADMSG || !strstr(why.text, bad_maps[i].says))
			fail_msg("%s: gave %d: %s", bad_maps[i].what, r, why.text);
		shell("test -z \"$(ls -A dest)\"");
	}
	begin_stream();
	add_record(good, "GNU.sparse.major=1");
	add_record(good, "GNU.sparse.minor=0");
	add_record(good, "GNU.sparse.realsize=100000");
	add_record(good, "GNU.sparse.name=x");
	put_pax(good);
	put_header('0', "GNUSparseFile.0/y", "", 0644, TAR_BLOCK + 3);
	put_bytes("2\n10\n3\n100000\n0\n", 17);
	put_bytes("abc", 3);
	end_stream();
	assert_int_equal(take("dest", "x", false, false), 0);
	shell("test \"$(stat -c %s dest/x)\" = 100000 && test \"$(tr -d '\\0' <dest/x)\" = abc");
}

static const struct {
	const char *records;
	int r;
} pax_cases[] = {
	{ "12 mtime=17\n", 0 },
	{ "10 path=x\n", 0 },
	{ "14 mtime=-1.5\n", 0 },
	{ "20 SCHILY.xattr.a=\x01\n", 0 },
	{ "11 path=../\n", -EBADMSG }, /* its length is wrong */
	{ "13 path=../y\n", -EPERM },
	{ "8 path=\n", -EBADMSG },
	{ "0 path=x\n", -EBADMSG },
	{ "99 path=x\n", -EBADMSG },
	{ "99999999999999999999 path=x\n", -EBADMSG },
	{ "path=x\n", -EBADMSG },
	{ "7 path\n", -EBADMSG },
	{ "11 size=-1\n", -EBADMSG },
	{ "29 size=99999999999999999999\n", -EBADMSG },
	{ "11 uid=0x1\n", -EBADMSG },
	{ "18 uid=4294967295\n", -EBADMSG },
};

static void test_extended_headers(void **state)
{
	static char large[2 << 20];

	(void)state;
	for (size_t i = 0; i < sizeof(pax_cases) / sizeof(pax_cases[0]); i++) {
		int r;

		begin_stream();
		put_pax(pax_cases[i].records);
		put_file("x", "data");
		end_stream();
		r = take("dest", "x", false, false);
		if (r != pax_cases[i].r)
			fail_msg("%s: gave %d: %s", pax_cases[i].records, r, why.text);
	}
	begin_stream();
	put_header('x', "pax", "", 0644, sizeof(large));
	put_bytes(large, sizeof(large));
	put_file("x", "data");
	end_stream();
	assert_int_equal(take("dest", "x", false, false), -EBADMSG);
	begin_stream();
	put_header('g', "pax", "", 0644, 11);
	put_bytes("11 size=10\n", 11);
	put_file("x", "data");
	end_stream();
	assert_int_equal(take("dest", "x", false, false), -EBADMSG);
	nothing_outside();
}

/* ---- modes and owners ---- */

static void test_modes(void **state)
{
	(void)state;
	begin_stream();
	put_header('5', "x/", "", 07777, 0);
	put_header('5', "x/closed/", "", 0500, 0);
	put_file("x/closed/f", "data");
	put_header('0', "x/suid", "", 06755, 0);
	put_header('0', "x/open", "", 0666, 0);
	put_header('0', "x/none", "", 0, 0);
	end_stream();
	assert_int_equal(take("dest", "x", false, false), 0);
	shell("cd dest/x && test \"$(stat -c %a . closed suid open none | tr '\\n' ' ')\" = '755 500 755 644 0 '");
	if (geteuid() != 0)
		return;
	begin_stream();
	put_header('5', "x/", "", 0750, 0);
	put_header('0', "x/suid", "", 06755, 0);
	put_header('2', "x/l", "suid", 0777, 0);
	end_stream();
	assert_int_equal(take("dest/new", "x", true, false), 0);
	shell("cd dest/new && test \"$(stat -c %a . suid | tr '\\n' ' ')\" = '750 6755 '");
}

/* ---- there and back ---- */

static void make_tree(void)
{
	shell("mkdir -p src/deep/er && cd src && : >empty && printf 1 >one && head -c 511 /dev/urandom >b511 &&"
	      " head -c 512 /dev/urandom >b512 && head -c 513 /dev/urandom >b513 && head -c 3000000 /dev/urandom "
	      ">large &&"
	      " ln -s /nowhere link && ln -s \"$(printf '%300s' | tr ' ' l)\" long_link && mkdir none &&"
	      " n=$(printf '%200s' | tr ' ' n) && mkdir $n && echo deep >$n/$n && echo \xc3\xbc "
	      ">'\xc3\xa4\xf0\x9f\x98\x80' &&"
	      " printf x >\"$(printf 'new\\nline')\" && printf y >./-dash && chmod 600 one && chmod 711 deep &&"
	      " touch -d @1234567 one && touch -d 1950-01-01 empty && touch -d @99999999999 b511 &&"
	      " truncate -s 100M holes && printf end >>holes && printf mid | dd of=holes bs=1 seek=50000000 "
	      "conv=notrunc"
	      " status=none && truncate -s 200M holes && truncate -s 10G hole");
}

static void same_trees(const char *a, const char *b)
{
	char command[400];

	(void)snprintf(command, sizeof(command),
		       "diff -r --no-dereference -x hole -x holes %s %s && list() { (cd $1 && find . -printf '%%P %%y "
		       "%%m %%l %%Ts"
		       " %%s\\n' | sed 's/ d \\(.*\\) [0-9]*$/ d \\1/' | LC_ALL=C sort); } && test \"$(list %s)\" = "
		       "\"$(list %s)\"",
		       a, b, a, b);
	shell(command);
	(void)snprintf(command, sizeof(command),
		       "test $(stat -c %%b %s/holes) -lt 1000 && test \"$(tr -d '\\0' <%s/holes)\" = midend &&"
		       " test $(stat -c %%b %s/hole) -lt 1000 && cmp %s/holes %s/holes",
		       b, b, b, a, b);
	shell(command);
}

static int give(const char *source, bool follow)
{
	int r;

	begin_stream();
	r = pack(source, follow, stream, &note, &why);
	return r;
}

static void test_there_and_back(void **state)
{
	(void)state;
	make_tree();
	assert_int_equal(give("src", false), 0);
	assert_int_equal(note.left_out, 0);
	assert_int_equal(take("dest", "src", false, false), 0);
	same_trees("src", "dest/src");
	no_tmpfile = true;
	assert_int_equal(give("src/.", false), 0);
	assert_int_equal(take("dest/new", ".", false, false), 0);
	same_trees("src", "dest/new");
	/* Once more, over what is there: folders keep their looks. */
	shell("chmod 700 dest/src && echo other >dest/src/one");
	assert_int_equal(give("src/", false), 0);
	assert_int_equal(take("dest/", "src", false, false), 0);
	shell("diff -r --no-dereference -x hole -x holes src dest/src && test $(stat -c %a dest/src) = 700");
	/* Others' tar reads ours, and ours theirs. */
	assert_int_equal(give("src", false), 0);
	(void)close(stream);
	shell("mkdir gnu && tar xf stream -C gnu");
	same_trees("src", "gnu/src");
	for (int form = 0; form < 2; form++) {
		shell(form ? "tar cSf stream --format=posix src" : "tar cf stream --exclude hole --exclude holes src");
		stream = open("stream", O_RDONLY | O_CLOEXEC);
		assert_int_equal(take(form ? "dest/posix" : "dest/gnu", "src", false, true), 0);
		shell(form ? "true"
			   : "cp --sparse=always src/hole src/holes dest/gnu; touch -r src/hole dest/gnu/hole;"
			     " touch -r src/holes dest/gnu/holes; touch -r src dest/gnu");
		same_trees("src", form ? "dest/posix" : "dest/gnu");
	}
}

/* The destination as cp(1) has it: name, what lies there, what comes of it. */
static void test_destinations(void **state)
{
	(void)state;
	shell("mkdir src && echo data >src/f && ln -s src link && ln -s ../secret dest/to_secret && ln -s new "
	      "dest/to_new");
	assert_int_equal(give("src/f", false), 0);
	assert_int_equal(take("dest/g", "f", false, false), 0);
	shell("grep -qx data dest/g");
	assert_int_equal(give("src/f", false), 0);
	assert_int_equal(take("dest", "f", false, false), 0);
	shell("grep -qx data dest/f");
	assert_int_equal(give("src/f", false), 0);
	assert_int_equal(take("dest/no/such", "f", false, false), -ENOENT);
	assert_int_equal(give("src/f", false), 0);
	assert_int_equal(take("dest/h/", "f", false, false), -ENOENT);
	assert_int_equal(give("src/f", false), 0);
	assert_int_equal(take("dest/f/", "f", false, false), -ENOENT);
	assert_int_equal(give("src/f", false), 0);
	assert_int_equal(take("", "f", false, false), -ENAMETOOLONG);
	/* A destination that is a link means what it leads to: that is the caller's own word. */
	assert_int_equal(give("src/f", false), 0);
	assert_int_equal(take("dest/to_new", "f", false, false), 0);
	shell("test -L dest/to_new && grep -qx data dest/new");
	assert_int_equal(give("src/f", false), 0);
	assert_int_equal(take("dest/to_secret", "f", false, false), 0);
	shell("test -L dest/to_secret && grep -qx data secret && echo kept >secret");
	/* Folders. */
	assert_int_equal(give("src", false), 0);
	assert_int_equal(take("dest/f", "src", false, false), -ENOTDIR);
	assert_int_equal(give("src", false), 0);
	assert_int_equal(take("dest/folder/", "src", false, false), 0);
	shell("grep -qx data dest/folder/f");
	assert_int_equal(give("src/.", false), 0);
	assert_int_equal(take("dest", ".", false, false), 0);
	assert_int_equal(give("src", false), 0);
	assert_int_equal(take("dest/none", NULL, false, false), -ENOENT);
	assert_int_equal(give("src", false), 0);
	assert_int_equal(take("dest/f", NULL, false, false), -ENOTDIR);
	/* A source that is a link. */
	assert_int_equal(give("link", false), 0);
	assert_int_equal(take("dest", "link", false, false), 0);
	shell("test \"$(readlink dest/link)\" = src && rm dest/link");
	assert_int_equal(give("link", true), 0);
	assert_int_equal(take("dest", "link", false, false), 0);
	shell("test -d dest/link -a ! -L dest/link && grep -qx data dest/link/f");
}

static void test_what_is_not_packed(void **state)
{
	(void)state;
	shell("mkdir src && mkfifo src/pipe && echo data >src/f");
	assert_int_equal(give("src", false), 0);
	assert_int_equal(note.left_out, 1);
	assert_string_equal(note.first, "src/pipe");
	(void)close(stream);
	assert_int_equal(give("src/pipe", false), -EINVAL);
	(void)close(stream);
	assert_int_equal(give("/dev/null", false), -EINVAL);
	(void)close(stream);
	assert_int_equal(give("/proc/self/status", false), -EINVAL);
	(void)close(stream);
	assert_int_equal(give("nothing", false), -ENOENT);
	(void)close(stream);
	if (geteuid() != 0) {
		shell("chmod 0 src/f");
		assert_int_equal(give("src", false), -EACCES);
		(void)close(stream);
		shell("chmod 600 src/f");
	}
	shell("d=src; for i in $(seq 405); do d=$d/d; done; mkdir -p $d");
	assert_int_equal(give("src", false), -ELOOP);
	(void)close(stream);
}

static const struct {
	const char *source, *top;
} tops[] = {
	{ "a", "a" },   { "/a/b", "b" }, { "a/b///", "b" }, { "/", "." },  { "", "." },
	{ "a/.", "." }, { "a/..", "." }, { "..", "." },     { "./", "." }, { "a/...", "..." },
};

static void test_tops(void **state)
{
	char top[NAME_MAX + 1], longest[NAME_MAX + 2];

	(void)state;
	for (size_t i = 0; i < sizeof(tops) / sizeof(tops[0]); i++) {
		assert_int_equal(pack_top(tops[i].source, top), 0);
		assert_string_equal(top, tops[i].top);
	}
	memset(longest, 'x', sizeof(longest) - 1);
	longest[NAME_MAX + 1] = 0;
	assert_int_equal(pack_top(longest, top), -ENAMETOOLONG);
}

#define FRESH(test) cmocka_unit_test_setup_teardown(test, fresh, forget)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plan),      cmocka_unit_test(test_plan_is_bounded),
		cmocka_unit_test(test_tops),      FRESH(test_attacks),
		FRESH(test_links_that_are_there), FRESH(test_devices_are_not_replaced),
		FRESH(test_cut_streams),          FRESH(test_sparse_maps),
		FRESH(test_extended_headers),     FRESH(test_modes),
		FRESH(test_there_and_back),       FRESH(test_destinations),
		FRESH(test_what_is_not_packed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
