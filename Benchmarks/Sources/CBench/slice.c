#define _GNU_SOURCE // syscall

#include "cbench.h"

#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

uint64_t bench_slice_nanoseconds(void) {
    // struct sched_attr, which libcs declare only of late. Since Linux 6.12 its runtime is the slice also of threads that are scheduled in
    // the ordinary way.
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attributes = {0};
    if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) == 0 && attributes.runtime != 0) return attributes.runtime;
    struct timespec slice;
    // In whole ticks, rounded down: 0 where a slice is shorter than a tick.
    if (sched_rr_get_interval(0, &slice) != 0) return 0;
    return (uint64_t)slice.tv_sec * 1000000000u + (uint64_t)slice.tv_nsec;
}

uint64_t bench_tick_nanoseconds(void) {
    struct timespec tick;
    return clock_getres(CLOCK_MONOTONIC_COARSE, &tick) == 0 ? (uint64_t)tick.tv_nsec : 0;
}
