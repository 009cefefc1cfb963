// Forking, and the order of the phases.

#ifndef FORKGUARD_ATFORK_H
#define FORKGUARD_ATFORK_H

#include "base.h"
#include "lock.h"
#include "report.h"

FORKGUARD_BEGIN

/// Starts the library: registers its pthread_atfork handlers, finds out how this kernel tells a child from its parent, reads the
/// environment. Runs by itself before main where something refers to the library, and at the first use; calling it again does nothing.
/// What was refused is written to standard error once, and the library goes on without. It starts no thread, opens no descriptor that
/// stays, and installs no signal handler.
void forkguard_start(void);

enum forkguard_fork_flags {
    /// Go on although the calling thread holds registered locks: they stay its own on both sides.
    FORKGUARD_FORK_HOLDING_LOCKS = 1,
    /// Do not flush standard I/O before the fork.
    FORKGUARD_FORK_NO_FLUSH = 2,
};

/// fork(2), but able to refuse: where a raw fork would have to go on with torn locks, this forks not and returns -1 with errno:
///
///     EBUSY      the calling thread holds registered locks (see FORKGUARD_FORK_HOLDING_LOCKS)
///     EDEADLK    called inside a hook
///     ETIMEDOUT  somebody was inside a section, or in another fork's hooks, until the deadline
///     EPERM      a thread that is blocked for as long as this one waits holds a lock: the child would find it torn. Also one of two that
///                call this at the same time while both hold locks
///     EAGAIN, ENOMEM, ENOSYS  fork(2) itself failed
///
/// forkguard_last_report says who; where another fork's turn did not end, forkguard_running_hook does. Any thread; in a child too. Not in signal handlers.
pid_t forkguard_fork(uint32_t flags);

/// forkguard_fork, and the child closes every descriptor but 0, 1, 2, the `count` ones at `kept`, and those that were adopted (descriptor.h), before
/// its hooks run. ENOMEM too.
pid_t forkguard_fork_closing(uint32_t flags, const int *FORKGUARD_NULLABLE kept, size_t count);

/// Copies the registered locks that the calling thread holds, with their names and places, into `locks`, `count` at most; returns how many it
/// copied. Best effort: the last eight by depth are remembered. The copies are to be read, not locked.
size_t forkguard_held_locks(forkguard_lock_t *FORKGUARD_NONNULL locks, size_t count);

FORKGUARD_END

#endif
