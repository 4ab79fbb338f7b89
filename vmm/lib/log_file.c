/* Reading a detached VM's log while it is written and rotated; see mvm.h and output_log.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/output_log.h"
#include "lib/rotated.h"
#include "lib/state_dir.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

#define ALIVE_MS 1000 /* how often it is looked whether the VM still lives */

struct mvm_log {
	struct rotated file;
	int folder;
	bool waited; /* what came before the first wait stands in the file */
	bool over; /* the VM had ended when it was last looked for more */
	struct mvm_log_line line;
	char time[OUTPUT_LOG_HEAD], stream[16];
};

int mvm_log_open(const char *id, struct mvm_log **ret_log, struct mvm_error *err)
{
	struct mvm_log *log = calloc(1, sizeof(*log));
	char parent[PATH_MAX], found[MVM_ID_LEN + 1];
	int r;

	if (!log)
		return error_set(err, ENOMEM, "out of memory");
	log->folder = -1;
	rotated_init(&log->file, -1, OUTPUT_LOG_FILE, OUTPUT_LOG_OLD);
	r = state_dir_parent(parent, err);
	if (r == 0)
		r = state_dir_find(parent, id, true, found, &log->folder, err);
	if (r == 0) {
		log->file.folder = log->folder;
		r = rotated_open(&log->file);
		if (r == -ENOENT)
			(void)error_set(err, ENOENT, "%s: has no log: it was not started with --detach", found);
		else if (r < 0)
			(void)error_set(err, -r, "%s: its log cannot be read: %s", found, strerror(-r));
	}
	if (r < 0) {
		mvm_log_free(log);
		return r;
	}
	*ret_log = log;
	return 0;
}

void mvm_log_free(struct mvm_log *log)
{
	if (!log)
		return;
	rotated_close(&log->file);
	cleanup_fd(&log->folder);
	free(log);
}

/* "TIME STREAM TAG TEXT". A line of another form is not ours: skipped. */
static bool parse(struct mvm_log *log, char *line, size_t len)
{
	char *space = memchr(line, ' ', len), *second, *end = line + len;

	if (!space || (size_t)(space - line) >= sizeof(log->time))
		return false;
	second = memchr(space + 1, ' ', (size_t)(end - space - 1));
	if (!second || (size_t)(second - space - 1) >= sizeof(log->stream) || end - second < 3 || second[2] != ' ')
		return false;
	memcpy(log->time, line, (size_t)(space - line));
	log->time[space - line] = '\0';
	memcpy(log->stream, space + 1, (size_t)(second - space - 1));
	log->stream[second - space - 1] = '\0';
	text_harmless(log->time);
	text_harmless(log->stream);
	log->line = (struct mvm_log_line){
		.time = log->time,
		.stream = log->stream,
		.partial = second[1] == 'P',
		.text = second + 3,
		.len = (size_t)(end - second - 3),
	};
	return true;
}

int mvm_log_next(struct mvm_log *log, const struct mvm_log_line **ret_line)
{
	char *line;
	size_t len;
	int r;

	while ((r = rotated_next(&log->file, &line, &len)) > 0)
		if (parse(log, line, len)) {
			*ret_line = &log->line;
			return 1;
		}
	return r;
}

int mvm_log_wait(struct mvm_log *log)
{
	bool alive = state_dir_alive(log->folder);

	/* What it wrote last stands there now: one more round, for all of it. */
	if (log->waited && !alive && log->over)
		return 0;
	if (log->waited)
		log->over = !alive;
	if (!log->waited || alive)
		rotated_wait(&log->file, ALIVE_MS);
	log->waited = true;
	return 1;
}
