// Inside the product: Foundation.Process in a forked child.

#ifndef FORKGUARD_RUNTIME_PROCESS_H
#define FORKGUARD_RUNTIME_PROCESS_H

#include <sys/types.h>

#include "forkguard/base.h"

FORKGUARD_PRIVATE_BEGIN

extern int (*real_posix_spawn)(pid_t *, const char *, const void *, const void *, char *const *, char *const *);

/// posix_spawn(3) of libFoundation, which is Process's.
int gated_posix_spawn(pid_t *process, const char *path, const void *actions, const void *attributes, char *const *arguments, char *const *environment);

/// In the child, on its only thread.
void process_become_child(void);

FORKGUARD_PRIVATE_END

#endif
