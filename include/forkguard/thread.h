// What pthread can do with a thread and Swift does not show. Not public: the Swift overlay uses it.

#ifndef FORKGUARD_THREAD_H
#define FORKGUARD_THREAD_H

#include "base.h"

FORKGUARD_BEGIN

/// Names the calling thread; the kernel keeps 15 bytes of it.
void forkguard_thread_name_(const char *FORKGUARD_NONNULL name);

/// The calling thread's id.
int32_t forkguard_thread_id_(void);

/// Waits until the thread with this handle, a pthread_t, and id has ended, and the kernel lists it no more, at most until `deadline`, by
/// forkguard_nanoseconds. 0 when it was joined, ETIMEDOUT when it is still there, and still to be joined. Darwin has no such call, and waits.
int forkguard_thread_join_(uintptr_t thread, int32_t id, uint64_t deadline);

FORKGUARD_END

#endif
