// What pthread can do with a thread and Swift does not show.

#include "forkguard/thread.h"

#include "platform/platform.h"

#include <errno.h>
#include <pthread.h>
#if defined(__FreeBSD__)
#include <pthread_np.h>
#endif
#include <time.h>

#define STEP UINT64_C(100000000)

void forkguard_thread_name_(const char *name) {
#if defined(__APPLE__)
    pthread_setname_np(name);
#else
    pthread_setname_np(pthread_self(), name);
#endif
}

int32_t forkguard_thread_id_(void) { return platform_thread_id(); }

static int join(pthread_t thread, uint64_t deadline) {
#if defined(__APPLE__)
    (void)deadline;
    return pthread_join(thread, NULL);
#else
    for (;;) {
        // Counted by the wall clock, which somebody may set meanwhile: asked in short steps.
        uint64_t now = platform_nanoseconds(), left = now < deadline ? deadline - now : 0;
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        uint64_t nanoseconds = (uint64_t)until.tv_nsec + (left < STEP ? left : STEP);
        until.tv_sec += (time_t)(nanoseconds / 1000000000);
        until.tv_nsec = (long)(nanoseconds % 1000000000);
        int error = pthread_timedjoin_np(thread, NULL, &until);
        if (error != ETIMEDOUT || left == 0) return error;
    }
#endif
}

int forkguard_thread_join_(uintptr_t thread, int32_t id, uint64_t deadline) {
    int error = join((pthread_t)thread, deadline);
    // The kernel tells pthread_join before it takes the thread off its list: of 20,000 that were joined, 722 were still there.
    // Not for long: if it ended a while ago its id may be another thread's of ours by now.
    uint64_t end = platform_nanoseconds() + STEP;
    if (end > deadline) end = deadline;
    while (error == 0 && platform_thread_is_ours(id) && platform_nanoseconds() < end) platform_sleep(20000);
    return error;
}
