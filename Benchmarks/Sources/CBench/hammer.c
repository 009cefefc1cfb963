#define _GNU_SOURCE // sched_setaffinity

#include "cbench.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

typedef struct hammer {
    pthread_barrier_t barrier;
    bench_body body;
    void *context;
    bool stop;
    uint64_t calls;
} hammer;

static void *run(void *context) {
    hammer *hammer = context;
    pthread_barrier_wait(&hammer->barrier);
    uint64_t calls = hammer->body(hammer->context, &hammer->stop);
    __atomic_fetch_add(&hammer->calls, calls, __ATOMIC_RELAXED);
    return NULL;
}

double bench_hammer(unsigned threads, uint64_t nanoseconds, bench_body body, void *context) {
    hammer hammer = {.body = body, .context = context};
    pthread_t *handles = calloc(threads, sizeof *handles);
    if (!handles || pthread_barrier_init(&hammer.barrier, NULL, threads + 1) != 0) abort();
    for (unsigned i = 0; i < threads; i++)
        if (pthread_create(&handles[i], NULL, run, &hammer) != 0) abort();
    pthread_barrier_wait(&hammer.barrier);
    uint64_t began = bench_nanoseconds();
    struct timespec time = {.tv_sec = (time_t)(nanoseconds / 1000000000), .tv_nsec = (long)(nanoseconds % 1000000000)};
    nanosleep(&time, NULL);
    __atomic_store_n(&hammer.stop, true, __ATOMIC_RELAXED);
    // Not the time that was asked for: with more threads than processors this one is woken late.
    uint64_t took = bench_nanoseconds() - began;
    for (unsigned i = 0; i < threads; i++) pthread_join(handles[i], NULL);
    pthread_barrier_destroy(&hammer.barrier);
    free(handles);
    return (double)hammer.calls * 1000 / (double)took;
}

void bench_pin(unsigned index) {
    cpu_set_t allowed, wanted;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) abort();
    index %= (unsigned)CPU_COUNT(&allowed);
    int processor = 0;
    while (!CPU_ISSET(processor, &allowed) || index-- > 0) processor++;
    CPU_ZERO(&wanted);
    CPU_SET(processor, &wanted);
    if (sched_setaffinity(0, sizeof wanted, &wanted) != 0) abort();
}

uint64_t bench_work(uint64_t seed, unsigned steps) {
    // Each step needs the one before, so that the processor cannot overlap them.
    for (unsigned i = 0; i < steps; i++) seed = seed * UINT64_C(6364136223846793005) + 1;
    return seed;
}
