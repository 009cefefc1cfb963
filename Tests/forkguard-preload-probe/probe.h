// What the scenarios of the preload's probe share. It knows nothing of ForkGuard: run without the preload each scenario is its own control.

#ifndef FORKGUARD_PRELOAD_PROBE_H
#define FORKGUARD_PRELOAD_PROBE_H

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>
#include <unistd.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            dprintf(2, "%s:%d: not so: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno); \
            _exit(1); \
        } \
    } while (0)

void nap(long nanoseconds);
double seconds_now(void);
pthread_t begin(void *(*run)(void *), void *context);

/// Waits for a child, which a SIGALRM of its own ends when it hangs, and counts what became of it.
void settle(pid_t child);
/// After so many forks, or three that hung.
bool is_over(unsigned forks);
/// Counts a fork beside a thread that is inside.
void count_inside(bool is);
/// Prints the counts and exits: 0 when no child hung or did wrong.
_Noreturn void say(const char *what);

// A mutex that four threads hold in turns, and what it protects.
typedef struct guarded {
    pthread_mutex_t mutex;
    atomic_int holders;
    long a, b; // equal whenever nobody has the mutex
} guarded;
void guarded_use(guarded *it, long hold);
void *guarded_use_for_ever(void *it);

void scenario_mutexes(void);
void scenario_recursive(void);
void scenario_conditions(void);
void scenario_rwlocks(void);
void scenario_survivor(void);
void scenario_handlers(void);
void scenario_kept(void);
void scenario_released(void);
void scenario_lost(void);
void scenario_spawns(void);
void scenario_daemon(void);
void scenario_forkpty(void);
void scenario_signals(void);
void scenario_execs(void);
void scenario_closes(void);
void scenario_object(void);
void scenario_who(void);
void scenario_lock(void);
void scenario_pairs(void);
void scenario_contended(void);

#endif
