/* mvm cp: files into a VM that runs, and out of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "mvm/cleanup.h"
#include "opts.h"

/* VM:PATH; a slash before the colon makes it a path of this side. */
struct side {
	const char *path;
	char *vm; /* NULL: this side; free() it */
};

static bool split(const char *word, struct side *ret)
{
	size_t len = strcspn(word, ":/");

	*ret = (struct side){ .path = word };
	if (!len || word[len] != ':')
		return true;
	ret->vm = strndup(word, len);
	ret->path = word + len + 1;
	return ret->vm;
}

static int copy(const struct side *from, const struct side *to, struct mvm_copy_options *options)
{
	const struct side *here = from->vm ? to : from;
	const char *path = here->path;
	char note[MVM_ERROR_TEXT_MAX];
	struct mvm_error err;
	int r;

	if (!strcmp(path, "-")) {
		path = NULL;
		options->fd = from->vm ? STDOUT_FILENO : STDIN_FILENO;
		if (isatty(options->fd))
			return cli_unexpected("cp", from->vm ? "a tar stream is nothing for a terminal: | tar t"
							     : "a terminal is no tar stream: tar c . | mvm cp - …");
	}
	r = from->vm ? mvm_copy_out(from->vm, from->path, path, options, note, &err)
		     : mvm_copy_in(to->vm, path, to->path, options, note, &err);
	if (r < 0)
		return cli_fail(&err);
	if (*note)
		cli_say(note);
	return 0;
}

int verb_cp(const struct cli *cli, int argc, char **argv)
{
	struct mvm_copy_options options = MVM_COPY_OPTIONS;
	const struct opt opts[] = { { "archive", 'a', &options.archive, NULL, NULL,
				      "keep owner, group and the whole mode" },
				    { "follow-link", 'L', &options.follow, NULL, NULL,
				      "a source that is a symbolic link means what it leads to" },
				    { 0 } };
	struct side from = { 0 }, to = { 0 };
	struct words words;
	int status;

	(void)cli;
	if (!opts_parse(argc, argv, opts, &words, &status))
		return status;
	if (words.n != 2)
		return cli_unexpected(argv[0], "a source and a destination are wanted: mvm help cp");
	if (!split(words.v[0], &from) || !split(words.v[1], &to))
		status = cli_unexpected(argv[0], "out of memory");
	else if (!from.vm && !to.vm)
		status = cli_unexpected(argv[0], "which VM? one side is VM:PATH: mvm ps shows them");
	else if (from.vm && to.vm)
		status = cli_unexpected(argv[0], "two VMs: copy by way of the host: mvm cp A:x - | mvm cp - B:y");
	else
		status = copy(&from, &to, &options);
	free(from.vm);
	free(to.vm);
	return status;
}
