#include "tty.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static struct termios saved;
static volatile sig_atomic_t raw;

bool tty_is_raw(void)
{
	return raw;
}

void tty_restore(void)
{
	if (raw) {
		(void)tcsetattr(STDIN_FILENO, TCSADRAIN,
				&saved); /* async-signal-safe; a terminal that is gone needs none */
		raw = 0;
	}
}

static void on_crash(int signo)
{
	tty_restore();
	(void)raise(signo); /* SA_RESETHAND: its default action now */
}

void tty_raw(void)
{
	static const int crashes[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP };
	static bool prepared;
	struct sigaction action = { .sa_handler = on_crash, .sa_flags = (int)SA_RESETHAND };
	struct termios wanted;

	if (raw || tcgetattr(STDIN_FILENO, &saved) < 0)
		return;
	if (!prepared) {
		for (size_t i = 0; i < sizeof(crashes) / sizeof(crashes[0]); i++)
			(void)sigaction(crashes[i], &action, NULL);
		(void)atexit(tty_restore);
		prepared = true;
	}
	wanted = saved;
	cfmakeraw(&wanted);
	if (tcsetattr(STDIN_FILENO, TCSADRAIN, &wanted) == 0)
		raw = 1;
}

bool tty_size(uint16_t *ret_rows, uint16_t *ret_cols)
{
	struct winsize size;

	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) < 0 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0)
		return false;
	*ret_rows = size.ws_row;
	*ret_cols = size.ws_col;
	return true;
}
