/* serial: the 16550A as Linux drives it, and a flood that costs nobody anything. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <linux/serial_reg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "dev/serial.h"
#include "loop.h"

static unsigned interrupts;
static time_t seconds; /* added to the clock that serial.c sees, which this file's clock_gettime() is */

int clock_gettime(clockid_t clock, struct timespec *ts)
{
	long r = syscall(SYS_clock_gettime, clock, ts);

	ts->tv_sec += seconds;
	return (int)r;
}

static void raise_irq(void *arg, unsigned pin)
{
	(void)arg;
	assert_int_equal(pin, 1);
	interrupts++;
}

struct fixture {
	struct loop *loop;
	struct serial *serial;
	int fd;
};

static int setup(void **state)
{
	static struct fixture f;

	interrupts = 0;
	f.fd = memfd_create("console", MFD_CLOEXEC);
	assert_int_equal(loop_new(&f.loop), 0);
	assert_int_equal(serial_new(f.fd, 0, (struct irq_line){ .raise = raise_irq, .pin = 1 }, f.loop, &f.serial), 0);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	serial_free(f->serial);
	loop_free(f->loop);
	(void)close(f->fd);
	return 0;
}

static void out(struct fixture *f, uint64_t reg, uint8_t value)
{
	serial_bus_ops.write(f->serial, reg, &value, 1);
}

static uint8_t in(struct fixture *f, uint64_t reg)
{
	uint8_t value = 0;

	serial_bus_ops.read(f->serial, reg, &value, 1);
	return value;
}

static void test_bytes_reach_the_file(void **state)
{
	struct fixture *f = *state;
	char back[16] = { 0 };

	for (const char *s = "hello\nxyz"; *s; s++)
		out(f, UART_TX, (uint8_t)*s);
	serial_drain(f->serial);
	assert_int_equal(pread(f->fd, back, sizeof(back), 0), 9);
	assert_string_equal(back, "hello\nxyz");
	assert_int_equal(in(f, UART_LSR), UART_LSR_TEMT | UART_LSR_THRE);
}

static void test_transmitter_interrupt(void **state)
{
	struct fixture *f = *state;

	out(f, UART_IER, UART_IER_THRI);
	assert_int_equal(interrupts, 1);
	assert_int_equal(in(f, UART_IIR) & 0x0f, UART_IIR_THRI);
	assert_int_equal(in(f, UART_IIR) & 0x0f, UART_IIR_NO_INT); /* reading acknowledged it */
	out(f, UART_TX, 'a');
	assert_int_equal(interrupts, 2);
	serial_resend(f->serial); /* its pin was unmasked with the cause still there */
	assert_int_equal(interrupts, 3);
	out(f, UART_IER, 0);
	out(f, UART_TX, 'b');
	assert_int_equal(interrupts, 3);
}

static void test_registers(void **state)
{
	struct fixture *f = *state;
	uint32_t wide = 0x41414141;

	out(f, UART_LCR, UART_LCR_DLAB);
	out(f, UART_DLL, 12);
	out(f, UART_DLM, 3);
	assert_int_equal(in(f, UART_DLL), 12);
	assert_int_equal(in(f, UART_DLM), 3);
	out(f, UART_LCR, 3);
	assert_int_equal(in(f, UART_RX), 0);
	out(f, UART_SCR, 0x77);
	assert_int_equal(in(f, UART_SCR), 0x77);
	out(f, UART_FCR, UART_FCR_ENABLE_FIFO);
	assert_int_equal(in(f, UART_IIR) & 0xc0, 0xc0);
	/* loopback: RTS and DTR come back as CTS and DSR, and nothing is transmitted */
	out(f, UART_MCR, UART_MCR_LOOP | UART_MCR_RTS | UART_MCR_DTR);
	assert_int_equal(in(f, UART_MSR), UART_MSR_CTS | UART_MSR_DSR);
	out(f, UART_TX, 'x');
	out(f, UART_MCR, 0);
	serial_bus_ops.write(f->serial, UART_TX, &wide, 4); /* wrong width: ignored */
	serial_bus_ops.write(f->serial, 0x100, &wide, 1); /* no such register */
	serial_drain(f->serial);
	assert_int_equal(lseek(f->fd, 0, SEEK_END), 0);
}

static void test_flood_is_bounded(void **state)
{
	struct fixture *f = *state;
	off_t size;

	for (unsigned i = 0; i < 1000000; i++)
		out(f, UART_TX, i % 80 ? 'x' : '\n');
	serial_drain(f->serial);
	size = lseek(f->fd, 0, SEEK_END);
	assert_true(size > 0 && size <= 65536); /* the ring's worth: nobody drained it meanwhile */
}

/* However slowly a guest writes: the file is on somebody's disk, and takes 64 MiB of a VM's life. */
static void test_life_is_bounded(void **state)
{
	static const off_t cap = 64 << 20;
	struct fixture *f = *state;
	off_t total = 0;

	for (unsigned turn = 0; turn < 1200; turn++) {
		seconds++; /* the rate's limit is another one */
		for (unsigned i = 0; i < 60000; i++)
			out(f, UART_TX, 'x');
		serial_drain(f->serial);
		total += lseek(f->fd, 0, SEEK_END);
		assert_int_equal(ftruncate(f->fd, 0), 0);
		assert_int_equal(lseek(f->fd, 0, SEEK_SET), 0);
		if (turn == 100)
			assert_int_equal(total, 101 * 60000);
	}
	assert_true(total >= cap && total <= cap + 65536);
}

/* A low rate lets what fits pass, cut anywhere, and drops the rest. */
static void test_rate(void **state)
{
	struct fixture *f = *state;
	struct serial *slow;
	off_t size;

	assert_int_equal(serial_new(f->fd, 1000, (struct irq_line){ .raise = raise_irq, .pin = 1 }, f->loop, &slow), 0);
	for (unsigned i = 0; i < 5000; i++) {
		uint8_t byte = i % 80 ? 'x' : '\n';

		serial_bus_ops.write(slow, UART_TX, &byte, 1);
	}
	serial_drain(slow);
	serial_drain(slow);
	size = lseek(f->fd, 0, SEEK_END);
	assert_true(size >= 1000 && size < 5000); /* its burst; what time brought meanwhile is little */
	serial_free(slow);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_bytes_reach_the_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_transmitter_interrupt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_registers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flood_is_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_life_is_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rate, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
