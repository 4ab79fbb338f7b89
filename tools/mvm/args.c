/* The command line of `run`: libmvm's table of options, and what is not there yet. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"

/* Known from elsewhere and to come: refused by name, with what helps meanwhile. */
static const struct {
	const char *name;
	char letter;
	const char *text;
} later[] = {
	{ "volume", 'v',
	  "there are no volumes yet: put the files into the image, or on a disk of their own with --disk" },
};

static int refuse(struct mvm_error *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static int refuse(struct mvm_error *err, int code, const char *fmt, ...)
{
	va_list ap;

	err->code = code;
	va_start(ap, fmt);
	(void)vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	for (unsigned char *p = (unsigned char *)err->text; *p; p++)
		if (*p < 0x20 || *p == 0x7f)
			*p = '?';
	return -code;
}

static const struct mvm_option config_option = { "config", 0, false, "FILE|-",
						 "read a JSON object whose keys are these options; flags outweigh it" };

static const struct mvm_option *find(const char *name, size_t len, char letter)
{
	const struct mvm_option *option;

	for (size_t i = 0; (option = mvm_spec_option(i)); i++)
		if (letter ? option->letter == letter : strlen(option->name) == len && !memcmp(option->name, name, len))
			return option;
	return NULL;
}

static int check_later(const char *name, size_t len, char letter, struct mvm_error *err)
{
	for (size_t i = 0; i < sizeof(later) / sizeof(later[0]); i++) {
		if (letter ? later[i].letter != letter
			   : strlen(later[i].name) != len || memcmp(later[i].name, name, len) != 0)
			continue;
		if (later[i].letter)
			return refuse(err, ENOTSUP, "-%c/--%s: %s", later[i].letter, later[i].name, later[i].text);
		return refuse(err, ENOTSUP, "--%s: %s", later[i].name, later[i].text);
	}
	return 0;
}

/* --name, --name=value, --name value. Returns how many further arguments were used, or -errno. */
static int parse_long(const char *arg, const char *next, struct mvm_spec *spec, struct args *args,
		      struct mvm_error *err)
{
	size_t len = strcspn(arg, "=");
	const char *value = arg[len] ? arg + len + 1 : NULL;
	const struct mvm_option *option = find(arg, len, 0);
	char name[64];
	int r;

	if (!strcmp(arg, "help")) {
		args->help = true;
		return 0;
	}
	if (len == strlen(config_option.name) && !strncmp(arg, config_option.name, len))
		return !value; /* args_config() has seen it */
	if (!option) {
		r = check_later(arg, len, 0, err);
		if (r < 0)
			return r;
		(void)snprintf(name, sizeof(name), "%.*s", (int)(len < 60 ? len : 60), arg);
		return mvm_spec_set(spec, name, "", err); /* names the nearest one */
	}
	if (!option->metavar || value)
		return mvm_spec_set(spec, option->name, value, err);
	r = mvm_spec_set(spec, option->name, next, err);
	return r < 0 ? r : 1;
}

/* -i, -it, -m256M, -m 256M. Returns how many further arguments were used, or -errno. */
static int parse_short(const char *arg, const char *next, struct mvm_spec *spec, struct args *args,
		       struct mvm_error *err)
{
	for (; *arg; arg++) {
		const struct mvm_option *option = find("", 0, *arg);
		int r;

		if (*arg == 'h') {
			args->help = true;
			continue;
		}
		if (!option) {
			r = check_later("", 0, *arg, err);
			return r < 0 ? r : refuse(err, EINVAL, "-%c: unknown: mvm run --help lists the options", *arg);
		}
		if (!option->metavar) {
			r = mvm_spec_set(spec, option->name, NULL, err);
			if (r < 0)
				return r;
			continue;
		}
		if (arg[1])
			return mvm_spec_set(spec, option->name, arg + 1 + (arg[1] == '='), err);
		r = mvm_spec_set(spec, option->name, next, err);
		return r < 0 ? r : 1;
	}
	return 0;
}

bool args_takes_value(const char *arg)
{
	const struct mvm_option *option;

	if (arg[1] == '-') {
		option = find(arg + 2, strcspn(arg + 2, "="), 0);
		return option && option->metavar && !strchr(arg, '=');
	}
	for (const char *at = arg + 1; *at; at++) {
		option = find("", 0, *at);
		if (option && option->metavar)
			return !at[1];
	}
	return false;
}

int args_config(int argc, char **argv, const char **ret_path, struct mvm_error *err)
{
	static const char flag[] = "--config";
	const char *path = NULL;

	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
		const char *value = argv[i] + strlen(flag);
		bool is = !strncmp(argv[i], flag, strlen(flag)) && (!*value || *value == '=');

		if (!is) {
			i += argv[i][0] == '-' && argv[i][1] && args_takes_value(argv[i]);
			continue;
		}
		value = *value ? value + 1 : argv[++i];
		if (!value || !*value)
			return refuse(err, EINVAL, "%s: needs a value: %s", flag, config_option.metavar);
		if (path)
			return refuse(err, EINVAL, "%s: %.200s: given twice: put both into one file", flag, value);
		path = value;
	}
	*ret_path = path;
	return 0;
}

int args_parse(int argc, char **argv, struct mvm_spec *spec, struct args *ret_args, struct mvm_error *err)
{
	struct args args = { 0 };
	int i, r;

	for (i = 1; i < argc; i += 1 + r) {
		const char *arg = argv[i], *next = i + 1 < argc ? argv[i + 1] : NULL;

		if (!strcmp(arg, "--"))
			break;
		if (arg[0] != '-' || !arg[1])
			return refuse(err, EINVAL, "%.200s: unexpected: the command goes after --, as in: -- %.200s",
				      arg, arg);
		r = arg[1] == '-' ? parse_long(arg + 2, next, spec, &args, err)
				  : parse_short(arg + 1, next, spec, &args, err);
		if (r < 0)
			return r;
	}
	*ret_args = args;
	return i < argc ? mvm_spec_set_args(spec, (const char *const *)(argv + i + 1), err) : 0;
}

static void print_option(const struct mvm_option *option)
{
	help_option(option->letter, option->name, option->metavar, option->help);
}

void args_print_options(const char *const names[])
{
	const struct mvm_option *option;

	printf("\noptions:\n");
	if (!names)
		print_option(&config_option);
	for (size_t i = 0; !names && (option = mvm_spec_option(i)); i++)
		print_option(option);
	for (; names && *names; names++)
		if ((option = find(*names, strlen(*names), 0)))
			print_option(option);
}
