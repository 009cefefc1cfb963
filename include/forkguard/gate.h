// The gate: no thread is inside a gated section while a fork copies the process.
//
// The protocol, and why it is sound, is written in Sources/CForkGuard/gate.c; its rules are numbered in Model/rules.md.
// Here is the half that must be inline: how a thread counts itself in and out.

#ifndef FORKGUARD_GATE_H
#define FORKGUARD_GATE_H

#include "base.h"
#include "generation.h"

FORKGUARD_BEGIN

struct forkguard_lock;
struct forkguard_sleep_operations;

/// What the gate's word may hold. Only OPEN lets the fast path through, so everything else (a fork that is being prepared, a child
/// that does not know yet that it is one, a kernel without membarrier) is one compare.
enum forkguard_gate {
    FORKGUARD_GATE_UNKNOWN = 0, // wiped: a child whose handlers did not run, or a library that is not started
    FORKGUARD_GATE_OPEN = 1,
    FORKGUARD_GATE_FENCED = 2, // open, but there is no membarrier: every thread fences for itself
    FORKGUARD_GATE_CLOSED = 3,
    FORKGUARD_GATE_OWED = 4, // open, and child hooks are to be run by the first thread that is inside no section
};

#define FORKGUARD_LOCKS_REMEMBERED 8
#define FORKGUARD_LOCKS_KEPT 4

/// What the gate knows about a thread. Slots live in memory that is never freed; thread-local storage only points to them,
/// because a new thread of a child gets the addresses of a vanished thread's thread-local storage.
typedef struct forkguard_slot {
    // Written by the thread at every lock.
    uint64_t serial; // of the thread; never reused, kept over a fork; 0: the slot is free
    uint64_t word;   // what this thread writes into the word of a lock that it takes
    uint32_t held;   // how many gated sections the thread is in
    int32_t thread_id; // the kernel's, for reports
    int32_t mutex_id;  // what the C library notes in a mutex that this thread has
    uint32_t lost;     // how many of its sections nothing ends any more (R23)
    uint32_t keeps;    // whether it may have locks that no fork waits for any more: `lifelong` (R23)
    char thread_name[16]; // as it was when the slot was made
    // What the thread took last, by depth: a hint for reports, checked against the lock's word before it is believed. With the two lowest bits clear; else what
    // forkguard_section_note says.
    struct forkguard_lock *FORKGUARD_NULLABLE locks[FORKGUARD_LOCKS_REMEMBERED];

    // What the thread still had when a fork's deadline was over, in the form of forkguard_section_note. Forkers add, the thread itself takes away.
    const void *FORKGUARD_NULLABLE lifelong[FORKGUARD_LOCKS_KEPT];

    // Written when it sleeps or forks.
    struct forkguard_lock *FORKGUARD_NULLABLE blocked_on; // its note
    void *FORKGUARD_NULLABLE sleeps_for; // its note for a lock that is not ours (section.h)
    void *FORKGUARD_NULLABLE sleeps_on;  // the condition that gives it back, or NULL
    const struct forkguard_sleep_operations *FORKGUARD_NULLABLE sleep_operations;
    uint32_t letting_go;     // that lock had been handed to it beside a closed gate: it may be gone any moment
    uint32_t sequence;       // grows whenever the note is written or cleared
    uint32_t pinned;         // 1 while somebody reads the note or its owner clears it
    uint32_t waits_for_turn; // it waits for its turn to fork, or has lent it
    uint32_t mark;           // enum forkguard_mark: why what it held at a fork is torn
    uint64_t ticket;         // order among those that wait for their turn
    struct forkguard_slot *FORKGUARD_NULLABLE lender; // whose turn this thread borrowed
    uint32_t fork_state;     // how this thread's own fork goes (atfork.c)
    uint32_t nested_forks;   // raw forks under way that were called inside a hook
    uint32_t ours;           // whether forkguard_fork is to end what it prepared (atfork.c)
    uint32_t yields;         // it let others fork first, because they were inside, and waits again (forkguard_fork)
    uint32_t uncancellable;  // how many calls hold off its cancellation
    int32_t cancel_state;    // as it was before
    const void *FORKGUARD_NULLABLE kept; // forkguard_fork_closing: what its child does not close
    bool closes;             // and the child of the fork that is under way is that one

    // Threads to be woken once `wakes_after` is unlocked (condition.c).
    struct forkguard_lock *FORKGUARD_NULLABLE wakes_after;
    const uint32_t *FORKGUARD_NULLABLE wakes_on;
    int32_t wakes;

    // The forker's, while it walks over who is blocked on whom.
    uint32_t walk_sequence;
    uint32_t walk_stuck;
    uint32_t walk_waited;
    uint32_t walk_inside;
    uint32_t walk_kept;

    uint32_t doors; // how many forks that it is in the middle of went through the door (atfork.c)
} __attribute__((aligned(64))) forkguard_slot;

// initial-exec: one load from the thread pointer also in a shared library. glibc keeps room for such variables of libraries that are
// opened late ("static TLS surplus", 1,664 bytes); musl keeps none and would refuse to load the library.
#if defined(__GLIBC__)
#define FORKGUARD_TLS_MODEL __attribute__((tls_model("initial-exec")))
#else
#define FORKGUARD_TLS_MODEL
#endif

/// NULL: the thread has no slot yet; or another copy of the library leads this one (Sources/CForkGuard/copy.h), and knows it.
extern FORKGUARD_THREAD_LOCAL forkguard_slot *FORKGUARD_NULLABLE forkguard_thread_slot FORKGUARD_TLS_MODEL;

/// After counting out while the gate is not OPEN. (R8)
void forkguard_gate_left(forkguard_slot *FORKGUARD_NONNULL slot);

uint32_t forkguard_sections_held_slow(void);

/// How many gated sections the calling thread is in: how many locks it holds.
FORKGUARD_INLINE uint32_t forkguard_sections_held(void) FORKGUARD_BODY({
    forkguard_slot *slot = forkguard_thread_slot;
    return FORKGUARD_LIKELY(slot != NULL) ? slot->held : forkguard_sections_held_slow();
})

/// The default time that preparing a fork may take; the environment's FORKGUARD_DEADLINE_MS changes it (1 to 3,600,000).
#define FORKGUARD_DEFAULT_DEADLINE_MS 5000

/// The deadline in force, in milliseconds. Any thread.
uint32_t forkguard_deadline_ms(void);

/// Sets the deadline for later forks. 0, or EINVAL when `milliseconds` is not within 1 and 3,600,000. Any thread.
int forkguard_set_deadline_ms(uint32_t milliseconds);

FORKGUARD_END

#endif
