#ifndef CBENCH_H
#define CBENCH_H

#include <stdbool.h>
#include <stdint.h>

uint64_t bench_nanoseconds(void);

/// What a hammering thread runs: it goes on until bench_stopped(stop), and returns how many calls it made.
typedef uint64_t (*bench_body)(void *_Nullable context, const bool *_Nonnull stop);

static inline bool bench_stopped(const bool *_Nonnull stop) { return __atomic_load_n(stop, __ATOMIC_RELAXED); }

/// Runs `body` on that many new threads at once, for about that long. Million calls a second, of all threads together.
double bench_hammer(unsigned threads, uint64_t nanoseconds, bench_body _Nonnull body, void *_Nullable context);

/// Keeps the calling thread on one of the processors that it may use, the one with that index (from 0 on, beginning again after the
/// last).
void bench_pin(unsigned index);

/// Arithmetic that takes time in proportion to `steps`.
uint64_t bench_work(uint64_t seed, unsigned steps);

/// How long the scheduler lets a thread run while others wait, and the period of the tick at which it takes the processor away, in
/// nanoseconds. 0: the kernel does not say.
uint64_t bench_slice_nanoseconds(void);
uint64_t bench_tick_nanoseconds(void);

/// A generation that is a plain global variable: what a check could cost at the least.
extern uint64_t bench_plain_generation;

static inline bool bench_is_plain_generation(uint64_t generation) {
    return __atomic_load_n(&bench_plain_generation, __ATOMIC_ACQUIRE) == generation;
}

/// BoringSSL's, in a program that is linked with swift-crypto: an internal function there, with swift-crypto's prefix.
uint64_t CCryptoBoringSSL_CRYPTO_get_fork_generation(void);

/// A bare compare-and-swap and exchange: what a lock could cost at the least. It knows no queue: who waits tries again, and now and then
/// gives up its processor, which the holder may need.
typedef struct bench_spinlock {
    uint32_t word;
} bench_spinlock;

void bench_spin(bench_spinlock *_Nonnull lock);

static inline void bench_spinlock_lock(bench_spinlock *_Nonnull lock) {
    uint32_t expected = 0;
    if (!__atomic_compare_exchange_n(&lock->word, &expected, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) bench_spin(lock);
}

static inline void bench_spinlock_unlock(bench_spinlock *_Nonnull lock) { __atomic_exchange_n(&lock->word, 0, __ATOMIC_RELEASE); }

#endif
