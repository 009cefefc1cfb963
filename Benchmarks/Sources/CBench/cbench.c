#include "cbench.h"

#include <sched.h>
#include <time.h>

uint64_t bench_plain_generation = 1;

uint64_t bench_nanoseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

void bench_spin(bench_spinlock *lock) {
    for (unsigned tries = 1;; tries++) {
        uint32_t expected = 0;
        if (__atomic_load_n(&lock->word, __ATOMIC_RELAXED) == 0
            && __atomic_compare_exchange_n(&lock->word, &expected, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return;
        if (tries % 100 == 0) sched_yield();
    }
}
