// Inside the products: the C library's forks, around which the forking thread's sections are kept right.

#ifndef FORKGUARD_RUNTIME_FORKS_H
#define FORKGUARD_RUNTIME_FORKS_H

#include <sys/types.h>

#include "forkguard/base.h"

FORKGUARD_PRIVATE_BEGIN

// What a wrapper calls, found at start.
typedef struct real_forks {
    pid_t (*fork)(void);
    // These call the C library's own fork, by no import and no name.
    int (*forkpty)(int *, char *, const void *, const void *);
    int (*daemon)(int, int);
} real_forks;

extern real_forks real_fork;

pid_t gated_fork(void);
int gated_forkpty(int *terminal, char *name, const void *modes, const void *size);
int gated_daemon(int stays, int keeps);

FORKGUARD_PRIVATE_END

#endif
