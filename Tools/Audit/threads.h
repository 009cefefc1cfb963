#ifndef AUDIT_THREADS_H
#define AUDIT_THREADS_H

// One record per thread, in memory that a child can read: who it is, and what it holds.

#include "json.h"
#include "process.h"
#include "stack.h"

typedef enum held_kind { HELD_MUTEX, HELD_READ, HELD_WRITE } held_kind;

// A lock that the thread holds, or is about to take or to let go of: a mutex and a writer's lock tell by their own words whether they are held; only of a
// reader's lock `taken` has to be believed.
typedef struct held {
    void *address; // NULL: free
    held_kind kind;
    bool taken;
    int depth, frame_count;
    void *frames[STACK_FRAMES];
} held;

#define HELD_LOCKS 24

typedef enum thread_state { THREAD_FREE, THREAD_STARTING, THREAD_LIVE, THREAD_ENDED, THREAD_GONE } thread_state;

typedef struct thread_record {
    int state; // thread_state; GONE: it was there when this process or an ancestor was made
    pid_t tid;
    bool joinable; // GONE only: it ran at the fork
    bool has_pthread;
    pthread_t pthread;
    char name[16];
    void *(*start)(void *);
    void *argument;
    int held_end; // one past the last that is used
    held held[HELD_LOCKS];
    stack_memory stacks[STACK_MEMORIES];
} thread_record;

extern __thread thread_record *audit_this_thread __attribute__((tls_model("initial-exec")));

bool threads_start(void);
void threads_take_over(void);
// NULL when there are too many.
thread_record *threads_this(void);
// The threads but the calling one, into a packet; and their records brought up to date. How many they are.
int threads_list(json *packet);
int threads_count(void);

// The vanished thread of this id, if no thread of this process has it now.
thread_record *threads_gone(pid_t tid);
// The vanished threads in turn, from NULL on.
thread_record *threads_next_gone(thread_record *record);
bool threads_is_alone(void);

#endif
