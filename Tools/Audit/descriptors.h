#ifndef AUDIT_DESCRIPTORS_H
#define AUDIT_DESCRIPTORS_H

// Which descriptors were open at a fork, and who has used them since.

#include "json.h"
#include "process.h"

typedef enum use {
    USE_READ, USE_WRITE, USE_SEEK, USE_SHUTDOWN, USE_EPOLL_CTL, USE_EPOLL_WAIT, USES
} use;

#define DESCRIPTORS 65536

typedef struct shared_descriptor {
    uint64_t inode, device;
    int number;          // that it had at the fork; -1: it is not shared
    unsigned first;      // of this process's own forks, that it was open at; 0: none
    unsigned stamp;      // the last fork that found it open
    unsigned told[USES]; // up to which of this process's own forks its uses are told
    uint8_t ancestor;    // the first of the lineage's forks that it was open at, from 1; 0: none
    uint8_t ancestor_told; // a bit per use
    bool socket, said_goodbye;
} shared_descriptor;

extern shared_descriptor *audit_descriptors;

bool descriptors_start(void);
void descriptors_take_over(bool seen);
// All that are open, into a packet about fork `number`, and from then on they are watched.
void descriptors_list(json *packet, unsigned number);

static inline shared_descriptor *descriptor_shared(int fd) {
    if (!audit_on || (unsigned)fd >= DESCRIPTORS) return NULL;
    shared_descriptor *descriptor = &audit_descriptors[fd];
    return UNLIKELY(descriptor->first || descriptor->ancestor) ? descriptor : NULL;
}

void descriptor_used(int fd, use use, void *caller);
// The same for what is written, and for the last of it: a farewell is told as such.
void descriptor_written(int fd, const struct iovec *parts, size_t count, void *caller);
void descriptor_shut_down(int fd, void *caller);

void descriptors_closed(int first, int last);
void descriptors_duplicated(int from, int to);

static inline void USED(int fd, use use, void *caller) {
    if (UNLIKELY(descriptor_shared(fd) != NULL)) descriptor_used(fd, use, caller);
}

#endif
