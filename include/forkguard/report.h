// What the last fork did, in a struct of fixed size that parent and child can read.

#ifndef FORKGUARD_REPORT_H
#define FORKGUARD_REPORT_H

#include "base.h"

FORKGUARD_BEGIN

/// Why something held at a fork is torn in the child.
enum forkguard_mark {
    FORKGUARD_MARK_NONE = 0,
    FORKGUARD_MARK_TURN = 1,   // the holder was waiting for its own turn to fork
    FORKGUARD_MARK_CHAIN = 2,  // the holder was blocked on a lock of the forking thread's, or of one that waited to fork
    FORKGUARD_MARK_LATE = 3,   // the holder was still inside at the deadline
    FORKGUARD_MARK_BREACH = 4, // the holder was let in while the fork was under way, because libc's fork seemed to wait for it
    FORKGUARD_MARK_BYPASS = 5, // the fork was not prepared: it ran no handlers, was called inside a hook, or did not get its turn
    FORKGUARD_MARK_ENDED = 6,  // the holder had ended without unlocking
    FORKGUARD_MARK_OWN = 7,    // nothing is torn: forkguard_fork refused, because the calling thread itself holds it
};

/// How a fork was noticed.
enum forkguard_seen {
    FORKGUARD_SEEN_HANDLERS = 0, // pthread_atfork handlers ran
    FORKGUARD_SEEN_LATE = 1,     // discovered by the child after a fork that ran no handler: _Fork, clone, the bare system call
    FORKGUARD_SEEN_NESTED = 2,   // a raw fork inside a hook: not prepared
};

enum forkguard_side { FORKGUARD_PARENT = 1, FORKGUARD_CHILD = 2 };

#define FORKGUARD_NAME_SIZE 48
#define FORKGUARD_REPORT_ENTRIES 8
#define FORKGUARD_REPORT_HOOKS 16
#define FORKGUARD_REPORT_THREADS 16

/// Somebody who held up a fork, or whose section is torn.
typedef struct forkguard_holder {
    int32_t thread_id;
    uint32_t mark; // enum forkguard_mark; NONE for one that only held the fork up
    char thread_name[16];
    char lock_name[FORKGUARD_NAME_SIZE]; // empty when not known
    char lock_place[FORKGUARD_NAME_SIZE]; // file:line
} forkguard_holder;

/// A hook that failed, or a registered lock that could not be used.
typedef struct forkguard_hook_failure {
    char name[FORKGUARD_NAME_SIZE];
    char phase[8]; // prepare, parent, child; lock for what kept a lock from being tried, torn for its callback
    int32_t code;  // what the callback returned
    uint32_t milliseconds; // how long it took; a failure is also one that took longer than the deadline (code ETIMEDOUT)
} forkguard_hook_failure;

/// A hook that ran.
typedef struct forkguard_hook_run {
    char name[FORKGUARD_NAME_SIZE];
    char phase[8]; // prepare, parent, child
    uint64_t nanoseconds;
} forkguard_hook_run;

/// A thread of the parent that the child does not have.
typedef struct forkguard_thread {
    int32_t thread_id; // in the parent
    char name[16];     // when it first took a lock, or ""
} forkguard_thread;

typedef struct forkguard_report {
    uint64_t ordinal;    // of the fork among those this process and its ancestors saw prepared or discovered
    uint64_t generation; // of the process that reads
    uint32_t side;       // enum forkguard_side
    uint32_t seen;       // enum forkguard_seen
    int32_t error;       // errno of a fork that failed or was refused, as far as ForkGuard was told; 0
    int32_t other_pid;   // parent: the child, when forkguard_fork made it, else 0; child: its parent
    uint32_t windows;    // how often the gate was opened again while preparing
    uint32_t timed_out;  // preparing took until the deadline
    uint32_t no_turn;    // another fork's hooks did not end by the deadline
    uint32_t prepared_threads; // how many other threads the gate knew
    uint32_t breaches; // how often a parked thread was let in while the fork was under way, because fork() itself seemed to wait for it
    uint32_t stale_thread_ids; // child: what cached the forking thread's id has the parent's, and ForkGuardRuntime's cure for that is not on
    uint64_t turn_nanoseconds;
    uint64_t prepare_nanoseconds; // prepare hooks
    uint64_t gate_nanoseconds;    // closing the gate, waiting for those inside, taking the foreign locks
    uint64_t copy_nanoseconds;    // from the closed gate to the parent's or child's handler
    uint64_t child_nanoseconds;   // child: the C phases
    uint64_t after_nanoseconds;   // parent or child hooks
    uint32_t foreign_locks;         // registered ones
    uint32_t foreign_reinitialized; // child: made anew
    uint32_t foreign_own;           // child: the forking thread's, and still its own
    uint32_t descriptors_tombstoned; // child: of those that were adopted
    uint32_t descriptors_reopened;
    uint32_t descriptors_kept;
    uint32_t descriptors_failed;    // of those that were to be reopened: tombstoned instead; or closed, where there was no tombstone to be had
    uint32_t torn_holders_count; // threads inside at the copy; the first ones are listed. Those that were let in are known to the child only
    uint32_t hook_failures_count;
    uint32_t hooks_count;    // how many ran; the first ones are listed, of which a slower one that came later displaces the fastest
    uint32_t vanished_count; // child: threads of the parent that used ForkGuard and that it does not have; the first ones are listed
    char waited_hook[FORKGUARD_NAME_SIZE]; // no_turn: the hook of the other fork, or empty
    forkguard_holder blocker; // who was inside longest while the gate was being closed; all empty: nobody for over 1 ms
    // Only the elements that are counted above mean anything.
    forkguard_holder torn_holders[FORKGUARD_REPORT_ENTRIES];
    forkguard_hook_failure hook_failures[FORKGUARD_REPORT_ENTRIES];
    forkguard_hook_run hooks[FORKGUARD_REPORT_HOOKS];
    forkguard_thread vanished[FORKGUARD_REPORT_THREADS];
} forkguard_report;

/// Copies the report of the last fork that this process was parent or child of. 0, or ENOENT when there was none. Any thread. A child's own is there
/// once its hooks have run; until then there is none, after a fork that ran no handlers a first one without hooks.
int forkguard_last_report(forkguard_report *FORKGUARD_NONNULL report);

/// Formats a report as lines of text: the number of bytes, without the closing 0, that it took; cut at `size`.
size_t forkguard_report_format(const forkguard_report *FORKGUARD_NONNULL report, char *FORKGUARD_NONNULL text, size_t size);

FORKGUARD_END

#endif
