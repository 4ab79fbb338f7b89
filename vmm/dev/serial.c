#include "dev/serial.h"

#include <errno.h>
#include <linux/serial_reg.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "mvm/vmm_config.h"
#include "virtio/ratelimit.h"

#define RING_SIZE   (64U << 10)
#define TAIL_SIZE   (8U << 10)
#define TOTAL_BYTES (64U << 20) /* bytes of a VM's life that reach it: the file is on somebody's disk */
#define LINE_BYTES  240U
#define CHUNK_SIZE  4096U

struct serial {
	pthread_mutex_t lock;
	struct irq_line irq;
	struct loop *loop;
	int out_fd;
	uint8_t ier, lcr, mcr, scr, dll, dlm, fcr;
	bool thri_pending; /* the transmitter-empty interrupt is due (it always is empty) */
	struct counters_console *counted, uncounted; /* never NULL */
	bool posted; /* a drain is on its way to the I/O thread */
	uint32_t ring_start, ring_len;
	uint64_t dropped, written;
	struct ratelimit limit; /* of bytes that reach the descriptor */
	uint32_t tail_at;
	bool tail_full;
	uint8_t tail[TAIL_SIZE];
	uint8_t ring[RING_SIZE];
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

static void drop(struct serial *s, uint32_t bytes)
{
	s->dropped += bytes;
	counters_add(&s->counted->dropped_bytes, bytes);
}

/*
 * Moves what the ring holds to the descriptor; drops on error or above the rate. Called on the I/O
 * thread alone, lock held; it is let go for the write, so that a slow disk never holds a vCPU.
 */
static void drain_locked(struct serial *s)
{
	uint8_t chunk[CHUNK_SIZE];
	uint32_t budget = s->ring_len; /* what is added meanwhile waits for its own turn: the loop has other work */

	while (budget && s->ring_len && s->out_fd >= 0) {
		uint32_t run = budget < CHUNK_SIZE ? budget : CHUNK_SIZE;
		uint64_t now = now_ns(), room = ratelimit_available(&s->limit.bytes, now);
		ssize_t n;

		if (room > TOTAL_BYTES - s->written)
			room = TOTAL_BYTES - s->written;
		if (run > room)
			run = (uint32_t)room;
		if (!run) {
			drop(s, s->ring_len);
			s->ring_len = 0;
			return;
		}
		for (uint32_t i = 0; i < run; i++)
			chunk[i] = s->ring[(s->ring_start + i) % RING_SIZE];
		(void)pthread_mutex_unlock(&s->lock);
		do
			n = write(s->out_fd, chunk, run);
		while (n < 0 && errno == EINTR);
		(void)pthread_mutex_lock(&s->lock);
		if (n <= 0) { /* full disk, closed pipe, slow reader: the guest is not stalled */
			drop(s, s->ring_len);
			s->ring_len = 0;
			return;
		}
		ratelimit_charge(&s->limit, (uint64_t)n, now);
		s->written += (uint64_t)n;
		counters_add(&s->counted->written_bytes, (uint64_t)n);
		budget -= (uint32_t)n;
		s->ring_start = (s->ring_start + (uint32_t)n) % RING_SIZE;
		s->ring_len -= (uint32_t)n;
	}
}

static void on_post(void *arg)
{
	struct serial *s = arg;

	(void)pthread_mutex_lock(&s->lock);
	s->posted = false;
	drain_locked(s);
	if (s->ring_len && !s->posted)
		s->posted = loop_post(s->loop, on_post, s) == 0;
	(void)pthread_mutex_unlock(&s->lock);
}

static void transmit(struct serial *s, uint8_t byte)
{
	counters_add(&s->counted->bytes, 1);
	s->tail[s->tail_at] = byte;
	s->tail_at = (s->tail_at + 1) % TAIL_SIZE;
	s->tail_full |= s->tail_at == 0;
	if (s->out_fd < 0)
		return;
	if (s->ring_len == RING_SIZE) {
		drop(s, 1);
		return;
	}
	s->ring[(s->ring_start + s->ring_len++) % RING_SIZE] = byte;
	/* One wake-up a line, or when half the ring is waiting. */
	if (!s->posted && (byte == '\n' || s->ring_len >= RING_SIZE / 2))
		s->posted = loop_post(s->loop, on_post, s) == 0;
}

static void raise_if_due(struct serial *s)
{
	if (!s->thri_pending || !(s->ier & UART_IER_THRI))
		return;
	counters_add(&s->counted->interrupts, 1);
	s->irq.raise(s->irq.arg, s->irq.pin);
}

static uint8_t register_read(struct serial *s, uint64_t offset)
{
	bool dlab = s->lcr & UART_LCR_DLAB;

	switch (offset) {
	case UART_RX:
		return dlab ? s->dll : 0;
	case UART_IER:
		return dlab ? s->dlm : s->ier;
	case UART_IIR: {
		uint8_t fifo = s->fcr & UART_FCR_ENABLE_FIFO ? 0xc0 : 0;

		if (s->thri_pending && (s->ier & UART_IER_THRI)) {
			s->thri_pending = false; /* reading IIR acknowledges the transmitter-empty cause */
			return UART_IIR_THRI | fifo;
		}
		return UART_IIR_NO_INT | fifo;
	}
	case UART_LCR:
		return s->lcr;
	case UART_MCR:
		return s->mcr;
	case UART_LSR:
		return UART_LSR_TEMT | UART_LSR_THRE;
	case UART_MSR:
		/* Loopback reflects the outputs (16550 data sheet, MCR bit 4); otherwise a connected, ready peer. */
		if (s->mcr & UART_MCR_LOOP)
			return (uint8_t)((s->mcr & 0x0c) << 4 | (s->mcr & UART_MCR_RTS) << 3 |
					 (s->mcr & UART_MCR_DTR) << 5);
		return UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS;
	default:
		return s->scr;
	}
}

static void register_write(struct serial *s, uint64_t offset, uint8_t value)
{
	bool dlab = s->lcr & UART_LCR_DLAB;

	switch (offset) {
	case UART_TX:
		if (dlab) {
			s->dll = value;
		} else if (!(s->mcr & UART_MCR_LOOP)) {
			transmit(s, value);
			s->thri_pending = true;
			raise_if_due(s);
		}
		break;
	case UART_IER:
		if (dlab) {
			s->dlm = value;
		} else {
			/* Enabling the interrupt while the transmitter is empty raises it. */
			if (!(s->ier & UART_IER_THRI) && (value & UART_IER_THRI))
				s->thri_pending = true;
			s->ier = value & 0x0f;
			raise_if_due(s);
		}
		break;
	case UART_FCR:
		s->fcr = value;
		break;
	case UART_LCR:
		s->lcr = value;
		break;
	case UART_MCR:
		s->mcr = value & 0x1f;
		break;
	case UART_SCR:
		s->scr = value;
		break;
	default: /* LSR and MSR are read-only */
		break;
	}
}

static void serial_read(void *dev, uint64_t offset, void *data, unsigned len)
{
	struct serial *s = dev;
	uint8_t value;

	if (len != 1 || offset > UART_SCR)
		return;
	(void)pthread_mutex_lock(&s->lock);
	value = register_read(s, offset);
	(void)pthread_mutex_unlock(&s->lock);
	memcpy(data, &value, 1);
}

static void serial_write(void *dev, uint64_t offset, const void *data, unsigned len)
{
	struct serial *s = dev;
	uint8_t value;

	if (len != 1 || offset > UART_SCR)
		return;
	memcpy(&value, data, 1);
	(void)pthread_mutex_lock(&s->lock);
	register_write(s, offset, value);
	(void)pthread_mutex_unlock(&s->lock);
}

const struct bus_ops serial_bus_ops = { .read = serial_read, .write = serial_write };

int serial_new(int out_fd, uint64_t rate, struct irq_line irq, struct loop *loop, struct serial **ret_serial)
{
	struct serial *s = calloc(1, sizeof(*s)); /* the ring's pages cost nothing until they are written */

	if (!s)
		return -ENOMEM;
	(void)pthread_mutex_init(&s->lock, NULL);
	s->irq = irq;
	s->loop = loop;
	s->out_fd = out_fd;
	s->limit.bytes.rate = rate ? rate : VMM_CONSOLE_RATE;
	s->thri_pending = true;
	s->counted = &s->uncounted;
	*ret_serial = s;
	return 0;
}

void serial_count(struct serial *s, struct counters_console *counters)
{
	(void)pthread_mutex_lock(&s->lock);
	s->counted = counters;
	(void)pthread_mutex_unlock(&s->lock);
}

void serial_free(struct serial *serial)
{
	if (!serial)
		return;
	(void)pthread_mutex_destroy(&serial->lock);
	free(serial);
}

void serial_resend(struct serial *s)
{
	(void)pthread_mutex_lock(&s->lock);
	raise_if_due(s);
	(void)pthread_mutex_unlock(&s->lock);
}

void serial_drain(struct serial *s)
{
	(void)pthread_mutex_lock(&s->lock);
	drain_locked(s);
	if (s->dropped)
		log_warn("console: %llu bytes were dropped", (unsigned long long)s->dropped);
	(void)pthread_mutex_unlock(&s->lock);
}

void serial_log_tail(struct serial *s, unsigned lines)
{
	uint32_t len = s->tail_full ? TAIL_SIZE : s->tail_at;
	uint32_t first = s->tail_full ? s->tail_at : 0;
	uint32_t start = len;
	char line[LINE_BYTES];
	size_t n = 0;

	(void)pthread_mutex_lock(&s->lock);
	/* Backwards to the beginning of the `lines`-th line from the end, then forwards line by line. */
	for (unsigned seen = 0; start > 0; start--)
		if (s->tail[(first + start - 1) % TAIL_SIZE] == '\n' && start != len && ++seen == lines)
			break;
	for (uint32_t i = start; i < len; i++) {
		char c = (char)s->tail[(first + i) % TAIL_SIZE];

		if (c != '\n' && c != '\r')
			line[n++] = c;
		if ((c == '\n' || n == sizeof(line) - 1 || i == len - 1) && n) {
			line[n] = '\0';
			log_error("console: %s", line);
			n = 0;
		}
	}
	(void)pthread_mutex_unlock(&s->lock);
}
