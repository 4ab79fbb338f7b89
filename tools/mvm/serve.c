#include "serve.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli.h"
#include "mvm/cleanup.h"
#include "notify.h"

#define LIBRARY     "libmicrohttpd.so.12"
#define CONNECTIONS 16U
#define SECONDS     10U
#define HEADERS     ((size_t)8 << 10)

/* What is used of the library; the header has their types. */
struct library {
	__typeof__(MHD_start_daemon) *start_daemon;
	__typeof__(MHD_stop_daemon) *stop_daemon;
	__typeof__(MHD_create_response_from_buffer) *create_response;
	__typeof__(MHD_add_response_header) *add_header;
	__typeof__(MHD_lookup_connection_value) *lookup_value;
	__typeof__(MHD_queue_response) *queue_response;
	__typeof__(MHD_destroy_response) *destroy_response;
};

struct server {
	struct library mhd;
	const char *path;
	bool tcp;
	int (*make)(char **ret_text, struct mvm_error *err);
};

static bool load(struct library *mhd)
{
	struct {
		const char *name;
		void *function;
	} wanted[] = {
		{ "MHD_start_daemon", &mhd->start_daemon },
		{ "MHD_stop_daemon", &mhd->stop_daemon },
		{ "MHD_create_response_from_buffer", &mhd->create_response },
		{ "MHD_add_response_header", &mhd->add_header },
		{ "MHD_lookup_connection_value", &mhd->lookup_value },
		{ "MHD_queue_response", &mhd->queue_response },
		{ "MHD_destroy_response", &mhd->destroy_response },
	};
	void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL); /* stays until the program's end */

	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		void *function = library ? dlsym(library, wanted[i].name) : NULL;

		if (!function) {
			(void)cli_unexpected(LIBRARY, "cannot be loaded: install libmicrohttpd12");
			return false;
		}
		memcpy(wanted[i].function, &function, sizeof(function)); /* POSIX: a function's address fits */
	}
	return true;
}

/* ---- the socket ---- */

static int refuse(const char *address, const char *why)
{
	(void)cli_unexpected(address, why);
	return -1;
}

/* One that nobody listens on was left by a crash. */
static int listen_unix(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;
	mode_t mask;
	int r;

	if (*path != '/' || strlen(path) >= sizeof(addr.sun_path))
		return refuse(path, "--listen: give unix: and an absolute path of at most 107 bytes");
	memcpy(addr.sun_path, path, strlen(path) + 1);
	/* What is no socket refuses a connection as well. */
	if (fd >= 0 && lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) &&
	    connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 && errno == ECONNREFUSED)
		(void)unlink(path);
	mask = umask(0177); /* its user's alone */
	r = fd < 0 ? -1 : bind(fd, (struct sockaddr *)&addr, sizeof(addr));
	(void)umask(mask);
	if (r < 0 || listen(fd, SOMAXCONN) < 0)
		return refuse(path, strerror(errno));
	return take_fd(&fd);
}

/* "127.0.0.1:PORT" or "[::1]:PORT": nobody outside of this host is served. */
static int listen_tcp(const char *address)
{
	static const char v4[] = "127.0.0.1:", v6[] = "[::1]:";
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	bool is_v4 = !strncmp(address, v4, strlen(v4)), is_v6 = !strncmp(address, v6, strlen(v6));
	const char *text = is_v4 ? address + strlen(v4) : address + strlen(v6);
	_cleanup_fd_ int fd = -1;
	unsigned long port;
	int one = 1, r;

	if (!is_v4 && !is_v6)
		return refuse(address,
			      "--listen: give unix:/PATH, 127.0.0.1:PORT or [::1]:PORT: others are not served");
	port = strspn(text, "0123456789") == strlen(text) && strlen(text) <= 5 ? strtoul(text, NULL, 10) : 0;
	if (port < 1 || port > 65535)
		return refuse(address, "--listen: no port: 1 to 65535 are");
	in.sin_port = in6.sin6_port = htons((uint16_t)port);
	fd = socket(is_v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	r = fd < 0  ? -1
	    : is_v4 ? bind(fd, (struct sockaddr *)&in, sizeof(in))
		    : bind(fd, (struct sockaddr *)&in6, sizeof(in6));
	if (r < 0 || listen(fd, SOMAXCONN) < 0)
		return refuse(address, strerror(errno));
	return take_fd(&fd);
}

/* ---- requests ---- */

/* Takes `text` over. */
static enum MHD_Result answer(const struct server *server, struct MHD_Connection *connection, unsigned status,
			      char *text)
{
	const struct library *mhd = &server->mhd;
	struct MHD_Response *response = mhd->create_response(text ? strlen(text) : 0, text, MHD_RESPMEM_MUST_FREE);
	enum MHD_Result r;

	if (!response) {
		free(text);
		return MHD_NO;
	}
	(void)mhd->add_header(response, "Content-Type",
			      status == MHD_HTTP_OK ? "text/plain; version=0.0.4; charset=utf-8" : "text/plain");
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		(void)mhd->add_header(response, "Allow", "GET, HEAD");
	r = mhd->queue_response(connection, status, response);
	mhd->destroy_response(response);
	return r;
}

/* This host by a name that is always its own, with a port or without. */
static bool is_loopback(const char *host)
{
	static const char *const names[] = { "localhost", "127.0.0.1", "[::1]" };

	for (size_t i = 0; host && i < sizeof(names) / sizeof(names[0]); i++) {
		size_t len = strlen(names[i]);

		if (strncasecmp(host, names[i], len) != 0)
			continue;
		if (!host[len] || (host[len] == ':' && host[len + 1 + strspn(host + len + 1, "0123456789")] == '\0'))
			return true;
	}
	return false;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *url, const char *method,
				  const char *version, const char *upload, size_t *upload_size, void **request)
{
	const struct server *server = arg;
	struct mvm_error err;
	char *text = NULL;

	(void)version;
	(void)upload;
	(void)upload_size;
	(void)request;
	/* A page from elsewhere, whose name was pointed at this host, is not to read it in a user's browser (DNS rebinding). */
	if (server->tcp && !is_loopback(server->mhd.lookup_value(connection, MHD_HEADER_KIND, "Host")))
		return answer(server, connection, MHD_HTTP_FORBIDDEN,
			      strdup("ask for 127.0.0.1, [::1] or localhost\n"));
	/* Answered before any body is read: none is wanted. */
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return answer(server, connection, MHD_HTTP_METHOD_NOT_ALLOWED, strdup("GET it\n"));
	if (strcmp(url, server->path) != 0)
		return answer(server, connection, MHD_HTTP_NOT_FOUND, strdup("there is nothing but /metrics\n"));
	if (server->make(&text, &err) < 0)
		return answer(server, connection, MHD_HTTP_INTERNAL_SERVER_ERROR, strdup(err.text));
	return answer(server, connection, MHD_HTTP_OK, text);
}

static int run(struct server *server, int fd)
{
	struct MHD_Daemon *daemon;
	struct notify notify;
	sigset_t set;
	int signo;

	(void)signal(SIGPIPE, SIG_IGN);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	(void)sigprocmask(SIG_BLOCK, &set, NULL); /* of its thread as well */
	notify_open(&notify);
	daemon = server->mhd.start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_AUTO, 0, NULL, NULL, on_request,
					  server, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
					  CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT, SECONDS,
					  MHD_OPTION_CONNECTION_MEMORY_LIMIT, HEADERS, MHD_OPTION_END);
	if (!daemon) {
		(void)cli_unexpected("--listen", "the server cannot be started");
		(void)close(fd);
		return CLI_STATUS_FAILED;
	}
	notify_say(&notify, "READY=1");
	(void)sigwait(&set, &signo);
	notify_say(&notify, "STOPPING=1");
	server->mhd.stop_daemon(daemon); /* closes fd */
	notify_close(&notify);
	return 0;
}

int serve(const char *address, const char *path, int (*make)(char **ret_text, struct mvm_error *err))
{
	bool is_unix = !strncmp(address, "unix:", 5);
	struct server server = { .path = path, .tcp = !is_unix, .make = make };
	struct stat bound, now;
	bool known;
	int fd, status;

	if (!load(&server.mhd))
		return CLI_STATUS_FAILED;
	fd = is_unix ? listen_unix(address + 5) : listen_tcp(address);
	if (fd < 0)
		return CLI_STATUS_FAILED;
	known = is_unix && lstat(address + 5, &bound) == 0;
	status = run(&server, fd);
	/* Ours, and not what another has put there since. */
	if (known && lstat(address + 5, &now) == 0 && now.st_dev == bound.st_dev && now.st_ino == bound.st_ino)
		(void)unlink(address + 5);
	return status;
}
