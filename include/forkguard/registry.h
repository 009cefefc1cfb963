// Who is told about a fork: resources with callbacks.
//
// prepare runs newest first, parent and child oldest first, as pthread_atfork(3) has it. A registration or a cancellation counts
// from the next fork: inside a hook it changes nothing for the fork under way, so that prepare is always followed by parent or child.

#ifndef FORKGUARD_REGISTRY_H
#define FORKGUARD_REGISTRY_H

#include "base.h"

FORKGUARD_BEGIN

/// What a callback returns: 0 for success, any other number (an errno, say) for a failure that the report names and that
/// does not stop the others, or FORKGUARD_GONE when what it belongs to does not exist any more: then it is cancelled.
#define FORKGUARD_GONE (-1)
/// Success, and there is nothing to do here at later forks either: this callback of this resource is not called again.
#define FORKGUARD_UNUSED (-0x7ffffffe) // no errno, negated or not

typedef int (*forkguard_callback)(void *FORKGUARD_NULLABLE context);

enum forkguard_resource_flags {
    /// The child callback runs at the first ForkGuard call of the child that is inside no section, instead of before fork returns.
    FORKGUARD_ON_FIRST_USE = 1,
};

/// The strings are copied. Any callback may be NULL. The callbacks run on the forking thread; `prepare` and `parent` may do anything but fork or
/// wait for a thread that forks; `child` must not wait for threads, which do not exist there.
typedef struct forkguard_resource {
    const char *FORKGUARD_NULLABLE name;
    forkguard_callback FORKGUARD_NULLABLE prepare;
    forkguard_callback FORKGUARD_NULLABLE parent; // also when the fork failed
    forkguard_callback FORKGUARD_NULLABLE child;
    /// FORKGUARD_GONE when the resource does not exist any more. Asked now and then when others register, so that a process that never forks
    /// does not collect the dead.
    forkguard_callback FORKGUARD_NULLABLE probe;
    /// Called once, after the registration was cancelled and no fork uses it. In a child it is not called for what the parent cancelled.
    void (*FORKGUARD_NULLABLE release)(void *FORKGUARD_NULLABLE context);
    void *FORKGUARD_NULLABLE context;
    uint32_t flags;
} forkguard_resource;

/// Registers a resource: an id that is never 0 and never reused, or 0 with errno (ENOMEM, or ENOSPC beyond 16,777,215 live registrations).
/// Any thread, also inside hooks.
uint64_t forkguard_register_resource(const forkguard_resource *FORKGUARD_NONNULL resource);

/// Cancels a registration. 0, or ENOENT for one that is unknown or cancelled already, which does no harm. Any thread, also inside hooks.
int forkguard_unregister(uint64_t id);

/// The name of the hook that the calling thread is in, or NULL. It lives as long as the registration.
const char *FORKGUARD_NULLABLE forkguard_current_hook(void);

/// The name of the hook that any thread is in just now, or NULL. For saying what a fork that waits for its turn waits for. A snapshot.
const char *FORKGUARD_NULLABLE forkguard_running_hook(void);

/// How many registrations are live. A snapshot.
size_t forkguard_registered_count(void);

FORKGUARD_END

#endif
