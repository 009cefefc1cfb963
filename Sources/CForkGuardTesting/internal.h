#ifndef FGT_INTERNAL_H
#define FGT_INTERNAL_H

#include "CForkGuardTesting.h"

#include <stdatomic.h>
#include <sys/types.h>

#define FGT_MAX_ESCAPED 64

struct fgt_channel {
    int32_t runner;
    _Atomic int32_t child;
    bool sharing_files;
    _Atomic bool lost;
    _Atomic bool stop;
    _Atomic uint32_t escaped;
    _Atomic int32_t escaped_pid[FGT_MAX_ESCAPED];
    _Atomic uint64_t length;
    int report;
    dev_t device;
    ino_t inode;
    int read_end[2];   // of standard output and of standard error; the runner's
    int write_end[2];  // the child's
    bool write_ends_closed;  // by the runner; the numbers stay, since the child finds its own in them
};

// An unlinked file, close-on-exec, or -1.
int fgt_anonymous_file(void);

#endif
