/* What the parts of the receipt's document share (receipt.c, receipt_devices.c). Values given are taken over. */
#ifndef LIB_RECEIPT_JSON_H
#define LIB_RECEIPT_JSON_H

#include <json-c/json.h>
#include <stdint.h>

#include "lib/receipt.h"

void receipt_add(json_object *o, const char *name, json_object *value);
void receipt_add_number(json_object *o, const char *name, uint64_t value);
void receipt_add_string(json_object *o, const char *name, const char *value); /* NULL: null */

/* receipt_devices.c: what devices and vCPUs did, the VMM's word. */
json_object *receipt_devices(const struct receipt *receipt);

#endif
