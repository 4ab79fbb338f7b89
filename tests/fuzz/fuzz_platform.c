/* The platform's registers (IOAPIC, serial port) under a program of hostile accesses. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bus.h"
#include "dev/serial.h"
#include "ioapic.h"
#include "layout.h"
#include "loop.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct ioapic *ioapic;
static struct serial *serial;

static void unmasked(void *arg, unsigned pin)
{
	(void)arg;
	ioapic_raise(ioapic, pin);
	if (pin == 1)
		serial_resend(serial);
}

static void raise_pin(void *arg, unsigned pin)
{
	(void)arg;
	ioapic_raise(ioapic, pin);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct irq_line irq = { .raise = raise_pin, .pin = 1 };
	struct bus bus = { 0 };
	struct loop *loop;
	int null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

	/* The VM's descriptor is /dev/null: an MSI ends as ENOTTY there, which ioapic_raise() allows for. */
	if (null_fd < 0 || loop_new(&loop) < 0 || ioapic_new(null_fd, 8, unmasked, NULL, &ioapic) < 0 ||
	    serial_new(null_fd, 0, irq, loop, &serial) < 0 ||
	    bus_add(&bus, X86_SERIAL, 0x1000, &serial_bus_ops, serial) < 0 ||
	    bus_add(&bus, X86_IOAPIC, 0x1000, &ioapic_bus_ops, ioapic) < 0)
		abort();
	/* One access: kind and width, register, eight bytes. */
	for (; size >= 10; data += 10, size -= 10) {
		gpa_t base = data[0] & 1 ? X86_SERIAL : X86_IOAPIC;
		unsigned len = 1U << (data[0] >> 1 & 3);
		uint8_t bytes[8];

		memcpy(bytes, data + 2, sizeof(bytes));
		if (data[0] & 0x80)
			ioapic_raise(ioapic, data[1]);
		else if (data[0] & 8)
			bus_write(&bus, base + data[1], bytes, len);
		else
			bus_read(&bus, base + data[1], bytes, len);
	}
	serial_drain(serial);
	serial_log_tail(serial, 5);
	serial_free(serial);
	ioapic_free(ioapic);
	loop_free(loop);
	(void)close(null_fd);
	return 0;
}
