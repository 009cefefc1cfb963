// What differs per operating system. One file each: linux.c, darwin.c, freebsd.c. None of these changes errno.

#ifndef FORKGUARD_PLATFORM_H
#define FORKGUARD_PLATFORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "forkguard/base.h"

FORKGUARD_PRIVATE_BEGIN

#define PLATFORM_FOREVER (-1)

/// Sleeps while `*word` is `expected`, at most `nanoseconds`. May return early; callers look again. False when the time was over.
bool platform_wait(const uint32_t *word, uint32_t expected, int64_t nanoseconds);
/// Sleeps for so long; signals may cut it short.
static inline void platform_sleep(uint64_t nanoseconds) {
    const uint32_t never = 0;
    platform_wait(&never, 0, (int64_t)nanoseconds);
}
/// Wakes up to `count` threads that sleep on `word`. Memory that is no longer mapped does no harm.
void platform_wake(const uint32_t *word, int count);

/// Whether `platform_barrier` can be had. Called once, at start.
bool platform_barrier_start(void);
/// Every thread of the process that is running executes a full memory barrier before this returns. False where it was refused.
bool platform_barrier(void);

/// Asks the kernel to hand children a page of zeros. False where it can't, or only pretends to.
bool platform_wipe_on_fork(void *page, size_t size);

/// Whether `pid` uses the same memory as the caller: a vfork or CLONE_VM child with its maker. False when it cannot be told.
bool platform_shares_memory_with(int32_t pid);

uint64_t platform_nanoseconds(void);        // monotonic
int32_t platform_thread_id(void);

/// The calling thread's name, or "".
void platform_own_name(char name[16]);

/// The thread's name, or "" when it has none or is not of this process.
void platform_thread_name(int32_t thread_id, char name[16]);

/// Whether the thread is asleep in the kernel, as one is that waits for a lock. True also where that cannot be told: time alone decides then.
bool platform_thread_sleeps(int32_t thread_id);

/// Whether this process has a thread with this id, or has none. Where that cannot be told, neither.
bool platform_thread_is_ours(int32_t thread_id);
bool platform_thread_is_gone(int32_t thread_id);

/// Copies memory that may have been unmapped meanwhile. False where there is nothing.
bool platform_read(void *to, const void *from, size_t size);

/// Takes the lock that fork(3) itself takes after the handlers, on the C library's list of streams; it may be taken twice by one thread. False where it cannot be
/// had ahead of time, or where fork does not take it. May wait, for whoever has it waits for each stream in turn (fflush(NULL)).
bool platform_lock_streams(void);
void platform_unlock_streams(void);
/// In a child, where the thread that had it may be gone.
void platform_reset_streams(void);

/// pthread_atfork(3), for handlers that stay until the process is gone.
int platform_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void));

// For a child's descriptors. All four are async-signal-safe.

/// A descriptor on which nothing can be done; -1 with errno.
int platform_open_tombstone(void);
/// Whether it can be one: not what somebody opened there since.
bool platform_is_tombstone(int number);
/// Puts what `from` stands for over `number`; closed on exec if so wished.
bool platform_replace(int from, int number, bool closes_on_exec);
/// Opens the file of `number` again, by another open file description; -1 where it cannot be had.
int platform_reopen(int number, int flags);
/// Closes every descriptor from `first` to `last`.
void platform_close_range(int first, int last);

/// Keeps the library that contains `address` loaded for good. dlclose would leave our handlers behind, and the next fork would jump
/// into unmapped memory.
void platform_pin(const void *address);

FORKGUARD_PRIVATE_END

#endif
