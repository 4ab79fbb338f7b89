/* The table of options and the setters behind it; see spec.h. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jail/layers.h"
#include "lib/capture.h"
#include "lib/event_sink.h"
#include "lib/idle.h"
#include "lib/output_log.h"
#include "lib/restart.h"
#include "lib/spec.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

static const char *const level_names[] = { "error", "warning", "info", "debug" };

const char *spec_level_name(uint64_t level)
{
	return level_names[level <= MVM_LOG_DEBUG ? level : MVM_LOG_DEBUG];
}

/* "-m/--memory": an error names the flag as it may have been typed. */
static const char *label(const struct spec_key *key, char buf[48])
{
	if (key->option.letter)
		(void)snprintf(buf, 48, "-%c/--%s", key->option.letter, key->option.name);
	else
		(void)snprintf(buf, 48, "--%s", key->option.name);
	return buf;
}

#define LABEL(key) label(key, (char[48]){ 0 })

static int check_not_empty(const struct spec_key *key, const char *value, struct mvm_error *err)
{
	if (!*value)
		return error_set(err, EINVAL, "%s: empty: give it a %s", LABEL(key), key->option.metavar);
	return 0;
}

static int check_env(const struct spec_key *key, const char *value, struct mvm_error *err)
{
	const char *equals = strchr(value, '=');

	if (!equals || equals == value)
		return error_set(err, EINVAL, "%s: '%.80s' is no NAME=VALUE: write it as %.40s=…", LABEL(key), value,
				 *value && *value != '=' ? value : "NAME");
	if (strlen(value) >= SPEC_ARG_MAX)
		return error_set(err, E2BIG, "%s: %.*s is longer than %u bytes, the most Linux takes: pass a file",
				 LABEL(key), (int)(equals - value), value, SPEC_ARG_MAX - 1);
	return 0;
}

static int check_hostname(const struct spec_key *key, const char *value, struct mvm_error *err)
{
	size_t len = strlen(value);
	bool good = len && len <= SPEC_HOSTNAME_MAX && *value != '-' && *value != '.';

	for (size_t i = 0; i < len && good; i++)
		good = isalnum((unsigned char)value[i]) || value[i] == '-' || value[i] == '.';
	if (!good)
		return error_set(err, EINVAL,
				 "%s: '%.80s' is no host name: use letters, digits, - and ., at most %d in all",
				 LABEL(key), value, SPEC_HOSTNAME_MAX);
	return 0;
}

static int check_workdir(const struct spec_key *key, const char *value, struct mvm_error *err)
{
	if (*value != '/' || strlen(value) >= 4096)
		return error_set(err, EINVAL, "%s: '%.80s' is no absolute path in the image: begin it with /",
				 LABEL(key), value);
	return 0;
}

static int check_memory(const struct spec_key *key, const char *value, struct mvm_error *err)
{
	uint64_t bytes = 0;
	char least[32], most[32];

	(void)text_parse_size(value, &bytes); /* parsed before by the caller: in range */
	if (bytes >= VMM_MEM_MIN && bytes <= VMM_MEM_MAX)
		return 0;
	return error_set(err, EINVAL, "%s: %.40s is too %s: give between %s and %s, for example -m 256m", LABEL(key),
			 value, bytes < VMM_MEM_MIN ? "little" : "much", text_size(VMM_MEM_MIN, least),
			 text_size(VMM_MEM_MAX, most));
}

static int check_vcpus(const struct spec_key *key, const char *value, struct mvm_error *err)
{
	uint64_t n = 0;

	(void)text_parse_uint(value, UINT64_MAX - 1, &n);
	if (n < 1 || n > VMM_VCPUS_MAX)
		return error_set(err, EINVAL, "%s: %.40s vCPUs are not possible: give 1 to %u", LABEL(key), value,
				 VMM_VCPUS_MAX);
	return 0;
}

static int check_iops(const struct spec_key *key, const char *value, struct mvm_error *err)
{
	uint64_t n = 0;

	(void)text_parse_uint(value, UINT64_MAX - 1, &n);
	if (n > VMM_IOPS_MAX)
		return error_set(err, EINVAL, "%s: %.40s operations a second: give 1 to %u, or 0 for no limit",
				 LABEL(key), value, VMM_IOPS_MAX);
	return 0;
}

static int check_pps(const struct spec_key *key, const char *value, struct mvm_error *err)
{
	uint64_t n = 0;

	(void)text_parse_uint(value, UINT64_MAX - 1, &n);
	if (n > VMM_PPS_MAX)
		return error_set(err, EINVAL, "%s: %.40s packets a second: give 1 to %u, or 0 for no limit", LABEL(key),
				 value, VMM_PPS_MAX);
	return 0;
}

static int check_bps(const struct spec_key *key, const char *value, struct mvm_error *err)
{
	uint64_t bytes = 0;
	char least[32], most[32];

	(void)text_parse_size(value, &bytes);
	if (bytes && (bytes < VMM_BPS_MIN || bytes > VMM_BPS_MAX))
		return error_set(err, EINVAL, "%s: %.40s a second: give %s to %s, or 0 for no limit", LABEL(key), value,
				 text_size(VMM_BPS_MIN, least), text_size(VMM_BPS_MAX, most));
	return 0;
}

static int check_pcap_max(const struct spec_key *key, const char *value, struct mvm_error *err)
{
	uint64_t bytes = 0;
	char least[32], most[32];

	(void)text_parse_size(value, &bytes);
	if (bytes < CAPTURE_LEAST || bytes > CAPTURE_MOST)
		return error_set(err, EINVAL, "%s: %.40s: give %s to %s", LABEL(key), value,
				 text_size(CAPTURE_LEAST, least), text_size(CAPTURE_MOST, most));
	return 0;
}

static int check_pcap_snap(const struct spec_key *key, const char *value, struct mvm_error *err)
{
	uint64_t n = 0;

	(void)text_parse_uint(value, UINT64_MAX - 1, &n);
	if (n < CAPTURE_SNAP_MIN || n > CAPTURE_FRAME_MAX)
		return error_set(err, EINVAL, "%s: %.40s bytes of a frame: give %u to %u", LABEL(key), value,
				 CAPTURE_SNAP_MIN, CAPTURE_FRAME_MAX);
	return 0;
}

static int check_console_rate(const struct spec_key *key, const char *value, struct mvm_error *err)
{
	uint64_t bytes = 0;
	char most[32];

	(void)text_parse_size(value, &bytes);
	if (bytes < 1 || bytes > VMM_CONSOLE_RATE_MAX)
		return error_set(err, EINVAL, "%s: %.40s a second: give 1 to %s", LABEL(key), value,
				 text_size(VMM_CONSOLE_RATE_MAX, most));
	return 0;
}

static int check_pids(const struct spec_key *key, const char *value, struct mvm_error *err)
{
	uint64_t n = 0;

	(void)text_parse_uint(value, UINT64_MAX - 1, &n);
	if (n < 1 || n > 4194304) /* Linux' PID_MAX_LIMIT */
		return error_set(err, EINVAL, "%s: %.40s processes are not possible: give 1 to 4194304", LABEL(key),
				 value);
	return 0;
}

static int check_receipt(const struct spec_key *key, const char *value, struct mvm_error *err)
{
	uint64_t fd = 0;

	if (strncmp(value, SPEC_RECEIPT_FD, strlen(SPEC_RECEIPT_FD)) != 0)
		return check_not_empty(key, value, err);
	if (text_parse_uint(value + strlen(SPEC_RECEIPT_FD), 1U << 20, &fd) < 0 || fd < 3)
		return error_set(err, EINVAL,
				 "%s: %.40s is no descriptor of the caller's above 2: open one, as in: 3>receipt.json",
				 LABEL(key), value);
	return 0;
}

bool spec_is_name(const char *name)
{
	size_t len = strlen(name);

	return isalnum((unsigned char)*name) && len <= SPEC_NAME_MAX &&
	       strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") == len;
}

static int check_name(const struct spec_key *key, const char *value, struct mvm_error *err)
{
	if (!spec_is_name(value))
		return error_set(err, EINVAL,
				 "%s: '%.80s' is no name for a VM: letters, digits, _, . and -, the first a letter or "
				 "digit, at most %d in all",
				 LABEL(key), value, SPEC_NAME_MAX);
	return 0;
}

static int check_events(const struct spec_key *key, const char *value, struct mvm_error *err)
{
	return event_sink_check(LABEL(key), value, err);
}

static int check_log_max(const struct spec_key *key, const char *value, struct mvm_error *err)
{
	uint64_t bytes = 0;
	char least[32], most[32];

	(void)text_parse_size(value, &bytes);
	if (bytes < OUTPUT_LOG_LEAST || bytes > OUTPUT_LOG_MOST)
		return error_set(err, EINVAL, "%s: %.40s: give %s to %s", LABEL(key), value,
				 text_size(OUTPUT_LOG_LEAST, least), text_size(OUTPUT_LOG_MOST, most));
	return 0;
}

static int check_restart(const struct spec_key *key, const char *value, struct mvm_error *err)
{
	struct restart restart;

	if (restart_parse(value, &restart) < 0)
		return error_set(err, EINVAL, "%s: '%.40s': give no, on-failure, on-failure:N (N from 1) or always",
				 LABEL(key), value);
	return 0;
}

static int check_egress(const struct spec_key *key, const char *value, struct mvm_error *err)
{
	if (strcmp(value, "allow") != 0 && strcmp(value, "deny") != 0)
		return error_set(err, EINVAL, "%s: '%.40s': give allow or deny", LABEL(key), value);
	return 0;
}

static int check_allow_egress(const struct spec_key *key, const char *value, struct mvm_error *err)
{
	struct spec_egress rule;

	return spec_egress_parse(LABEL(key), value, &rule, err);
}

static int check_idle(const struct spec_key *key, const char *value, struct mvm_error *err)
{
	uint64_t ns = 0;

	(void)text_parse_duration(value, &ns);
	if (ns < IDLE_LEAST_NS)
		return error_set(err, EINVAL, "%s: %.40s is too short to tell: give 1s or more", LABEL(key), value);
	return 0;
}

/* clang-format off */
#define FIELD(f) offsetof(struct mvm_spec, f)
static const struct spec_key keys[] = {
	{ { "rootfs", 0, false, "FILE", "image of the root file system: ext2/3/4, EROFS or squashfs" }, SPEC_PATH, FIELD(rootfs), check_not_empty },
	{ { "rw", 0, false, NULL, "write to the image itself; without it changes are gone when the run ends" }, SPEC_SWITCH, FIELD(rw), NULL },
	{ { "scratch", 0, false, "SIZE", "most that changes above a read-only image may take (half of memory)" }, SPEC_SIZE, FIELD(scratch), NULL },
	{ { "disk", 0, true, "FILE[,ro][,id=NAME]", "a further disk, /dev/vdb and so on" }, SPEC_DISK, 0, NULL },
	{ { "blk-iops", 0, false, "N", "most operations a second of each disk (0: no limit)" }, SPEC_NUMBER, FIELD(blk_iops), check_iops },
	{ { "blk-bps", 0, false, "SIZE", "most bytes a second of each disk (0: no limit)" }, SPEC_SIZE, FIELD(blk_bps), check_bps },
	{ { "io-max", 0, false, "KEY=N[,KEY=N]", "most a second on each block device below the disks: rbps, wbps, riops, wiops" }, SPEC_IO_MAX, FIELD(io_max), NULL },
	{ { "allow-port", 0, true, "N=TARGET", "let the VM dial host port N by vsock: unix:PATH or tcp:HOST:PORT" }, SPEC_PORT, 0, NULL },
	{ { "net", 0, true, "MODE[,KEY=VALUE]", "a network device: user, a network (mvm network), bridge=NAME, tap=NAME or socket=PATH, with ip=, gw=, dns=, mac=, mtu= (none)" }, SPEC_NET, 0, NULL },
	{ { "egress", 0, false, "allow|deny", "where --net user, bridge=, networks and --proxy lead: the public internet, or nowhere but what is named (allow)" }, SPEC_STRING, FIELD(egress), check_egress },
	{ { "allow-egress", 0, true, "CIDR|NAME[:PORT[/PROTO]]", "let these reach this, too: a private network, or with --egress deny anything" }, SPEC_LIST, FIELD(allow_egress), check_allow_egress },
	{ { "proxy", 0, false, NULL, "a way out without a network device: HTTP and SOCKS5 on port 3128 of the VM's loopback" }, SPEC_SWITCH, FIELD(proxy), NULL },
	{ { "publish", 'p', true, "[IP:]HOST:GUEST[/udp]", "a port of the host that leads to one of the guest's loopback (IP: 127.0.0.1; /udp: UDP)" }, SPEC_PUBLISH, 0, NULL },
	{ { "net-pps", 0, false, "N", "most packets a second of each network device and direction (0: no limit)" }, SPEC_NUMBER, FIELD(net_pps), check_pps },
	{ { "net-bps", 0, false, "SIZE", "most bytes a second of each network device and direction (0: no limit)" }, SPEC_SIZE, FIELD(net_bps), check_bps },
	{ { "pcap", 0, false, "FILE", "write the frames of all network devices to a file, for tcpdump and Wireshark" }, SPEC_PATH, FIELD(pcap), check_not_empty },
	{ { "pcap-max", 0, false, "SIZE", "most that this file may take; then the capture ends and the VM goes on (64m)" }, SPEC_SIZE, FIELD(pcap_max), check_pcap_max },
	{ { "pcap-snap", 0, false, "N", "bytes of each frame that are kept, 64 to 65549 (all)" }, SPEC_NUMBER, FIELD(pcap_snap), check_pcap_snap },
	{ { "memory", 'm', false, "SIZE", "memory of the VM: bytes, or with k, m or g (256m)" }, SPEC_SIZE, FIELD(memory), check_memory },
	{ { "vcpus", 'c', false, "N", "virtual CPUs, 1 to 32 (1)" }, SPEC_NUMBER, FIELD(vcpus), check_vcpus },
	{ { "cpus", 0, false, "N", "most of the host's CPUs that the VM may use, as 0.5 (no limit)" }, SPEC_PERCENT, FIELD(cpu_percent), NULL },
	{ { "pids-max", 0, false, "N", "most processes and threads of the command and its children (no limit)" }, SPEC_NUMBER, FIELD(pids_max), check_pids },
	{ { "env", 'e', true, "NAME=VALUE", "a variable of the command's environment" }, SPEC_LIST, FIELD(env), check_env },
	{ { "env-file", 0, true, "FILE", "such variables from a file, one a line, # begins a comment" }, SPEC_LIST, FIELD(env_file), check_env },
	{ { "workdir", 'w', false, "DIR", "working directory in the image (/)" }, SPEC_STRING, FIELD(workdir), check_workdir },
	{ { "user", 'u', false, "USER[:GROUP]", "user in the image, by name or number (root)" }, SPEC_STRING, FIELD(user), check_not_empty },
	{ { "hostname", 0, false, "NAME", "host name in the VM (the run's id)" }, SPEC_STRING, FIELD(hostname), check_hostname },
	{ { "interactive", 'i', false, NULL, "pass standard input on; without it the command reads /dev/null" }, SPEC_SWITCH, FIELD(interactive), NULL },
	{ { "tty", 't', false, NULL, "give the command a terminal (-i -t is the default where stdin and stdout are one)" }, SPEC_SWITCH, FIELD(tty), NULL },
	{ { "detach", 'd', false, NULL, "print the VM's id and leave it running; its output goes to its log" }, SPEC_SWITCH, FIELD(detach), NULL },
	{ { "name", 0, false, "NAME", "a name for the VM; it can be started again until it is removed" }, SPEC_STRING, FIELD(name), check_name },
	{ { "rm", 0, false, NULL, "remove the VM with its end, though it has a name" }, SPEC_SWITCH, FIELD(remove), NULL },
	{ { "restart", 0, false, "no|on-failure[:N]|always", "start a detached VM with a name again when it has ended (no)" }, SPEC_STRING, FIELD(restart), check_restart },
	{ { "log-max", 0, false, "SIZE", "most that the log of a detached VM may take (8m)" }, SPEC_SIZE, FIELD(log_max), check_log_max },
	{ { "timeout", 0, false, "TIME", "end the whole run after so long: seconds, or with ms, s, m, h or d" }, SPEC_TIME, FIELD(timeout_ns), NULL },
	{ { "idle-timeout", 0, false, "TIME", "end the VM when it has been idle for so long, 1s or more" }, SPEC_TIME, FIELD(idle_timeout_ns), check_idle },
	{ { "boot-timeout", 0, false, "TIME", "most the VM may take until the command runs (60s)" }, SPEC_TIME, FIELD(boot_timeout_ns), NULL },
	{ { "kernel", 0, false, "FILE", "guest kernel instead of mvm's own: vmlinux or bzImage" }, SPEC_PATH, FIELD(kernel), check_not_empty },
	{ { "cmdline", 0, false, "TEXT", "appended to the kernel's command line" }, SPEC_STRING, FIELD(cmdline), NULL },
	{ { "initrd", 0, false, "FILE", "a cpio archive unpacked after the agent's own" }, SPEC_PATH, FIELD(initrd), check_not_empty },
	{ { "console", 0, false, "FILE", "append what the guest kernel prints to a file" }, SPEC_PATH, FIELD(console), check_not_empty },
	{ { "console-rate", 0, false, "SIZE", "most bytes a second that reach that file; the rest is dropped (4m)" }, SPEC_SIZE, FIELD(console_rate), check_console_rate },
	{ { "log-level", 0, false, "error|warning|info|debug", "what mvm itself tells on stderr (warning)" }, SPEC_LEVEL, FIELD(log_level), NULL },
	{ { "allow-missing", 0, false, "LAYER[,LAYER]", "go on without layers of the jail that this host lacks: cgroup, landlock, landlock-net, lsm" }, SPEC_LAYERS, FIELD(may_lack), NULL },
	{ { "events", 0, false, "journald|syslog|file:PATH", "where the VM's events go besides the journal of mvm events" }, SPEC_STRING, FIELD(events), check_events },
	{ { "receipt", 0, false, "FILE|fd:N", "write a JSON document that says how the run ended" }, SPEC_PATH, FIELD(receipt), check_receipt },
	{ { "sign", 0, false, "FILE", "sign the receipt: FILE.sig, with this Ed25519 private key in PEM" }, SPEC_PATH, FIELD(sign), check_not_empty },
};
/* clang-format on */

const struct spec_key *spec_key_at(size_t index)
{
	return index < sizeof(keys) / sizeof(keys[0]) ? &keys[index] : NULL;
}

const struct mvm_option *mvm_spec_option(size_t index)
{
	const struct spec_key *key = spec_key_at(index);

	return key ? &key->option : NULL;
}

const struct spec_key *spec_key_find(const char *name, const char **ret_nearest)
{
	unsigned best = 3; /* further away, a suggestion is a guess */
	const char *nearest = NULL;

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		const char *known = keys[i].option.name;
		unsigned distance;

		if (!strcmp(known, name))
			return &keys[i];
		distance = text_distance(known, name);
		/* Of a name of three letters two changed ones leave nothing alike. */
		if (distance < best && distance <= strlen(name) / 2) {
			best = distance;
			nearest = known;
		}
	}
	if (ret_nearest)
		*ret_nearest = nearest;
	return NULL;
}

static int set_switch(const struct spec_key *key, bool *field, const char *value, struct mvm_error *err)
{
	if (value && strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
		return error_set(err, EINVAL, "%s: '%.40s': it takes no value, or true or false", LABEL(key), value);
	*field = !value || !strcmp(value, "true");
	return 0;
}

static int set_number(const struct spec_key *key, uint64_t *field, const char *value, struct mvm_error *err)
{
	const char *form = "a whole number";
	uint64_t v = 0;
	int r = -EINVAL;

	if (key->type == SPEC_SIZE) {
		form = "a size: a number of bytes, or one with k, m or g, as 256m";
		r = text_parse_size(value, &v);
	} else if (key->type == SPEC_TIME) {
		form = "a time: seconds, or with ms, s, m, h or d, as 90s";
		r = text_parse_duration(value, &v);
		if (!r && !v)
			r = -EINVAL;
	} else if (key->type == SPEC_LEVEL) {
		form = "a level: error, warning, info or debug";
		for (; v <= MVM_LOG_DEBUG && r < 0; v++)
			if (!strcmp(level_names[v], value) || (v == MVM_LOG_WARNING && !strcmp(value, "warn")))
				break;
		r = v <= MVM_LOG_DEBUG ? 0 : -EINVAL;
	} else {
		r = text_parse_uint(value, UINT64_MAX - 1, &v);
	}
	if (r == -EINVAL)
		return error_set(err, EINVAL, "%s: '%.40s' is not %s", LABEL(key), value, form);
	if (r < 0)
		return error_set(err, -r, "%s: %.40s is beyond any machine: give less", LABEL(key), value);
	if (key->check) {
		r = key->check(key, value, err);
		if (r < 0)
			return r;
	}
	*field = v;
	return 0;
}

/* At most two decimals: a hundredth of a CPU is the least. */
static int set_percent(const struct spec_key *key, uint64_t *field, const char *value, struct mvm_error *err)
{
	size_t whole = strspn(value, "0123456789"), part = 0;
	char digits[16];

	if (value[whole] == '.')
		part = strspn(value + whole + 1, "0123456789");
	if (whole + part == 0 || whole > 4 || part > 2 || value[whole + (value[whole] == '.') + part])
		return error_set(err, EINVAL, "%s: '%.40s' is not a number of CPUs: give one as 0.5 or 2", LABEL(key),
				 value);
	(void)snprintf(digits, sizeof(digits), "%.*s%.*s%s", (int)whole, value, (int)part, value + whole + 1,
		       part == 0   ? "00"
		       : part == 1 ? "0"
				   : "");
	(void)text_parse_uint(digits, UINT32_MAX, field); /* digits alone, six at most */
	if (*field == 0)
		return error_set(err, EINVAL, "%s: %.40s is too little: give 0.01 or more", LABEL(key), value);
	return 0;
}

static int set_layers(const struct spec_key *key, uint64_t *field, const char *value, struct mvm_error *err)
{
	unsigned layers;
	int r = jail_layers_parse(LABEL(key), value, &layers, err);

	if (r == 0)
		*field |= layers;
	return r;
}

const char *spec_layers_text(uint64_t layers, char buf[64])
{
	const char *name;
	size_t at = 0;

	buf[0] = '\0';
	for (unsigned bit = 0; (name = jail_layer_name(bit)); bit++)
		if (layers & 1U << bit)
			at += (size_t)snprintf(buf + at, 64 - at, "%s%s", at ? "," : "", name);
	return buf;
}

static int set_text(const struct spec_key *key, char **field, const char *value, struct mvm_error *err)
{
	int r = key->check ? key->check(key, value, err) : 0;
	char *copy;

	if (r < 0)
		return r;
	copy = strdup(value);
	if (!copy)
		return error_set(err, ENOMEM, "%s: out of memory", LABEL(key));
	free(*field);
	*field = copy;
	return 0;
}

static int set_list(const struct spec_key *key, struct spec_list *list, const char *value, struct mvm_error *err)
{
	int r = key->check ? key->check(key, value, err) : 0;

	if (r < 0)
		return r;
	r = spec_list_add(list, value);
	if (r < 0)
		return error_set(err, -r, "%s: %s", LABEL(key),
				 r == -ENOMEM ? "out of memory" : "too many entries: leave some out");
	return 0;
}

static int set_env_line(const struct spec_key *key, struct spec_list *list, const char *path, size_t number, char *line,
			struct mvm_error *err)
{
	size_t len = strlen(line);
	struct mvm_error why;

	while (len && (line[len - 1] == '\n' || line[len - 1] == '\r'))
		line[--len] = '\0';
	line += strspn(line, " \t");
	if (!*line || *line == '#')
		return 0;
	if (set_list(key, list, line, &why) < 0)
		return error_set(err, why.code, "%s: line %zu: %s", path, number, why.text);
	return 0;
}

static int set_env_file(const struct spec_key *key, struct spec_list *list, const char *path, struct mvm_error *err)
{
	_cleanup_free_ char *line = NULL;
	size_t cap = 0, number = 0;
	FILE *f = fopen(path, "re");
	int r = 0;

	if (!f)
		return error_set(err, errno, "--env-file: %s: %s: name a readable file", path, strerror(errno));
	while (r == 0 && getline(&line, &cap, f) >= 0)
		r = set_env_line(key, list, path, ++number, line, err);
	if (r == 0 && ferror(f))
		r = error_set(err, EIO, "--env-file: %s: cannot be read: name a text file", path);
	(void)fclose(f); /* only read from */
	return r;
}

int spec_disk_add(struct mvm_spec *spec, const char *file, const char *id, bool ro, struct mvm_error *err)
{
	struct spec_disk disk = { .ro = ro };

	if (spec->ndisks == SPEC_USER_DISKS)
		return error_set(err, E2BIG, "--disk: %s: a VM has at most %u disks besides its rootfs: leave one out",
				 file, SPEC_USER_DISKS);
	if (!*file)
		return error_set(err, EINVAL, "--disk: no file: write FILE[,ro][,id=NAME]");
	if (id && (!*id || strlen(id) > VMM_DISK_ID_MAX))
		return error_set(err, EINVAL, "--disk: %s: the id '%.40s' must have 1 to %u characters", file, id,
				 VMM_DISK_ID_MAX);
	disk.file = strdup(file);
	disk.id = id ? strdup(id) : NULL;
	if (!disk.file || (id && !disk.id)) {
		free(disk.file);
		free(disk.id);
		return error_set(err, ENOMEM, "--disk: out of memory");
	}
	spec->disks[spec->ndisks++] = disk;
	return 0;
}

/* FILE[,ro][,rw][,id=NAME], taken off from the end: a file's name may hold commas, an option's may not. */
static int set_disk(struct mvm_spec *spec, const char *value, struct mvm_error *err)
{
	char *file = strdup(value);
	const char *id = NULL;
	bool ro = false;
	int r;

	if (!file)
		return error_set(err, ENOMEM, "--disk: out of memory");
	for (;;) {
		char *comma = strrchr(file, ',');

		if (!comma)
			break;
		if (!strcmp(comma, ",ro"))
			ro = true;
		else if (!strncmp(comma, ",id=", 4))
			id = comma + 4;
		else if (strcmp(comma, ",rw") != 0)
			break;
		*comma = '\0';
	}
	r = spec_disk_add(spec, file, id, ro, err);
	free(file);
	return r;
}

static int add_net(const struct spec_key *key, struct mvm_spec *spec, const char *value, struct mvm_error *err)
{
	int r;

	if (spec->nnets == VMM_NETS_MAX)
		return error_set(err, E2BIG, "%s: %.40s: a VM has at most %u network devices: leave one out",
				 LABEL(key), value, VMM_NETS_MAX);
	r = spec_net_parse(LABEL(key), value, &spec->nets[spec->nnets], err);
	if (r == 0)
		spec->nnets++;
	return r;
}

static int add_publish(const struct spec_key *key, struct mvm_spec *spec, const char *value, struct mvm_error *err)
{
	struct spec_publish publish;
	int r = spec_publish_parse(LABEL(key), value, &publish, err);

	if (r < 0)
		return r;
	if (spec->npublish == SPEC_PUBLISH_MAX)
		return error_set(err, E2BIG, "%s: %.60s: a VM has at most %u published ports: leave one out",
				 LABEL(key), value, SPEC_PUBLISH_MAX);
	for (size_t i = 0; i < spec->npublish; i++) {
		const struct spec_publish *other = &spec->publish[i];

		if (publish.host && other->host == publish.host && other->family == publish.family &&
		    other->udp == publish.udp && !memcmp(other->address, publish.address, sizeof(publish.address)))
			return error_set(err, EEXIST, "%s: %.60s: that port is given twice: leave one out", LABEL(key),
					 value);
	}
	spec->publish[spec->npublish++] = publish;
	return 0;
}

int mvm_parse_time(const char *text, uint64_t *ret_ns)
{
	return text_parse_duration(text, ret_ns);
}

int mvm_spec_set(struct mvm_spec *spec, const char *name, const char *value, struct mvm_error *err)
{
	const char *nearest;
	const struct spec_key *key = spec_key_find(name, &nearest);
	void *field;

	if (!key && nearest)
		return error_set(err, EINVAL, "--%.80s: unknown: did you mean --%s?", name, nearest);
	if (!key)
		return error_set(err, EINVAL, "--%.80s: unknown: mvm run --help lists the options", name);
	if (!value && key->type != SPEC_SWITCH)
		return error_set(err, EINVAL, "%s: needs a value: %s", LABEL(key), key->option.metavar);
	field = (char *)spec + key->offset;
	switch (key->type) {
	case SPEC_SWITCH:
		return set_switch(key, field, value, err);
	case SPEC_SIZE:
	case SPEC_NUMBER:
	case SPEC_TIME:
	case SPEC_LEVEL:
		return set_number(key, field, value, err);
	case SPEC_PERCENT:
		return set_percent(key, field, value, err);
	case SPEC_LAYERS:
		return set_layers(key, field, value, err);
	case SPEC_LIST:
		if (field == &spec->env_file)
			return set_env_file(key, field, value, err);
		return set_list(key, field, value, err);
	case SPEC_DISK:
		return set_disk(spec, value, err);
	case SPEC_PORT:
		return spec_port_add(spec, value, NULL, err);
	case SPEC_NET:
		return add_net(key, spec, value, err);
	case SPEC_PUBLISH:
		return add_publish(key, spec, value, err);
	case SPEC_IO_MAX:
		return io_max_parse(LABEL(key), value, field, err);
	case SPEC_STRING:
	case SPEC_PATH:
		break;
	}
	return set_text(key, field, value, err);
}

bool mvm_spec_has(const struct mvm_spec *spec, const char *name)
{
	const struct spec_key *key = spec_key_find(name, NULL);
	const void *field;

	if (!strcmp(name, "args"))
		return spec->args.n != 0;
	if (!key)
		return false;
	field = (const char *)spec + key->offset;
	switch (key->type) {
	case SPEC_SWITCH:
		return *(const bool *)field;
	case SPEC_SIZE:
	case SPEC_NUMBER:
	case SPEC_TIME:
	case SPEC_LEVEL:
	case SPEC_PERCENT:
	case SPEC_LAYERS:
		return *(const uint64_t *)field != 0;
	case SPEC_LIST:
		return ((const struct spec_list *)field)->n != 0;
	case SPEC_DISK:
		return spec->ndisks != 0;
	case SPEC_PORT:
		return spec->nports != 0;
	case SPEC_NET:
		return spec->nnets != 0;
	case SPEC_PUBLISH:
		return spec->npublish != 0;
	case SPEC_IO_MAX:
		return io_max_any(field);
	case SPEC_STRING:
	case SPEC_PATH:
		break;
	}
	return *(char *const *)field != NULL;
}
