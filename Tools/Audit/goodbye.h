#ifndef AUDIT_GOODBYE_H
#define AUDIT_GOODBYE_H

#include <stddef.h>

// The longest message looked at whole.
#define GOODBYE_SIZE 64

// The name of the farewell that a message to a peer is, or NULL. `size` may be more than the bytes that are there: those are at most GOODBYE_SIZE.
const char *goodbye_name(const unsigned char *bytes, size_t size);

#endif
