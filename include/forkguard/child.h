// The child process, as its parent holds it: waiting with a time-out, signalling without hitting a reused process id.

#ifndef FORKGUARD_CHILD_H
#define FORKGUARD_CHILD_H

#include "base.h"

FORKGUARD_BEGIN

/// A descriptor for a child that was not waited for yet (pidfd_open(2), Linux 5.3), closed on exec; -1 where there is none.
int forkguard_child_open(pid_t child);

/// Waits until the child has ended, and leaves it to be reaped. `descriptor` is what forkguard_child_open returned. `nanoseconds` below 0: for ever.
/// 0, ETIMEDOUT, or ECHILD when somebody has reaped it. Without a descriptor it polls every few milliseconds. Any number of threads.
int forkguard_child_wait(pid_t child, int descriptor, int64_t nanoseconds);

/// Reaps a child that has ended: 0 with `*status` as wait(2) gives it, ETIMEDOUT while it runs, or ECHILD when somebody has reaped it.
int forkguard_child_reap(pid_t child, int *FORKGUARD_NONNULL status);

/// Sends a signal. 0, or ESRCH, EPERM, EINVAL.
int forkguard_child_signal(pid_t child, int descriptor, int signal);

/// Ends a child: flushes standard output and standard error, and calls _exit(2): no atexit handler of the parent's runs. Any thread.
void forkguard_child_exit(int status) __attribute__((noreturn));

FORKGUARD_END

#endif
