// Gated sections without a lock word of ours: for those who put other locks, and code that may not be cut in two, inside the gate.
//
// A thread counts itself in before it takes anything that a child must find free, and out after it has let go. A fork waits until nobody is
// inside. While a thread sleeps for a lock it is counted out; the lock may be handed to it at any time, also while the gate is closed. Between here and there
// lies the one difficulty: a thread that wakes up with a lock that it has not counted yet. It leaves a note before it sleeps. If it wakes beside a closed gate it has
// run none of its own code: it lets go, and waits at the gate. If the fork came in between, the child finds the note and makes the lock free: whatever the lock
// protects was not touched.

#ifndef FORKGUARD_SECTION_H
#define FORKGUARD_SECTION_H

#include "gate.h"

FORKGUARD_BEGIN

forkguard_slot *FORKGUARD_NULLABLE forkguard_section_begin_slow(void);
void forkguard_section_enter_slow(forkguard_slot *FORKGUARD_NONNULL slot);

/// The first half of forkguard_section_begin, for a thread that has a slot: counts it in. False: call forkguard_section_enter_slow before anything else.
FORKGUARD_INLINE bool forkguard_section_enter(forkguard_slot *FORKGUARD_NONNULL slot) FORKGUARD_BODY({
    __atomic_store_n(&slot->held, slot->held + 1, __ATOMIC_RELAXED); // R1
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return FORKGUARD_LIKELY(__atomic_load_n(&forkguard_page.word.gate, __ATOMIC_ACQUIRE) == FORKGUARD_GATE_OPEN); // R2
})

/// Begins a section, and returns the thread's slot; waits while a fork is being prepared, unless the thread is in a section already. NULL: the
/// thread's slot is just being made, on this thread; there is no section, do not end it. Any thread, any side of a fork; not in signal handlers.
FORKGUARD_INLINE forkguard_slot *FORKGUARD_NULLABLE forkguard_section_begin(void) FORKGUARD_BODY({
    forkguard_slot *slot = forkguard_thread_slot;
    if (!FORKGUARD_LIKELY(slot != NULL)) return forkguard_section_begin_slow();
    if (!FORKGUARD_LIKELY(forkguard_section_enter(slot))) forkguard_section_enter_slow(slot);
    __atomic_store_n(&slot->locks[(slot->held - 1) % FORKGUARD_LOCKS_REMEMBERED], NULL, __ATOMIC_RELAXED); // noted by nobody yet
    return slot;
})

forkguard_slot *FORKGUARD_NULLABLE forkguard_section_slot_slow(void);

/// The calling thread's slot, or NULL when it has none yet. Any thread, any side of a fork.
FORKGUARD_INLINE forkguard_slot *FORKGUARD_NULLABLE forkguard_section_slot(void) FORKGUARD_BODY({
    forkguard_slot *slot = forkguard_thread_slot;
    return FORKGUARD_LIKELY(slot != NULL) ? slot : forkguard_section_slot_slow();
})

/// Ends a section that the calling thread began.
FORKGUARD_INLINE void forkguard_section_end(forkguard_slot *FORKGUARD_NONNULL slot) FORKGUARD_BODY({
    __atomic_store_n(&slot->held, slot->held - 1, __ATOMIC_RELEASE);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (!FORKGUARD_LIKELY(__atomic_load_n(&forkguard_page.word.gate, __ATOMIC_RELAXED) == FORKGUARD_GATE_OPEN))
        forkguard_gate_left(slot);
})

/// What a section is for, where the lock itself can tell who has it.
enum forkguard_section_kind {
    FORKGUARD_SECTION_MUTEX = 1,  // a pthread_mutex_t
    FORKGUARD_SECTION_RWLOCK = 2, // a pthread_rwlock_t that is about to be written
};

/// Notes what the section that was just begun is for. A fork that still finds the thread inside at its deadline looks here for what holds
/// it up, and later ones do not wait for that lock any more until the thread has let go of it.
FORKGUARD_INLINE void forkguard_section_note(
    forkguard_slot *FORKGUARD_NONNULL slot, const void *FORKGUARD_NONNULL lock, enum forkguard_section_kind kind
) FORKGUARD_BODY({
    struct forkguard_lock *noted = (struct forkguard_lock *)((uintptr_t)lock | kind);
    __atomic_store_n(&slot->locks[(slot->held - 1) % FORKGUARD_LOCKS_REMEMBERED], noted, __ATOMIC_RELAXED);
})

/// The calling thread is about to let go of a lock that it noted, and `slot->keeps` is set: forks wait for it again. Before it is unlocked,
/// or given away by a wait.
void forkguard_section_let_go(forkguard_slot *FORKGUARD_NONNULL slot, const void *FORKGUARD_NONNULL lock);

/// What is known of a lock that threads sleep for in sections. All are async-signal-safe and neither take locks nor allocate.
typedef struct forkguard_sleep_operations {
    /// The id of the thread that has it, as a pthread mutex notes it (the kernel's), or 0: nobody, or it cannot be told. The lock is there.
    int32_t (*FORKGUARD_NONNULL owner)(const void *FORKGUARD_NONNULL lock);
    /// In the child: the thread `sleeper` of the parent slept for the lock, or on the condition, and is gone. Makes the lock free if it had been handed to it. When
    /// `letting_go` it had just been, and may have been let go of again and freed: memory that may not be there any more.
    void (*FORKGUARD_NONNULL vanished)(
        void *FORKGUARD_NONNULL lock, void *FORKGUARD_NULLABLE condition, int32_t sleeper, bool letting_go
    );
} forkguard_sleep_operations;

/// Counts the section out and leaves a note: the thread is about to sleep for `lock`, or on `condition` which gives `lock` back. Call it with the section begun and the lock not taken
/// (or about to be given away by the wait).
void forkguard_section_sleep(
    forkguard_slot *FORKGUARD_NONNULL slot, void *FORKGUARD_NONNULL lock, void *FORKGUARD_NULLABLE condition,
    const forkguard_sleep_operations *FORKGUARD_NONNULL operations
);

/// After the sleep, whether it brought the lock or not: counts in again. True: go on. False: the gate is closed; let go of the lock, if it was had, then call
/// forkguard_section_park and try for the lock again.
bool forkguard_section_wake(forkguard_slot *FORKGUARD_NONNULL slot);
void forkguard_section_park(forkguard_slot *FORKGUARD_NONNULL slot);

/// A condition that is about to be freed: notes of it are forgotten. Any thread.
void forkguard_section_forget(const void *FORKGUARD_NONNULL condition);

/// For a thread in a hook, before it sleeps for a lock that the thread `owner` has: how long it may sleep at most, in nanoseconds, before it calls this again. 0: as long
/// as it likes. When that thread waits for its turn to fork, it has it now, before this returns.
uint64_t forkguard_section_patience(forkguard_slot *FORKGUARD_NONNULL slot, int32_t owner);

/// Copies memory that may not be there any more; false when it is not. Async-signal-safe.
bool forkguard_read_memory(void *FORKGUARD_NONNULL to, const void *FORKGUARD_NONNULL from, size_t size);

/// Whether the thread with this kernel id is gone: it did not survive a fork. False where it cannot be told. Only a process that was forked asks the
/// kernel.
bool forkguard_thread_vanished(int32_t thread_id);

/// How many ids forkguard_survivor_ids knows at most.
#define FORKGUARD_SURVIVOR_IDS 16

/// The kernel ids that the thread which survived the forks up to here had in its ancestors, where they can be known, and the one that it has `now`; returns
/// how many there are (at most `count` are copied). Whatever cached a thread id there has one of these still. Any thread.
size_t forkguard_survivor_ids(int32_t *FORKGUARD_NONNULL ids, size_t count, int32_t *FORKGUARD_NONNULL now);

/// The thread that survived only waits for the process to end: it takes no locks any more, and forkguard_survivor_ids knows none. With ForkGuardRuntime
/// the main queue's blocks, and with them the main actor's, are run by libdispatch's other threads from now on. In a child, on that thread.
void forkguard_survivor_rests(void);

FORKGUARD_END

#endif
