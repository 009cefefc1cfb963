// What must hold, whoever runs when: locks with data, and what a fork may find of them.

#ifndef ORACLE_H
#define ORACLE_H

#include "scheduler.h"

#include "forkguard.h"

enum { MOST_BOXES = 6 };

/// A lock and what it protects, which is whole when both are equal.
typedef struct box {
    forkguard_lock_t lock;
    unsigned a, b;
    const thread *inside;
    unsigned taken;  // in which process: by oracle_depth()
    bool torn;       // in this process: a thread that is gone was inside
    uint32_t reason; // and why it was not waited for
    bool dropped;
} box;

extern box boxes[MOST_BOXES];

/// A pthread mutex and what it protects: M is a registered lock that knows no gate, K is gated (section.h), H is known to nobody.
typedef struct mutex_box {
    pthread_mutex_t mutex;
    unsigned a, b;
    const thread *inside;
    bool torn, told; // a thread that is gone was inside; ForkGuard said so
} mutex_box;

enum { MUTEX_FOREIGN, MUTEX_GATED, MUTEX_OTHERS, MOST_MUTEXES };
extern mutex_box mutexes[MOST_MUTEXES];

/// What a fork of the scenario may do that is not everyday.
enum allowed {
    MAY_WINDOW = 1,  // open the gate again
    MAY_LATE = 2,    // go ahead at its deadline
    MAY_BREACH = 4,  // let a parked thread in
    MAY_NO_TURN = 8, // not get its turn
    MAY_REFUSE = 16, // forkguard_fork refuses
    MAY_WINDOW_ONCE = 32, // until one fork was late
    MAY_LATE_ONCE = 64,
};

/// What happened, over all schedules.
typedef struct tally {
    uint64_t forks, children, refused, windows, lent, torn[8], bypassed, told;
} tally;
extern tally *counted;

void oracle_start(unsigned allowed, unsigned depth, unsigned marks_nobody, bool has_hooks);
/// Whether what time decides may come out either way.
extern bool oracle_hasty;

/// When all threads have ended.
void oracle_end(void);

void box_take(box *box);
bool box_try(box *box);
void box_leave(box *box);

void mutex_box_take(unsigned which);
void mutex_box_leave(unsigned which);
void mutex_box_check_in_child(unsigned which);

/// The forks: 0 in the child.
pid_t oracle_fork(void);
pid_t oracle_guarded_fork(uint32_t flags);
pid_t oracle_bypassing_fork(bool asks); // asks: in the child, before any other thread does
unsigned oracle_depth(void); // 0: the first process

/// Run in a thread of each child.
extern void (*oracle_in_child)(void);
/// Others' handlers: before ours, and after it, in prepare; and before ours in the child.
extern void (*oracle_before)(void), (*oracle_after)(void), (*oracle_early)(void);

/// Hooks, as registered; `oracle_hook` runs in prepare.
extern void (*oracle_hook)(void);
int oracle_prepare_hook(void *context), oracle_parent_hook(void *context), oracle_child_hook(void *context), oracle_torn(void *context);

#endif
