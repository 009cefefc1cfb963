// An object with a copy of the library of its own, which a host opens. Its locks are taken by the host's threads too.

#include "copy_of.h"

copy_entry_function copy_entry;

const copy_of *copy_entry(void) { return &own; }

#if defined(STARTS_EARLY)

#include <pthread.h>

static void *use(void *context) {
    take();
    leave();
    return context;
}

// Before the library's own constructor, while dlopen has the dynamic linker's lock: a thread that starts the library must not wait for that.
__attribute__((constructor(101))) static void start_early(void) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, use, NULL) == 0) pthread_join(thread, NULL);
}

#endif
