/* Specs: every option's good and bad values, the JSON form, environments. */
#include <errno.h>
#include <json-c/json.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/spec.h"
#include "lib/text.h"

static struct mvm_spec *new_spec(void)
{
	struct mvm_spec *spec;

	assert_int_equal(mvm_spec_new(&spec), 0);
	return spec;
}

static void test_sizes(void **state)
{
	static const struct {
		const char *text;
		int r;
		uint64_t bytes;
	} cases[] = {
		{ "0", 0, 0 },
		{ "1", 0, 1 },
		{ "512b", 0, 512 },
		{ "3k", 0, 3072 },
		{ "256m", 0, 256ULL << 20 },
		{ "256M", 0, 256ULL << 20 },
		{ "5G", 0, 5ULL << 30 },
		{ "1t", -EINVAL, 0 },
		{ "", -EINVAL, 0 },
		{ "m", -EINVAL, 0 },
		{ "-5", -EINVAL, 0 },
		{ "+5", -EINVAL, 0 },
		{ " 5", -EINVAL, 0 },
		{ "5 m", -EINVAL, 0 },
		{ "1.5g", -EINVAL, 0 },
		{ "0x10", -EINVAL, 0 },
		{ "5mb", -EINVAL, 0 },
		{ "18446744073709551614", 0, UINT64_MAX - 1 },
		{ "18446744073709551616", -ERANGE, 0 },
		{ "999999999999999999999", -ERANGE, 0 },
		{ "17179869184g", -ERANGE, 0 },
		{ "99999999999999999999999999999999999", -EINVAL, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t bytes = 0;

		if (text_parse_size(cases[i].text, &bytes) != cases[i].r || bytes != cases[i].bytes)
			fail_msg("'%s' gave %llu", cases[i].text, (unsigned long long)bytes);
	}
}

static void test_durations(void **state)
{
	static const struct {
		const char *text;
		int r;
		uint64_t ns;
	} cases[] = {
		{ "2", 0, 2000000000 },       { "2s", 0, 2000000000 },     { "1.5", 0, 1500000000 },
		{ "0.25s", 0, 250000000 },    { "300ms", 0, 300000000 },   { "1m", 0, 60000000000 },
		{ "1.5h", 0, 5400000000000 }, { "1d", 0, 86400000000000 }, { "soon", -EINVAL, 0 },
		{ "", -EINVAL, 0 },           { ".5", -EINVAL, 0 },        { "1.", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 },         { "1y", -EINVAL, 0 },        { "99999999999999999", -ERANGE, 0 },
		{ "99999999d", -ERANGE, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t ns = 0;

		if (text_parse_duration(cases[i].text, &ns) != cases[i].r || ns != cases[i].ns)
			fail_msg("'%s' gave %llu", cases[i].text, (unsigned long long)ns);
	}
}

/* One option, one value, and what the error must say; NULL: it is accepted. */
static void test_values(void **state)
{
	static const struct {
		const char *name, *value, *says;
	} cases[] = {
		{ "rootfs", "app.img", NULL },
		{ "rootfs", "", "empty" },
		{ "rotfs", "x", "did you mean --rootfs" },
		{ "memroy", "1g", "did you mean --memory" },
		{ "xyz", "x", "mvm run --help" },
		{ "rootfs", NULL, "needs a value" },
		{ "memory", "64m", NULL },
		{ "memory", "0", "too little" },
		{ "memory", "1", "too little" },
		{ "memory", "33554431", "too little" },
		{ "memory", "32m", NULL },
		{ "memory", "64g", NULL },
		{ "memory", "65g", "too much" },
		{ "memory", "1t", "-m/--memory" },
		{ "memory", "abc", "not a size" },
		{ "memory", "999999999999999999999", "beyond any machine" },
		{ "vcpus", "1", NULL },
		{ "vcpus", "32", NULL },
		{ "vcpus", "0", "1 to 32" },
		{ "vcpus", "33", "1 to 32" },
		{ "vcpus", "two", "-c/--vcpus" },
		{ "env", "A=1", NULL },
		{ "env", "A=", NULL },
		{ "env", "A", "NAME=VALUE" },
		{ "env", "=1", "NAME=VALUE" },
		{ "env-file", "/no/such/file", "No such file" },
		{ "workdir", "/tmp", NULL },
		{ "workdir", "tmp", "absolute" },
		{ "user", "1:2", NULL },
		{ "user", "", "empty" },
		{ "hostname", "a-b.c", NULL },
		{ "hostname", "-a", "host name" },
		{ "hostname", "a b", "host name" },
		{ "hostname", "a\033[31m", "host name" },
		{ "timeout", "5s", NULL },
		{ "timeout", "soon", "not a time" },
		{ "timeout", "0", "not a time" },
		{ "log-level", "debug", NULL },
		{ "log-level", "warn", NULL },
		{ "log-level", "loud", "not a level" },
		{ "receipt", "r.json", NULL },
		{ "receipt", "fd:3", NULL },
		{ "receipt", "fd:1", "descriptor" },
		{ "receipt", "fd:x", "descriptor" },
		{ "receipt", "fd:", "descriptor" },
		{ "rw", NULL, NULL },
		{ "rw", "true", NULL },
		{ "rw", "yes", "true or false" },
		{ "disk", "a.img", NULL },
		{ "disk", "", "no file" },
		{ "disk", ",ro", "no file" },
		{ "disk", "a,id=", "1 to 20" },
		{ "disk", "a,id=123456789012345678901", "1 to 20" },
		{ "disk", "a,id=12345678901234567890", NULL },
		{ "console-rate", "1k", NULL },
		{ "console-rate", "0", "give 1" },
		{ "console-rate", "2g", "give 1" },
		{ "pcap", "", "empty" },
		{ "pcap-max", "128k", NULL },
		{ "pcap-max", "131071", "give 128k" },
		{ "pcap-max", "2048g", "give 128k" },
		{ "pcap-snap", "64", NULL },
		{ "pcap-snap", "63", "give 64" },
		{ "pcap-snap", "65550", "give 64" },
		{ "blk-iops", "1", NULL },
		{ "blk-iops", "0", NULL },
		{ "blk-iops", "1000000000", NULL },
		{ "blk-iops", "1000000001", "no limit" },
		{ "blk-iops", "1k", "not a whole number" },
		{ "blk-bps", "10m", NULL },
		{ "blk-bps", "0", NULL },
		{ "blk-bps", "4095", "no limit" },
		{ "blk-bps", "1025g", "no limit" },
		{ "blk-bps", "fast", "not a size" },
		{ "io-max", "rbps=4k", NULL },
		{ "io-max", "wiops=1,riops=1000000000,wbps=1024g,rbps=10M", NULL },
		{ "io-max", "", "rbps, wbps, riops and wiops" },
		{ "io-max", "bps=1m", "'bps' is no key" },
		{ "io-max", "RBPS=1m", "'RBPS' is no key" },
		{ "io-max", "rbps=1m,", "'' is no key" },
		{ "io-max", ",rbps=1m", "'' is no key" },
		{ "io-max", "rbps=1m wbps=1m", "not a size" },
		{ "io-max", "=1m", "'' is no key" },
		{ "io-max", "rbps", "needs a number: rbps=10m" },
		{ "io-max", "wbps=1m,riops", "needs a number: riops=500" },
		{ "io-max", "rbps=", "not a size" },
		{ "io-max", "rbps=max", "not a size" },
		{ "io-max", "rbps=-1", "not a size" },
		{ "io-max", "rbps=0", "give 4k to 1024g" },
		{ "io-max", "rbps=4095", "give 4k to 1024g" },
		{ "io-max", "wbps=1025g", "give 4k to 1024g" },
		{ "io-max", "wbps=99999999999999999999", "give 4k to 1024g" },
		{ "io-max", "riops=0", "give 1 to 1000000000" },
		{ "io-max", "wiops=1000000001", "give 1 to 1000000000" },
		{ "io-max", "wiops=1k", "not a whole number" },
		{ "io-max", "rbps=1m,wbps=1m,rbps=1m", "rbps: given twice" },
		{ "io-max", "rbps=0000000000000000000000000000001m", "not a size" },
		{ "io-max", "riops=000000000000000000000000000000000000000000000000000000001", NULL },
		{ "io-max", "riops=0000000000000000000000000000000000000000000000000000000001", "too long" },
		{ "allow-port", "5=unix:/run/x.sock", NULL },
		{ "allow-port", "1073741823=tcp:[::1]:80", NULL },
		{ "allow-port", "2=tcp:db.example:65535", NULL },
		{ "allow-port", "2=tcp:127.0.0.1:1", NULL },
		{ "allow-port", "2=tcp:[fe80::1%1]:1", NULL },
		{ "allow-port", "5", "N=unix:PATH or N=tcp:HOST:PORT" },
		{ "allow-port", "", "N=unix:PATH" },
		{ "allow-port", "=unix:/x", "not a vsock port" },
		{ "allow-port", "0=unix:/x", "not a vsock port" },
		{ "allow-port", "x=unix:/x", "not a vsock port" },
		{ "allow-port", "-5=unix:/x", "not a vsock port" },
		{ "allow-port", "4294967295=unix:/x", "not a vsock port" },
		{ "allow-port", "99999999999999999999999999=unix:/x", "not a vsock port" },
		{ "allow-port", "1=unix:/x", "mvm's own" },
		{ "allow-port", "1073741824=unix:/x", "mvm's own" },
		{ "allow-port", "4294967294=unix:/x", "mvm's own" },
		{ "allow-port", "5=udp:x:1", "leads nowhere known" },
		{ "allow-port", "5=/x", "leads nowhere known" },
		{ "allow-port", "5=unix:", "no path" },
		{ "allow-port", "5=unix:@abstract", "abstract" },
		{ "allow-port", "5=tcp:host", "no TCP port" },
		{ "allow-port", "5=tcp:host:", "no TCP port" },
		{ "allow-port", "5=tcp:host:0", "no TCP port" },
		{ "allow-port", "5=tcp:host:65536", "no TCP port" },
		{ "allow-port", "5=tcp::80", "not a host" },
		{ "allow-port", "5=tcp:::1:80", "in brackets" },
		{ "allow-port", "5=tcp:[::1]", "no TCP port" },
		{ "allow-port", "5=tcp:[host]:80", "not a host" },
		{ "allow-port", "5=tcp:[1::2::3]:80", "not a host" },
		{ "allow-port", "5=tcp:a b:80", "not a host" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct mvm_spec *spec = new_spec();
		struct mvm_error err = { 0 };
		int r = mvm_spec_set(spec, cases[i].name, cases[i].value, &err);

		if (cases[i].says ? r >= 0 || !strstr(err.text, cases[i].says) : r < 0)
			fail_msg("%s=%s: %d, %s", cases[i].name, cases[i].value ? cases[i].value : "(none)", r,
				 err.text);
		if (r < 0 && (strchr(err.text, '\n') || strchr(err.text, '\033')))
			fail_msg("%s: not one harmless line", cases[i].name);
		/* Without a place for the text it fails as well. */
		mvm_spec_free(spec);
		spec = new_spec();
		assert_int_equal(mvm_spec_set(spec, cases[i].name, cases[i].value, NULL), r);
		mvm_spec_free(spec);
	}
}

static void test_disk_forms(void **state)
{
	static const struct {
		const char *text, *file, *id;
		bool ro;
	} cases[] = {
		{ "a", "a", NULL, false },       { "a,ro", "a", NULL, true },     { "a,rw", "a", NULL, false },
		{ "a,id=x,ro", "a", "x", true }, { "a,ro,id=x", "a", "x", true }, { "a,b,ro", "a,b", NULL, true },
		{ "a,rx", "a,rx", NULL, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct mvm_spec *spec = new_spec();

		assert_int_equal(mvm_spec_set(spec, "disk", cases[i].text, NULL), 0);
		assert_string_equal(spec->disks[0].file, cases[i].file);
		assert_int_equal(spec->disks[0].ro, cases[i].ro);
		assert_int_equal(!spec->disks[0].id, !cases[i].id);
		if (cases[i].id)
			assert_string_equal(spec->disks[0].id, cases[i].id);
		mvm_spec_free(spec);
	}
}

static void test_too_many_disks(void **state)
{
	struct mvm_spec *spec = new_spec();

	(void)state;
	for (unsigned i = 0; i < SPEC_USER_DISKS; i++)
		assert_int_equal(mvm_spec_set(spec, "disk", "a", NULL), 0);
	assert_int_equal(mvm_spec_set(spec, "disk", "a", NULL), -E2BIG);
	mvm_spec_free(spec);
}

/* Given again it adds keys; what is refused leaves those that were there. */
static void test_io_max(void **state)
{
	const struct io_max all = { .most = { VMM_BPS_MAX, VMM_BPS_MAX, VMM_IOPS_MAX, VMM_IOPS_MAX } };
	struct mvm_spec *spec = new_spec();
	char text[IO_MAX_TEXT];
	struct mvm_error err;

	(void)state;
	assert_false(mvm_spec_has(spec, "io-max"));
	assert_int_equal(mvm_spec_set(spec, "io-max", "rbps=1m", NULL), 0);
	assert_true(mvm_spec_has(spec, "io-max"));
	assert_int_equal(mvm_spec_set(spec, "io-max", "wiops=9,rbps=2m", &err), -EINVAL);
	assert_string_equal(err.text, "--io-max: rbps: given twice: leave one out");
	assert_string_equal(io_max_text(&spec->io_max, ' ', text), "rbps=1048576");
	assert_int_equal(mvm_spec_set(spec, "io-max", "wiops=9", NULL), 0);
	assert_string_equal(io_max_text(&spec->io_max, ' ', text), "rbps=1048576 wiops=9");
	/* The longest there is has room. */
	(void)io_max_text(&all, ',', text);
	assert_string_equal(text, "rbps=1099511627776,wbps=1099511627776,riops=1000000000,wiops=1000000000");
	mvm_spec_free(spec);
}

static void test_ports(void **state)
{
	struct mvm_spec *spec = new_spec();
	struct sockaddr_storage addrs[SPEC_PORT_ADDRS];
	const struct sockaddr_in *in = (const struct sockaddr_in *)addrs;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)addrs;
	const struct sockaddr_un *un = (const struct sockaddr_un *)addrs;
	char path[256], cwd[128], text[64];
	struct mvm_error err;

	(void)state;
	assert_int_equal(mvm_spec_set(spec, "allow-port", "5=unix:/x", NULL), 0);
	assert_int_equal(mvm_spec_set(spec, "allow-port", "5=tcp:h:1", &err), -EEXIST);
	assert_non_null(strstr(err.text, "twice"));
	assert_int_equal(spec_port_addresses(&spec->ports[0], addrs, SPEC_PORT_ADDRS, NULL), 1);
	assert_string_equal(un->sun_path, "/x");
	/* A relative path is the caller's, and stays so. */
	assert_non_null(getcwd(cwd, sizeof(cwd)));
	assert_int_equal(chdir("/tmp"), 0);
	assert_int_equal(mvm_spec_set(spec, "allow-port", "6=unix:s.sock", NULL), 0);
	assert_int_equal(chdir(cwd), 0);
	assert_string_equal(spec->ports[1].target, "unix:/tmp/s.sock");
	(void)snprintf(path, sizeof(path), "7=unix:/%0106d", 0);
	assert_int_equal(mvm_spec_set(spec, "allow-port", path, NULL), 0);
	(void)snprintf(path, sizeof(path), "8=unix:/%0107d", 0);
	assert_int_equal(mvm_spec_set(spec, "allow-port", path, &err), -ENAMETOOLONG);
	/* Numbers are addresses, names are not before they are resolved. */
	assert_int_equal(mvm_spec_set(spec, "allow-port", "8=tcp:127.0.0.1:80", NULL), 0);
	assert_int_equal(spec_port_addresses(&spec->ports[3], addrs, SPEC_PORT_ADDRS, NULL), 1);
	assert_int_equal(in->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	assert_int_equal(in->sin_port, htons(80));
	assert_int_equal(mvm_spec_set(spec, "allow-port", "9=tcp:[::1]:443", NULL), 0);
	assert_int_equal(spec_port_addresses(&spec->ports[4], addrs, SPEC_PORT_ADDRS, NULL), 1);
	assert_int_equal(in6->sin6_family, AF_INET6);
	assert_int_equal(in6->sin6_port, htons(443));
	assert_int_equal(mvm_spec_set(spec, "allow-port", "10=tcp:localhost:443", NULL), 0);
	assert_int_equal(spec_port_addresses(&spec->ports[5], addrs, SPEC_PORT_ADDRS, &err), -EADDRNOTAVAIL);
	assert_int_equal(spec_port_add(spec, "11=tcp:name:443", "10.0.0.1,fe80::2%1", NULL), 0);
	assert_int_equal(spec_port_addresses(&spec->ports[6], addrs, SPEC_PORT_ADDRS, &err), 2);
	assert_int_equal(((const struct sockaddr_in6 *)&addrs[1])->sin6_scope_id, 1);
	if (access("/etc/hosts", R_OK) == 0) { /* a bare tree knows no name at all, not even this one */
		assert_int_equal(spec_ports_resolve(spec, &err), 0);
		assert_int_equal(spec_port_addresses(&spec->ports[5], addrs, 1, &err), 1);
	} else {
		assert_true(spec_ports_resolve(spec, &err) < 0 && strstr(err.text, "localhost"));
	}
	for (unsigned i = 100; spec->nports < SPEC_PORTS_MAX; i++) {
		(void)snprintf(text, sizeof(text), "%u=unix:/x", i);
		assert_int_equal(mvm_spec_set(spec, "allow-port", text, NULL), 0);
	}
	assert_int_equal(mvm_spec_set(spec, "allow-port", "99=unix:/x", NULL), -E2BIG);
	mvm_spec_free(spec);
}

/* What is read is written the same, and what is not written so is refused (tests/e2e/cases/net.sh has what is refused). */
static void test_nets(void **state)
{
	static const char *const texts[] = {
		"none",
		"user",
		"user,dns=1.1.1.1,mac=02:00:00:00:00:0a,mtu=1500",
		"tap=t0",
		"socket=/run/net.sock",
		"bridge=br0,ip=10.0.0.2/24,gw=10.0.0.1,ip6=fd00::2/64,mac=02:00:00:00:00:0a,mtu=1400",
		"bridge=br0,ip6=fd00::2/64",
		"back",
		"back,ip=10.0.0.2,ip6=fd00::2,mac=02:00:00:00:00:0a,mtu=1400",
		"tap=t0,ip=10.0.0.2/24,gw=10.0.0.1,ip6=fd00::2/"
		"64,gw6=fe80::1,dns=10.0.0.1,dns=fd00::1,mac=02:00:00:00:00:0a,mtu=9000",
	};
	static const char *const bridges[] = {
		"bridge",
		"bridge=",
		"bridge=br0",
		"bridge=br0,gw=10.0.0.1",
		"bridge=a/b,ip=10.0.0.2/24",
		"bridge=br0,ip=10.0.0.2",
		"bridge=br0,ip=10.0.0.2/32",
		"bridge=br0,ip6=fd00::2/128",
	};
	char buf[SPEC_NET_TEXT], long_path[200];
	struct mvm_error err;
	struct spec_net net;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		assert_int_equal(spec_net_parse("--net", texts[i], &net, &err), 0);
		assert_string_equal(spec_net_text(&net, buf), texts[i]);
	}
	(void)snprintf(long_path, sizeof(long_path), "socket=/%0106d", 0);
	assert_int_equal(spec_net_parse("--net", long_path, &net, &err), 0);
	(void)snprintf(long_path, sizeof(long_path), "socket=/%0107d", 0);
	assert_int_equal(spec_net_parse("--net", long_path, &net, &err), -EINVAL);
	for (size_t i = 0; i < sizeof(bridges) / sizeof(bridges[0]); i++)
		assert_int_equal(spec_net_parse("--net", bridges[i], &net, &err), -EINVAL);
	assert_int_equal(spec_net_parse("--net", "tap=t,dns=1.1.1.1,dns=1.1.1.2,dns=1.1.1.3,dns=1.1.1.4", &net, &err),
			 -E2BIG);
}

/* docker's forms, and what is written of them. */
static void test_publish(void **state)
{
	static const struct {
		const char *text, *written;
	} good[] = {
		{ "80", "127.0.0.1:0:80" },
		{ "8080:80", "127.0.0.1:8080:80" },
		{ "0:80", "127.0.0.1:0:80" },
		{ "8080:80/tcp", "127.0.0.1:8080:80" },
		{ "53:53/udp", "127.0.0.1:53:53/udp" },
		{ "53/udp", "127.0.0.1:0:53/udp" },
		{ "[::]:53:5353/udp", "[::]:53:5353/udp" },
		{ "1.2.3.4:8080:80", "1.2.3.4:8080:80" },
		{ "1.2.3.4::80", "1.2.3.4:0:80" },
		{ "0.0.0.0:1:65535", "0.0.0.0:1:65535" },
		{ "[::1]:8080:80", "[::1]:8080:80" },
		{ "[::]::80", "[::]:0:80" },
		{ "[1111:2222:3333:4444:5555:6666:7777:8888]:65535:65535/tcp",
		  "[1111:2222:3333:4444:5555:6666:7777:8888]:65535:65535" },
		{ "[1111:2222:3333:4444:5555:6666:7777:8888]:65535:65535/udp",
		  "[1111:2222:3333:4444:5555:6666:7777:8888]:65535:65535/udp" },
	};
	static const struct {
		const char *text, *says;
	} bad[] = {
		{ "", "no port of the guest" },
		{ "x", "no port of the guest" },
		{ "0", "no port of the guest, 1 to" },
		{ ":80", "no port of the host" },
		{ "8080:", "no port of the guest" },
		{ "65536:80", "no port of the host" },
		{ "80:65536", "no port of the guest" },
		{ "80:+1", "no port of the guest" },
		{ "8000-8010:80", "ranges are not published" },
		{ "80:8000-8010", "ranges are not published" },
		{ "53:53/UDP", "'UDP' is no protocol" },
		{ "80:80/sctp", "'sctp' is no protocol" },
		{ "80:80/", "'' is no protocol" },
		{ "localhost:80:80", "names are not looked up" },
		{ "1.2.3:80:80", "no address" },
		{ "::80:80", "brackets" },
		{ "::1:80:80", "brackets" },
		{ "1.2.3.4:80:80:80", "brackets" },
		{ "[::1]:80", "no port of the host" },
		{ "[::1]", "no port of the guest" },
		{ "[::1]80:80", "no port of the host" },
		{ "[]:80:80", "no address" },
		{ "[1.2.3.4]:80:80", "no address" },
		{ "[::1%lo]:80:80", "no address" },
		{ "1111111111111111111111111111111111111111111111111111111111111111111111111111111111:80", "too long" },
	};
	struct mvm_spec *spec = new_spec();
	char buf[SPEC_PUBLISH_TEXT];
	struct spec_publish publish;
	struct mvm_error err;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(spec_publish_parse("-p", good[i].text, &publish, &err), 0);
		assert_string_equal(spec_publish_text(&publish, buf), good[i].written);
		assert_int_equal(spec_publish_parse("-p", buf, &publish, &err), 0);
		assert_string_equal(spec_publish_text(&publish, buf), good[i].written);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (spec_publish_parse("-p", bad[i].text, &publish, &err) >= 0 || !strstr(err.text, bad[i].says))
			fail_msg("'%s': %s", bad[i].text, err.text);
	assert_int_equal(spec_publish_parse("-p", "[::1]::80", &publish, &err), 0);
	assert_string_equal(spec_publish_where(&publish, 4711, buf), "[::1]:4711->80/tcp");
	publish.udp = true;
	assert_string_equal(spec_publish_where(&publish, 4711, buf), "[::1]:4711->80/udp");

	assert_int_equal(mvm_spec_set(spec, "publish", "80:80", &err), 0);
	assert_int_equal(mvm_spec_set(spec, "publish", "80:81", &err), -EEXIST);
	assert_int_equal(mvm_spec_set(spec, "publish", "127.0.0.2:80:80", &err), 0);
	assert_int_equal(mvm_spec_set(spec, "publish", "80:80/udp", &err), 0); /* another port than TCP's */
	assert_int_equal(mvm_spec_set(spec, "publish", "80:81/udp", &err), -EEXIST);
	while (spec->npublish < SPEC_PUBLISH_MAX)
		assert_int_equal(mvm_spec_set(spec, "publish", "80", &err), 0);
	assert_int_equal(mvm_spec_set(spec, "publish", "80", &err), -E2BIG);
	mvm_spec_free(spec);
}

static void test_check(void **state)
{
	struct mvm_spec *spec = new_spec();
	struct mvm_error err;

	(void)state;
	assert_true(mvm_spec_check(spec, &err) < 0 && strstr(err.text, "--rootfs"));
	assert_int_equal(mvm_spec_set(spec, "rootfs", "a", NULL), 0);
	assert_true(mvm_spec_check(spec, &err) < 0 && strstr(err.text, "no command"));
	assert_false(mvm_spec_has(spec, "args"));
	assert_int_equal(mvm_spec_set_args(spec, (const char *const[]){ "true", NULL }, NULL), 0);
	assert_true(mvm_spec_has(spec, "args"));
	assert_int_equal(mvm_spec_check(spec, &err), 0);
	assert_int_equal(mvm_spec_set(spec, "rw", NULL, NULL), 0);
	assert_int_equal(mvm_spec_check(spec, &err), 0);
	assert_int_equal(mvm_spec_set(spec, "scratch", "8m", NULL), 0);
	assert_true(mvm_spec_check(spec, &err) < 0 && strstr(err.text, "--scratch"));
	assert_int_equal(mvm_spec_set(spec, "rw", "false", NULL), 0);
	assert_int_equal(mvm_spec_set(spec, "console-rate", "1k", NULL), 0);
	assert_true(mvm_spec_check(spec, &err) < 0 && strstr(err.text, "--console-rate"));
	mvm_spec_free(spec);
}

/* --pcap is of what there is, and bounds are of --pcap. */
static void test_check_pcap(void **state)
{
	struct mvm_spec *spec = new_spec();
	struct mvm_error err;

	(void)state;
	assert_int_equal(mvm_spec_set(spec, "rootfs", "a", NULL), 0);
	assert_int_equal(mvm_spec_set_args(spec, (const char *const[]){ "true", NULL }, NULL), 0);
	assert_int_equal(mvm_spec_set(spec, "pcap-snap", "100", NULL), 0);
	assert_true(mvm_spec_check(spec, &err) < 0 && strstr(err.text, "--pcap-snap"));
	assert_int_equal(mvm_spec_set(spec, "pcap-max", "1m", NULL), 0);
	assert_true(mvm_spec_check(spec, &err) < 0 && strstr(err.text, "--pcap-max"));
	assert_int_equal(mvm_spec_set(spec, "pcap", "file", NULL), 0);
	assert_true(mvm_spec_check(spec, &err) < 0 && strstr(err.text, "--pcap") && strstr(err.text, "--net"));
	assert_int_equal(mvm_spec_set(spec, "net", "tap=t", NULL), 0);
	assert_int_equal(mvm_spec_check(spec, &err), 0);
	mvm_spec_free(spec);
}

/* Two devices of a VM are told apart by each of their addresses. */
static void test_check_two_nets(void **state)
{
	static const struct {
		const char *nets[2], *said; /* NULL: they may be beside each other */
	} cases[] = {
		{ { "tap=a,ip=10.0.0.2/24,mac=02:00:00:00:00:01", "tap=b,ip=10.0.0.3/24,mac=02:00:00:00:00:02" },
		  NULL },
		{ { "tap=a", "tap=b" }, NULL },
		{ { "tap=a,ip=10.0.0.2/24", "tap=b,ip6=fd00::2/64" }, NULL },
		{ { "tap=a,mac=02:00:00:00:00:01", "socket=/s,mac=02:00:00:00:00:01" }, "mac=: two devices" },
		{ { "tap=a,ip=10.0.0.2/24", "tap=b,ip=10.0.0.2/16" }, "ip=: two devices" },
		{ { "tap=a,ip6=fd00::2/64", "socket=/s,ip6=fd00::2/128" }, "ip6=: two devices" },
		{ { "bridge=br0,ip=10.0.0.2/24", "tap=b,ip=10.0.0.2/24" }, "ip=: two devices" },
		{ { "back", "back" }, "is on it already" },
	};
	struct mvm_error err;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct mvm_spec *spec = new_spec();
		int r;

		assert_int_equal(mvm_spec_set(spec, "rootfs", "a", NULL), 0);
		assert_int_equal(mvm_spec_set_args(spec, (const char *const[]){ "true", NULL }, NULL), 0);
		for (unsigned k = 0; k < 2; k++)
			assert_int_equal(mvm_spec_set(spec, "net", cases[i].nets[k], NULL), 0);
		r = mvm_spec_check(spec, &err);
		if (cases[i].said ? r != -EINVAL || !strstr(err.text, cases[i].said) : r != 0)
			fail_msg("case %zu: %s", i, r ? err.text : "allowed");
		mvm_spec_free(spec);
	}
}

/* One after the other: what each lacks. */
static void test_check_restart(void **state)
{
	static const char *const steps[][3] = {
		{ "restart", "no", NULL },
		{ "rm", NULL, NULL },
		{ "interactive", NULL, NULL },
		{ "tty", NULL, NULL },
		{ "restart", "always", "add --detach" },
		{ "detach", NULL, "add --name" },
		{ "name", "x", "excludes --rm" },
		{ "rm", "false", NULL },
		{ "receipt", "fd:7", "one run's alone" },
		{ "receipt", "file", NULL },
		{ "restart", "on-failure:7", NULL },
	};
	struct mvm_spec *spec = new_spec();
	struct mvm_error err;

	(void)state;
	assert_int_equal(mvm_spec_set(spec, "rootfs", "a", NULL), 0);
	assert_int_equal(mvm_spec_set_args(spec, (const char *const[]){ "true", NULL }, NULL), 0);
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		int r;

		assert_int_equal(mvm_spec_set(spec, steps[i][0], steps[i][1], NULL), 0);
		r = mvm_spec_check(spec, &err);
		if (steps[i][2] ? r != -EINVAL || !strstr(err.text, steps[i][2]) : r != 0)
			fail_msg("step %zu: %s", i, r ? err.text : "allowed");
	}
	mvm_spec_free(spec);
}

static void test_arguments_too_large(void **state)
{
	struct mvm_spec *spec = new_spec();
	char *huge = calloc(1, SPEC_ARG_MAX + 1);
	const char *args[64] = { NULL };

	(void)state;
	memset(huge, 'a', SPEC_ARG_MAX);
	assert_int_equal(mvm_spec_set_args(spec, (const char *const[]){ huge, NULL }, NULL), -E2BIG);
	huge[SPEC_ARG_MAX - 1] = '\0';
	for (unsigned i = 0; i < 30; i++)
		args[i] = huge;
	assert_int_equal(mvm_spec_set(spec, "rootfs", "a", NULL), 0);
	assert_int_equal(mvm_spec_set_args(spec, args, NULL), 0);
	assert_int_equal(mvm_spec_check(spec, NULL), -E2BIG);
	args[20] = NULL;
	assert_int_equal(mvm_spec_set_args(spec, args, NULL), 0);
	assert_int_equal(mvm_spec_check(spec, NULL), 0);
	free(huge);
	mvm_spec_free(spec);
}

static void test_env_file(void **state)
{
	static const char *const defaults[] = { "PATH=/bin", "A=default", NULL };
	char path[] = "/tmp/test_spec.XXXXXX";
	int fd = mkstemp(path);
	struct mvm_spec *spec = new_spec();
	struct mvm_error err;
	const char **env;
	size_t n;

	(void)state;
	assert_true(fd >= 0);
	assert_true(dprintf(fd, "# comment\n\n  A=file\r\nB=two words\nC=#kept\nAB=3") > 0);
	assert_int_equal(mvm_spec_set(spec, "env", "A=flag", NULL), 0);
	assert_int_equal(mvm_spec_set(spec, "env-file", path, &err), 0);
	assert_int_equal(spec_environment(spec, defaults, &env, &n), 0);
	assert_int_equal(n, 5);
	assert_string_equal(env[0], "A=flag");
	assert_string_equal(env[1], "AB=3");
	assert_string_equal(env[2], "B=two words");
	assert_string_equal(env[3], "C=#kept");
	assert_string_equal(env[4], "PATH=/bin");
	free(env);
	assert_true(dprintf(fd, "\nNOVALUE\n") > 0);
	assert_int_equal(mvm_spec_set(spec, "env-file", path, &err), -EINVAL);
	assert_non_null(strstr(err.text, "line 7"));
	(void)close(fd);
	(void)unlink(path);
	mvm_spec_free(spec);
}

static void test_json_round_trip(void **state)
{
	static const char *const set[][2] = {
		{ "rootfs", "dir/app \"x\".img" },
		{ "scratch", "9m" },
		{ "disk", "a,b,ro,id=x" },
		{ "disk", "c" },
		{ "memory", "512m" },
		{ "vcpus", "3" },
		{ "env", "A=\303\244\377\001" }, /* any byte but NUL is a value */
		{ "workdir", "/w" },
		{ "user", "u:g" },
		{ "hostname", "h" },
		{ "interactive", NULL },
		{ "tty", NULL },
		{ "timeout", "1500ms" },
		{ "boot-timeout", "3s" },
		{ "idle-timeout", "4s" },
		{ "restart", "on-failure:3" },
		{ "kernel", "k" },
		{ "cmdline", "a b" },
		{ "initrd", "i" },
		{ "console", "c" },
		{ "log-level", "error" },
		{ "receipt", "fd:9" },
		{ "console-rate", "3k" },
		{ "pcap", "p" },
		{ "pcap-max", "3m" },
		{ "pcap-snap", "96" },
		{ "blk-iops", "7" },
		{ "blk-bps", "5m" },
		{ "io-max", "wiops=7,rbps=64k" },
		{ "io-max", "wbps=5m" },
		{ "allow-port", "5=tcp:name:80" },
		{ "publish", "[::1]:8080:80" },
		{ "publish", "443" },
		{ "allow-port", "6=unix:/x \"y\"" },
	};
	struct mvm_spec *spec = new_spec(), *back;
	struct mvm_error err;
	char *json, *again;

	(void)state;
	for (size_t i = 0; i < sizeof(set) / sizeof(set[0]); i++)
		assert_int_equal(mvm_spec_set(spec, set[i][0], set[i][1], NULL), 0);
	spec->ports[0].addresses = strdup("10.0.0.1,::1");
	assert_int_equal(mvm_spec_set_args(spec, (const char *const[]){ "sh", "-c", "\377\n", "", NULL }, NULL), 0);
	assert_int_equal(mvm_spec_to_json(spec, &json, &err), 0);
	if (mvm_spec_from_json(json, strlen(json), &back, &err) < 0)
		fail_msg("%s: %s", json, err.text);
	assert_string_equal(back->rootfs, spec->rootfs);
	assert_int_equal(back->memory, 512 << 20);
	assert_int_equal(back->timeout_ns, 1500000000);
	assert_int_equal(back->idle_timeout_ns, 4000000000);
	assert_string_equal(back->restart, "on-failure:3");
	assert_int_equal(back->log_level, MVM_LOG_ERROR);
	assert_true(back->tty && back->interactive && !back->rw);
	assert_int_equal(back->ndisks, 2);
	assert_int_equal(back->nports, 2);
	assert_string_equal(back->pcap, "p");
	assert_int_equal(back->pcap_max, 3 << 20);
	assert_int_equal(back->pcap_snap, 96);
	assert_int_equal(back->blk_iops, 7);
	assert_int_equal(back->blk_bps, 5 << 20);
	assert_int_equal(back->io_max.most[IO_MAX_RBPS], 64 << 10);
	assert_int_equal(back->io_max.most[IO_MAX_WBPS], 5 << 20);
	assert_int_equal(back->io_max.most[IO_MAX_RIOPS], 0);
	assert_int_equal(back->io_max.most[IO_MAX_WIOPS], 7);
	assert_non_null(strstr(json, "\"io-max\":\"rbps=65536,wbps=5242880,wiops=7\""));
	assert_string_equal(back->ports[0].addresses, "10.0.0.1,::1");
	assert_null(back->ports[1].addresses);
	assert_string_equal(back->ports[1].target, "unix:/x \"y\"");
	assert_string_equal(back->disks[0].file, "a,b");
	assert_string_equal(back->env.v[0], "A=\303\244\377\001");
	assert_string_equal(back->args.v[2], "\377\n");
	assert_string_equal(back->args.v[3], "");
	assert_int_equal(mvm_spec_to_json(back, &again, &err), 0);
	assert_string_equal(again, json);
	free(json);
	free(again);
	mvm_spec_free(spec);
	mvm_spec_free(back);
}

static void test_json_refused(void **state)
{
	static const struct {
		const char *json, *says;
	} cases[] = {
		{ "", "not JSON" },
		{ "{", "not JSON" },
		{ "[]", "not a JSON object" },
		{ "{} x", "not JSON" },
		{ "{\"rotfs\":\"x\"}", "did you mean rootfs" },
		{ "{\"frobnicate\":1}", "unknown key: mvm run --help" },
		{ "{\"vcpus\":1,\"rw\":true,\"vcpus\":1}", "vcpus: given twice" },
		{ "{\"vcpus\":1,\"\\u0076cpus\" : 1}", "vcpus: given twice" },
		{ "{\"disk\":[{\"file\":\"a\",\"ro\":true,\"file\":\"b\"}]}", "file: given twice" },
		{ "{\"vcpus\":1,/**/\"rw\":true}", "not JSON" },
		{ "{\"memory\":\"1t\"}", "not a size" },
		{ "{\"memory\":-1}", "not a size" },
		{ "{\"memory\":null}", "plain value" },
		{ "{\"rootfs\":{}}", "plain value" },
		{ "{\"rootfs\":[\"a\"]}", "plain value" },
		{ "{\"rootfs\":\"a\\u0000b\"}", "plain value" },
		{ "{\"env\":[\"A\"]}", "NAME=VALUE" },
		{ "{\"args\":\"sh\"}", "not an array" },
		{ "{\"args\":[1]}", "entry 0" },
		{ "{\"args\":[\"a\\u0000b\"]}", "entry 0" },
		{ "{\"disk\":[{\"path\":\"x\"}]}", "file, ro and id" },
		{ "{\"disk\":[{\"ro\":true}]}", "no file" },
		{ "{\"disk\":[[[[]]]]}", "not JSON" }, /* deeper than a spec can be */
		{ "{\"allow-port\":[\"1=unix:/x\"]}", "mvm's own" },
		{ "{\"allow-port\":[{\"port\":5}]}", "allow and addresses" },
		{ "{\"allow-port\":[{\"addresses\":\"::1\"}]}", "N=unix:PATH" },
		{ "{\"rw\":\"maybe\"}", "true or false" },
		{ "{\"io-max\":{\"rbps\":1}}", "plain value" },
		{ "{\"io-max\":[\"rbps=1m\"]}", "plain value" },
		{ "{\"io-max\":5}", "'5' is no key" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct mvm_spec *spec = NULL;
		struct mvm_error err = { 0 };

		if (mvm_spec_from_json(cases[i].json, strlen(cases[i].json), &spec, &err) >= 0 ||
		    !strstr(err.text, cases[i].says))
			fail_msg("%s: %s", cases[i].json, err.text);
		assert_null(spec);
	}
}

static void test_json_plain_forms(void **state)
{
	static const char json[] = "{\"rootfs\":\"a\",\"memory\":\"1g\",\"vcpus\":2,\"rw\":true,\"env\":\"A=1\","
				   "\"disk\":[\"b,ro\",{\"file\":\"c\",\"id\":\"i\"}],\"args\":[\"sh\"]}";
	struct mvm_spec *spec;
	struct mvm_error err;

	(void)state;
	assert_int_equal(mvm_spec_from_json(json, sizeof(json) - 1, &spec, &err), 0);
	assert_int_equal(spec->memory, 1 << 30);
	assert_int_equal(spec->vcpus, 2);
	assert_true(spec->rw && spec->disks[0].ro && !spec->disks[1].ro);
	assert_string_equal(spec->env.v[0], "A=1");
	mvm_spec_free(spec);
}

/* Only keys count, each in its own object. */
static void test_json_unique(void **state)
{
	static const char *const good[] = {
		"{\"args\":[\"vcpus\",\"vcpus\",\"vcpus\\\":\",\"a:\"],\"vcpus\":1}",
		"{\"disk\":[{\"file\":\"a\"},{\"file\":\"b\"}],\"hostname\":\"hostname\"}",
		"{\"cmdline\":\"\\\\\",\"args\":[\"{\\\"a\\\":1,\\\"a\\\":2}\"]}",
	};
	static const char *const odd[] = { "", "\"", "{\"a", "{\"a\\", "]]]]", "{{{{{{{{", "{\"a\"" };
	struct mvm_error err;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct mvm_spec *spec;

		if (mvm_spec_from_json(good[i], strlen(good[i]), &spec, &err) < 0)
			fail_msg("%s: %s", good[i], err.text);
		mvm_spec_free(spec);
	}
	/* It is called on JSON alone, and reads no further than it may when it is not. */
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		char *copy = memcpy(malloc(strlen(odd[i]) + 1), odd[i], strlen(odd[i]));

		(void)spec_json_unique(copy, strlen(odd[i]), &err);
		free(copy);
	}
}

static void test_harmless(void **state)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{ "plain text", "plain text" },
		{ "a\033[31mb\n\t\177", "a?[31mb???" },
		{ "\303\244\342\202\254\360\237\230\200", "\303\244\342\202\254\360\237\230\200" },
		{ "\302\233x", "??x" }, /* U+009B, a terminal's CSI */
		{ "\233x\377", "?x?" },
		{ "\303", "?" },
		{ "\340\200\200", "???" }, /* overlong */
		{ "\355\240\200", "???" }, /* surrogate */
		{ "\342\200\256x", "???x" }, /* right-to-left override */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[64];

		(void)snprintf(text, sizeof(text), "%s", cases[i].in);
		text_harmless(text);
		assert_string_equal(text, cases[i].out);
	}
}

static void test_distance(void **state)
{
	(void)state;
	assert_int_equal(text_distance("", ""), 0);
	assert_int_equal(text_distance("abc", ""), 3);
	assert_int_equal(text_distance("memory", "memroy"), 1);
	assert_int_equal(text_distance("rootfs", "rotfs"), 1);
	assert_int_equal(text_distance("kitten", "sitting"), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_durations),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_disk_forms),
		cmocka_unit_test(test_too_many_disks),
		cmocka_unit_test(test_ports),
		cmocka_unit_test(test_nets),
		cmocka_unit_test(test_publish),
		cmocka_unit_test(test_check),
		cmocka_unit_test(test_check_pcap),
		cmocka_unit_test(test_check_two_nets),
		cmocka_unit_test(test_check_restart),
		cmocka_unit_test(test_arguments_too_large),
		cmocka_unit_test(test_env_file),
		cmocka_unit_test(test_json_round_trip),
		cmocka_unit_test(test_json_refused),
		cmocka_unit_test(test_json_unique),
		cmocka_unit_test(test_json_plain_forms),
		cmocka_unit_test(test_harmless),
		cmocka_unit_test(test_distance),
		cmocka_unit_test(test_io_max),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
