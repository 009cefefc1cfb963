#include "mutexes.h"

#include "connection.h"
#include "threads.h"

#include <errno.h>

#define MUTEX_SHARED 128 // of __kind: its holder may be another process
#define CONDITION_SHARED 1

// ---- what a thread holds ----

static held *note(thread_record *thread, void *address, held_kind kind, void *caller, void *frame) {
    held *free = NULL;
    for (int i = thread->held_end; i-- > 0;) {
        held *held = &thread->held[i];
        if (held->address == address) {
            held->depth++;
            return held;
        }
        if (!held->address) free = held;
    }
    if (!free) {
        // One that another thread let go of stays noted here: the eldest such goes when there is no more room.
        if (thread->held_end == HELD_LOCKS) free = &thread->held[0];
        else free = &thread->held[thread->held_end++];
    }
    __atomic_store_n(&free->address, NULL, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    free->kind = kind;
    free->taken = false;
    free->depth = 1;
    free->frame_count = stack_walk_remembered(thread->stacks, caller, frame, free->frames);
    __atomic_store_n(&free->address, address, __ATOMIC_RELEASE);
    return free;
}

static held *find(thread_record *thread, const void *address) {
    for (int i = thread->held_end; i-- > 0;) {
        if (thread->held[i].address == address) return &thread->held[i];
    }
    return NULL;
}

static void forget(thread_record *thread, held *held) {
    if (--held->depth > 0) return;
    __atomic_store_n(&held->address, NULL, __ATOMIC_RELEASE);
    while (thread->held_end > 0 && !thread->held[thread->held_end - 1].address) thread->held_end--;
}

// ---- what the vanished held ----

// The program may have unmapped it since.
static bool is_held(const held *held, pid_t tid) {
    if (held->kind == HELD_MUTEX) {
        pthread_mutex_t mutex;
        return process_read_memory(&mutex, held->address, sizeof mutex) && mutex.__data.__lock != 0 && mutex.__data.__owner == tid
            && !(mutex.__data.__kind & MUTEX_SHARED);
    }
    pthread_rwlock_t lock;
    if (!process_read_memory(&lock, held->address, sizeof lock) || lock.__data.__shared != 0) return false;
    if (held->kind == HELD_WRITE) return lock.__data.__cur_writer == tid;
    return held->taken && lock.__data.__readers >> 3 != 0;
}

void mutexes_take_over(void) {
    json *packet = connection_begin("held");
    if (!packet) return;
    connection_add_fork(packet, audit_process.fork);
    json_open(packet, "mutexes", '[');
    for (thread_record *thread = NULL; (thread = threads_next_gone(thread));) {
        for (int i = 0; i < HELD_LOCKS; i++) {
            const held *held = &thread->held[i];
            if (!held->address || !is_held(held, thread->tid)) continue;
            json_place place = json_mark(packet);
            json_open(packet, NULL, '{');
            json_address(packet, "address", (uintptr_t)held->address);
            json_text(packet, "kind", held->kind == HELD_MUTEX ? "mutex" : "rwlock");
            json_number(packet, "tid", thread->tid);
            json_text(packet, "thread", thread->name);
            json_stack(packet, "stack", held->frames, held->frame_count);
            json_close(packet, '}');
            if (packet->full) json_rewind(packet, place);
        }
    }
    json_close(packet, ']');
    connection_end(packet);
}

// ---- who waits for them ----

static thread_record *noted_by(const void *address, bool readers_only) {
    for (thread_record *thread = NULL; (thread = threads_next_gone(thread));) {
        held *held = find(thread, address);
        if (held && (!readers_only || (held->kind == HELD_READ && held->taken))) return thread;
    }
    return NULL;
}

static thread_record *vanished_holder(const pthread_mutex_t *mutex) {
    if (__atomic_load_n(&mutex->__data.__lock, __ATOMIC_RELAXED) == 0 || (mutex->__data.__kind & MUTEX_SHARED)) return NULL;
    pid_t owner = __atomic_load_n(&mutex->__data.__owner, __ATOMIC_RELAXED);
    // The word is set before the owner is: a fork may come in between.
    return owner ? threads_gone(owner) : noted_by(mutex, false);
}

static thread_record *vanished_rwlock_holder(const pthread_rwlock_t *lock, bool to_write) {
    if (lock->__data.__shared != 0) return NULL;
    thread_record *writer = threads_gone(__atomic_load_n(&lock->__data.__cur_writer, __ATOMIC_RELAXED));
    if (writer || !to_write) return writer;
    return __atomic_load_n(&lock->__data.__readers, __ATOMIC_RELAXED) >> 3 ? noted_by(lock, true) : NULL;
}

// How a thread comes to an object that it may wait at; less than the alignment of all of them.
typedef enum way { WAY_TRY, WAY_WAIT, WAY_SIGNAL, WAY_BROADCAST, WAY_DESTROY } way;

// Once for each object and way: a child may come again and again.
static bool is_new(const void *address, way way) {
    static uintptr_t told[64];
    uintptr_t what = (uintptr_t)address | way;
    for (int i = 0; i < 64; i++) {
        uintptr_t seen = 0;
        if (__atomic_compare_exchange_n(&told[i], &seen, what, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return true;
        if (seen == what) return false;
    }
    return false;
}

static bool say_waits(const char *kind, const void *address, const thread_record *gone, way way, void *caller) {
    bool blocks = way != WAY_TRY;
    if (!is_new(address, way)) return false;
    int saved = errno;
    void *frames[STACK_DEEP];
    int count = stack_walk(caller, frames, STACK_DEEP, NULL);
    char detail[200];
    json *packet;
    if (gone) {
        char *at = text_copy(text_copy(detail, blocks ? "waits for a " : "tried a "), kind);
        at = text_number(text_copy(at, " that thread "), gone->tid);
        text_copy(text_copy(text_copy(at, " \""), gone->name), "\" of the parent held at the fork; this process does not have that thread");
        packet = connection_finding("lock-of-vanished-thread", audit_process.fork, detail);
        if (packet) {
            json_address(packet, "address", (uintptr_t)address);
            json_stack(packet, "stack", frames, count);
            connection_end(packet);
        }
    }
    packet = blocks ? connection_begin("waits") : NULL;
    if (packet) {
        json_text(packet, "on", kind);
        connection_add_fork(packet, audit_process.fork);
        json_address(packet, "address", (uintptr_t)address);
        if (gone) {
            json_number(packet, "tid_gone", gone->tid);
            json_text(packet, "thread_gone", gone->name);
        }
        json_stack(packet, "stack", frames, count);
        connection_end(packet);
    }
    errno = saved;
    return blocks;
}

static void say_got(const char *kind, const void *address) {
    int saved = errno;
    json *packet = connection_begin("got");
    if (packet) {
        json_text(packet, "on", kind);
        connection_add_fork(packet, audit_process.fork);
        json_address(packet, "address", (uintptr_t)address);
        connection_end(packet);
    }
    errno = saved;
}

// ---- wrappers ----

typedef struct attempt {
    thread_record *thread;
    held *held;
    bool waits;
    void *caller, *frame;
} attempt;

static bool may_nest(const held *held) {
    return held->kind == HELD_READ || (held->kind == HELD_MUTEX && (((pthread_mutex_t *)held->address)->__data.__kind & 3) == PTHREAD_MUTEX_RECURSIVE);
}

static attempt begin(void *address, held_kind kind, bool blocks, void *caller, void *frame) {
    attempt attempt = {.caller = caller, .frame = frame};
    if (!audit_enter()) return attempt;
    attempt.thread = threads_this();
    if (attempt.thread) attempt.held = note(attempt.thread, address, kind, caller, frame);
    if (UNLIKELY(audit_process.forked)) {
        thread_record *gone = kind == HELD_MUTEX ? vanished_holder(address) : vanished_rwlock_holder(address, kind == HELD_WRITE);
        if (gone && process_is_ours()) attempt.waits = say_waits(kind == HELD_MUTEX ? "mutex" : "rwlock", address, gone, blocks ? WAY_WAIT : WAY_TRY, caller);
    }
    audit_leave();
    return attempt;
}

static int end(attempt attempt, void *address, held_kind kind, int result) {
    if (!attempt.thread) return result;
    if (LIKELY(result == 0 || result == EOWNERDEAD)) {
        held *held = attempt.held;
        held->taken = true;
        // It was noted as held already, but cannot have been: another thread let go of it.
        if (UNLIKELY(held->depth > 1) && held->address == address && !may_nest(held)) {
            held->depth = 1;
            held->frame_count = stack_walk_remembered(attempt.thread->stacks, attempt.caller, attempt.frame, held->frames);
        }
        if (UNLIKELY(attempt.waits) && audit_enter()) {
            say_got(kind == HELD_MUTEX ? "mutex" : "rwlock", address);
            audit_leave();
        }
    } else if (attempt.held->address == address) {
        forget(attempt.thread, attempt.held);
    }
    return result;
}

#define LOCK(address, kind, blocks, call) \
    do { \
        attempt attempt = begin(address, kind, blocks, CALLER, __builtin_frame_address(0)); \
        return end(attempt, address, kind, call); \
    } while (0)

EXPORT int pthread_mutex_lock(pthread_mutex_t *mutex) { LOCK(mutex, HELD_MUTEX, true, REAL(pthread_mutex_lock)(mutex)); }
EXPORT int pthread_mutex_trylock(pthread_mutex_t *mutex) { LOCK(mutex, HELD_MUTEX, false, REAL(pthread_mutex_trylock)(mutex)); }

EXPORT int pthread_mutex_timedlock(pthread_mutex_t *mutex, const struct timespec *deadline) {
    LOCK(mutex, HELD_MUTEX, true, REAL(pthread_mutex_timedlock)(mutex, deadline));
}

EXPORT int pthread_mutex_clocklock(pthread_mutex_t *mutex, clockid_t clock, const struct timespec *deadline) {
    LOCK(mutex, HELD_MUTEX, true, REAL(pthread_mutex_clocklock)(mutex, clock, deadline));
}

EXPORT int pthread_rwlock_rdlock(pthread_rwlock_t *lock) { LOCK(lock, HELD_READ, true, REAL(pthread_rwlock_rdlock)(lock)); }
EXPORT int pthread_rwlock_wrlock(pthread_rwlock_t *lock) { LOCK(lock, HELD_WRITE, true, REAL(pthread_rwlock_wrlock)(lock)); }
EXPORT int pthread_rwlock_tryrdlock(pthread_rwlock_t *lock) { LOCK(lock, HELD_READ, false, REAL(pthread_rwlock_tryrdlock)(lock)); }
EXPORT int pthread_rwlock_trywrlock(pthread_rwlock_t *lock) { LOCK(lock, HELD_WRITE, false, REAL(pthread_rwlock_trywrlock)(lock)); }

EXPORT int pthread_rwlock_timedrdlock(pthread_rwlock_t *lock, const struct timespec *deadline) {
    LOCK(lock, HELD_READ, true, REAL(pthread_rwlock_timedrdlock)(lock, deadline));
}

EXPORT int pthread_rwlock_timedwrlock(pthread_rwlock_t *lock, const struct timespec *deadline) {
    LOCK(lock, HELD_WRITE, true, REAL(pthread_rwlock_timedwrlock)(lock, deadline));
}

EXPORT int pthread_rwlock_clockrdlock(pthread_rwlock_t *lock, clockid_t clock, const struct timespec *deadline) {
    LOCK(lock, HELD_READ, true, REAL(pthread_rwlock_clockrdlock)(lock, clock, deadline));
}

EXPORT int pthread_rwlock_clockwrlock(pthread_rwlock_t *lock, clockid_t clock, const struct timespec *deadline) {
    LOCK(lock, HELD_WRITE, true, REAL(pthread_rwlock_clockwrlock)(lock, clock, deadline));
}

// Noted until it is let go of, by its address alone: it may be gone by then.
static int leave(void *address, int result) {
    if (result != 0 || !audit_enter()) return result;
    thread_record *thread = audit_this_thread;
    held *held = thread ? find(thread, address) : NULL;
    if (LIKELY(held != NULL)) forget(thread, held);
    audit_leave();
    return result;
}

EXPORT int pthread_mutex_unlock(pthread_mutex_t *mutex) { return leave(mutex, REAL(pthread_mutex_unlock)(mutex)); }

EXPORT int pthread_rwlock_unlock(pthread_rwlock_t *lock) {
    thread_record *thread = audit_on && !audit_inside ? audit_this_thread : NULL;
    held *held = thread ? find(thread, lock) : NULL;
    if (held && held->depth == 1) held->taken = false;
    return leave(lock, REAL(pthread_rwlock_unlock)(lock));
}

// ---- conditions ----

// Whether it is said that this thread may wait here for ever: in a child that is alone.
static bool may_wait(pthread_cond_t *condition, way way, void *caller) {
    if (!audit_on || LIKELY(!audit_process.forked) || !audit_enter()) return false;
    bool waits = !(condition->__data.__wrefs & CONDITION_SHARED) && threads_is_alone() && process_is_ours()
        && say_waits("condition", condition, NULL, way, caller);
    audit_leave();
    return waits;
}

static int came_back(pthread_cond_t *condition, bool waited, int result) {
    if (waited && audit_enter()) {
        say_got("condition", condition);
        audit_leave();
    }
    return result;
}

// The mutex stays noted: whether it is held, it tells itself. Only of a child that is alone it is sure that nobody will come and signal.
EXPORT int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex) {
    bool waits = may_wait(condition, WAY_WAIT, CALLER);
    return came_back(condition, waits, REAL(pthread_cond_wait)(condition, mutex));
}

// Those who wake others, or give a condition up, wait in glibc until woken waiters have left it: those that vanished never do.
static bool has_waiters(const pthread_cond_t *condition) { return __atomic_load_n(&condition->__data.__wrefs, __ATOMIC_RELAXED) >> 3 != 0; }

EXPORT int pthread_cond_signal(pthread_cond_t *condition) {
    bool waits = audit_process.forked && has_waiters(condition) && may_wait(condition, WAY_SIGNAL, CALLER);
    return came_back(condition, waits, REAL(pthread_cond_signal)(condition));
}

EXPORT int pthread_cond_broadcast(pthread_cond_t *condition) {
    bool waits = audit_process.forked && has_waiters(condition) && may_wait(condition, WAY_BROADCAST, CALLER);
    return came_back(condition, waits, REAL(pthread_cond_broadcast)(condition));
}

EXPORT int pthread_cond_destroy(pthread_cond_t *condition) {
    bool waits = audit_process.forked && has_waiters(condition) && may_wait(condition, WAY_DESTROY, CALLER);
    return came_back(condition, waits, REAL(pthread_cond_destroy)(condition));
}
