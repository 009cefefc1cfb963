// Inside the library: descriptors in the C phases of a child.

#ifndef FORKGUARD_DESCRIPTOR_INTERNAL_H
#define FORKGUARD_DESCRIPTOR_INTERNAL_H

#include "forkguard/descriptor.h"

FORKGUARD_PRIVATE_BEGIN

/// What was done with them in this child.
extern struct descriptors_in_child {
    uint32_t tombstoned, reopened, kept;
    uint32_t failed; // could not be treated as they should; they were tombstoned or closed instead
} descriptors_in_child;

/// Whether any was ever adopted.
bool descriptor_is_used(void);

/// In prepare, with the gate closed: nobody who writes in a section is in the middle of it.
void descriptor_note_offsets(void);

/// In the parent, before the gate opens.
void descriptor_forget_offsets(void);

/// Tombstones, reopens and keeps, in a child whose own table of descriptors this is known to be: one of fork(2)'s.
void descriptor_child(uint64_t generation);

/// Closes everything from 3 on that is neither registered nor in `kept`, which is sorted. After descriptor_child.
void descriptor_close_others(const int *kept, size_t count);

FORKGUARD_PRIVATE_END

#endif
