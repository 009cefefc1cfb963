// Threads of which one runs at a time, and a seeded choice at each point which one goes on. Time is virtual: it passes when nobody can run.

#ifndef SCHEDULER_H
#define SCHEDULER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

enum { MOST_THREADS = 24 };

struct forkguard_slot;
struct box;

enum thread_state { THREAD_FREE = 0, THREAD_RUNS, THREAD_SLEEPS, THREAD_ENDED, THREAD_VANISHED };

/// What the oracle may know of a thread.
typedef struct thread {
    enum thread_state state;
    int32_t id;                  // the kernel's
    unsigned number;             // of its program
    struct forkguard_slot *slot; // as soon as it has one
    uint64_t serial;             // of that slot
    const struct box *wants;     // what it is about to take
    const pthread_mutex_t *wants_mutex;
    bool ends;                   // its slot is being freed
    bool prepared;               // its fork that is under way was
} thread;

extern thread *current;
thread *scheduler_thread(unsigned index); // NULL: there are no more

/// How one schedule is to be.
typedef struct settings {
    uint64_t seed;
    bool store_buffers; // counts become visible to others late
    bool hasty;         // time may pass although somebody could run
    bool spurious;      // sleeps end for nothing at times
} settings;

/// Once, before all schedules.
void scheduler_start(void);

/// Runs `begin`, which makes threads, and then those until all have ended.
void scheduler_run(const settings *settings, void (*begin)(void));

thread *scheduler_spawn(unsigned number, void (*run)(void));
void scheduler_end_thread(void) __attribute__((noreturn));

/// The calling thread goes on as the one thread of a child: all others vanish where they are.
void scheduler_become_child(void);

uint64_t scheduler_random(uint64_t below);

/// Prints what is wrong and the seed, and ends the process.
void scheduler_fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/// While it is above zero nobody else goes on: for the oracle.
extern unsigned scheduler_paused;
extern bool scheduler_prints;
extern const char *scheduler_name;

/// Called by a thread when it has its slot.
extern void (*scheduler_has_slot)(void);

/// Frees the slot of who began the schedule, which is none of its threads.
void scheduler_free_slot(void *slot);

/// Spinning: who spins may do so while nobody else moves.
void scheduler_pause(void);

void scheduler_point(const char *function, int line, const volatile void *address);
bool scheduler_sleep(const uint32_t *word, uint32_t expected, int64_t nanoseconds);
void scheduler_wake(const uint32_t *word, int count);
uint64_t scheduler_now(void);
bool scheduler_thread_sleeps(int32_t id);
bool scheduler_has_thread(int32_t id);

// Store buffers.
void scheduler_delay(uint32_t *count);
void scheduler_flush(void);
void scheduler_flush_all(void);
uintptr_t scheduler_visible_count(const volatile void *address, uintptr_t loaded);

// The process, to the library.
extern char process_last_message[512];
pid_t process_fork(void);
pid_t process_id(void);
ssize_t process_write(const void *text, size_t size);
void *process_allocate(size_t size);
void *process_reallocate(void *memory, size_t size);
int process_clock(struct timespec *time);
int thread_key_create(pthread_key_t *key, void (*destroy)(void *));
int thread_set_specific(const void *value);
int mutex_try(pthread_mutex_t *mutex);
int mutex_wait_until(pthread_mutex_t *mutex, const struct timespec *end);
int mutex_unlock(pthread_mutex_t *mutex);

/// What this machine is like, and how the process begins.
typedef struct machine {
    bool no_page;    // no MADV_WIPEONFORK
    bool no_barrier; // no membarrier
} machine;
void process_start(const machine *machine);

/// The handlers that pthread_atfork was given.
extern void (*process_prepare)(void), (*process_parent)(void), (*process_child)(void);
/// The kernel's half of a child: a new id, a wiped page, one thread.
void process_become_child(void);

void mutex_lock(pthread_mutex_t *mutex);

/// Whether memory was given back: who reads there is wrong.
bool process_is_freed(const volatile void *address);
void process_free(const void *memory, size_t size);

#endif
