// What the scenarios of the probe share. The probe is a process of its own for what cannot be tried inside a test runner: a kernel that refuses
// system calls before the library starts, traps, an interposed allocator, forks during exit.

#ifndef PROBE_H
#define PROBE_H

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "forkguard.h"

typedef int (*scenario)(void);

/// Refuses a system call from here on, in this thread and those it makes, with an errno; 0 as errno fakes success.
void deny(const char *system_call, int error);

/// The same in every thread.
void deny_everywhere(const char *system_call, int error);

/// Ends the process with a message unless `condition` holds.
#define CHECK(condition)                                                                                                          \
    do {                                                                                                                          \
        if (!(condition)) {                                                                                                       \
            dprintf(2, "%s:%d: not so: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno);                                  \
            _exit(1);                                                                                                             \
        }                                                                                                                         \
    } while (0)

/// Waits for a child that must exit with 0.
void check_child(pid_t child);
/// How a child ended, as wait(2) gives it; killed by SIGALRM when it takes over 20 s, if it set its alarm.
int wait_for(pid_t child);

/// Threads that lock and unlock `locks`, until the process ends; returns when each has begun.
void hammer(forkguard_lock_t *locks, unsigned count, unsigned threads);

/// A thread, to be joined or detached.
pthread_t start(void *(*run)(void *), void *context);

/// A thread that calls fflush(NULL) for ever: it holds the list of streams, which fork(3) wants, while it waits for each stream.
void *flush_all(void *context);

/// pthread_atfork(3), for handlers that stay: glibc aborts a fork during exit whose handlers are being taken away (platform/linux.c).
void atfork_for_good(void (*prepare)(void), void (*parent)(void), void (*child)(void));

/// Ways to fork that libc does not see.
pid_t fork_by_underscore(void);
pid_t fork_by_system_call(void);
pid_t fork_by_clone(void);
pid_t fork_by_clone3(void);

int scenario_start(void);
int scenario_methods(void);
int scenario_discovery_race(void);
int scenario_shared_memory(void);
int scenario_fork_fails(void);
int scenario_quiet(void);
int scenario_child_phases(void);
int scenario_exit(void);
int scenario_sandbox(void);
int scenario_survivor(void);
int scenario_chain(void);
int scenario_two_forkers(void);
int scenario_woken(void);
int scenario_parked_stream(void);
int scenario_hook_fork(void);
int scenario_many_forks(void);
int scenario_no_memory(void);
int scenario_lock_twice(void);
int scenario_unlock_free(void);
int scenario_unlock_other(void);
int scenario_torn(void);
int scenario_survivor_unlock(void);
int scenario_stubbed(void);
int scenario_unknown_survivor(void);
int scenario_foreign_let_go(void);
int scenario_early_handler(void);
int scenario_signals(void);
int scenario_cancelled(void);
int scenario_carried_wake(void);
int scenario_cancelled_alone(void);
int scenario_bystanders(void);
int scenario_both_hold(void);
int scenario_borrower(void);
int scenario_owed_fork(void);
int scenario_without_turn(void);
int scenario_unknown_breach(void);
int scenario_hook_streams(void);
int scenario_first_thread(void);
int scenario_slot_again(void);
int scenario_first_use_cancelled(void);
int scenario_foreign(void);
int scenario_foreign_control(void);
int scenario_foreign_own(void);
int scenario_foreign_torn(void);
int scenario_foreign_chain(void);
int scenario_foreign_wrong(void);
int scenario_foreign_both_hold(void);
int scenario_foreign_again(void);
int scenario_handler_fork(void);
int scenario_foreign_stream(void);
int scenario_foreign_late(void);
int scenario_descriptors(void);
int scenario_descriptors_stubbed(void);
int scenario_descriptors_quiet(void);
int scenario_descriptors_denied(void);
int scenario_descriptors_odd(void);
int scenario_condition(void);
int scenario_condition_control(void);
int scenario_condition_unlocked(void);

#endif
