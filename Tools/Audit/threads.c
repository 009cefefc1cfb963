#include "threads.h"

#include "connection.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define THREADS 4096

__thread thread_record *audit_this_thread __attribute__((tls_model("initial-exec")));
static thread_record *records;
static int records_end;

static pid_t this_tid(void) { return (pid_t)audit_real.syscall(SYS_gettid); }

static int state_of(const thread_record *record) { return __atomic_load_n(&record->state, __ATOMIC_ACQUIRE); }

static char *proc_path(char *at, pid_t tid, const char *file) {
    at = text_copy(at, "/proc/self/task/");
    at = text_number(at, tid);
    return text_copy(at, file);
}

static void read_name(thread_record *record, pid_t tid) {
    char path[64], name[32];
    proc_path(path, tid, "/comm");
    ssize_t length = connection_read_file(path, name, sizeof name);
    if (length <= 0) return;
    if (name[length - 1] == '\n') length--;
    if (length > 15) length = 15;
    memcpy(record->name, name, (size_t)length);
    record->name[length] = 0;
}

static bool is_dead(const thread_record *record) {
    int saved = errno;
    bool dead = audit_real.syscall(SYS_tgkill, audit_process.pid, record->tid, 0) != 0 && errno == ESRCH;
    errno = saved;
    return dead;
}

static thread_record *claim(void) {
    for (int i = 0; i < THREADS && records; i++) {
        thread_record *record = &records[i];
        int seen = state_of(record);
        if (seen != THREAD_FREE && !(seen == THREAD_ENDED && is_dead(record))) continue;
        if (!__atomic_compare_exchange_n(&record->state, &seen, THREAD_STARTING, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) continue;
        int end = __atomic_load_n(&records_end, __ATOMIC_RELAXED);
        while (end <= i && !__atomic_compare_exchange_n(&records_end, &end, i + 1, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {}
        record->tid = 0;
        record->joinable = record->has_pthread = false;
        record->name[0] = 0;
        for (int j = 0; j < record->held_end; j++) record->held[j].address = NULL;
        record->held_end = 0;
        for (int j = 0; j < STACK_MEMORIES; j++) record->stacks[j].caller = NULL; // another stack lies where that one was
        return record;
    }
    return NULL;
}

bool threads_start(void) {
    void *memory = mmap(NULL, THREADS * sizeof(thread_record), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return false;
    records = memory;
    return true;
}

static void begin(thread_record *record) {
    record->tid = this_tid();
    record->pthread = pthread_self();
    record->has_pthread = true;
    prctl(PR_GET_NAME, record->name);
    __atomic_store_n(&record->state, THREAD_LIVE, __ATOMIC_RELEASE);
    audit_this_thread = record;
}

thread_record *threads_this(void) {
    if (LIKELY(audit_this_thread != NULL)) return audit_this_thread;
    int saved = errno;
    pid_t tid = this_tid();
    thread_record *record = NULL;
    // A fork may have found it before it came here itself.
    for (int i = 0; i < records_end && !record; i++) {
        if (state_of(&records[i]) == THREAD_LIVE && records[i].tid == tid) record = &records[i];
    }
    if (!record) record = claim();
    if (record) begin(record);
    errno = saved;
    return record;
}

// ---- the others, at a fork ----

typedef struct directory_entry {
    uint64_t inode;
    int64_t offset;
    unsigned short size;
    unsigned char type;
    char name[];
} directory_entry;

static void list_thread(json *packet, thread_record *record, pid_t tid) {
    char path[64], line[256];
    json_place place = json_mark(packet);
    json_open(packet, NULL, '{');
    json_number(packet, "tid", tid);
    json_text(packet, "name", record->name);
    proc_path(path, tid, "/syscall");
    ssize_t length = connection_read_file(path, line, sizeof line);
    if (length > 0 && (line[0] == '-' || (line[0] >= '0' && line[0] <= '9'))) {
        static const char *const names[] = {"sp", "pc"};
        char *at = line;
        bool outside = line[0] == '-'; // blocked, but not in a system call: no arguments
        json_number(packet, "call", outside ? -1 : strtol(at, &at, 10));
        if (outside) strtol(at, &at, 10);
        else {
            json_open(packet, "call_arguments", '[');
            for (int i = 0; i < 6; i++) json_address(packet, NULL, strtoul(at, &at, 16));
            json_close(packet, ']');
        }
        for (int i = 0; i < 2; i++) json_address(packet, names[i], strtoul(at, &at, 16));
    } else {
        json_number(packet, "call", -1);
    }
    json_close(packet, '}');
    if (packet->full) json_rewind(packet, place);
}

static int each_task(void (*visit)(pid_t tid, void *context), void *context) {
    static char entries[4096]; // whoever has begun a packet is alone here
    int count = 0, fd = (int)audit_real.syscall(SYS_openat, AT_FDCWD, "/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (long size; fd >= 0 && (size = audit_real.syscall(SYS_getdents64, fd, entries, sizeof entries)) > 0;) {
        for (long i = 0; i < size; i += ((directory_entry *)(entries + i))->size) {
            const char *name = ((directory_entry *)(entries + i))->name;
            if (name[0] == '.') continue;
            count++;
            if (visit) visit((pid_t)strtol(name, NULL, 10), context);
        }
    }
    if (fd >= 0) audit_real.syscall(SYS_close, fd);
    return count;
}

typedef struct listing {
    json *packet;
    pid_t forker;
    uint8_t seen[THREADS / 8];
} listing;

static void visit(pid_t tid, void *context) {
    listing *listing = context;
    thread_record *record = NULL;
    for (int i = 0; i < records_end && !record; i++) {
        int state = state_of(&records[i]);
        if ((state == THREAD_LIVE || state == THREAD_ENDED) && records[i].tid == tid) record = &records[i];
    }
    // Made by clone, or before our constructor: it never came to a wrapper.
    if (!record) {
        record = claim();
        if (!record) return;
        record->tid = tid;
        __atomic_store_n(&record->state, THREAD_LIVE, __ATOMIC_RELEASE);
    }
    listing->seen[(record - records) / 8] |= (uint8_t)(1 << (record - records) % 8);
    read_name(record, tid);
    if (tid != listing->forker) list_thread(listing->packet, record, tid);
}

int threads_list(json *packet) {
    static listing listing;
    memset(listing.seen, 0, sizeof listing.seen);
    listing.packet = packet;
    listing.forker = this_tid();
    int end = records_end;
    json_open(packet, "threads", '[');
    int count = each_task(visit, &listing);
    json_close(packet, ']');
    // Threads that ended without a word.
    for (int i = 0; i < end && count > 0; i++) {
        int state = state_of(&records[i]);
        if ((state != THREAD_LIVE && state != THREAD_ENDED) || (listing.seen[i / 8] & 1 << i % 8) || !is_dead(&records[i])) continue;
        __atomic_compare_exchange_n(&records[i].state, &state, THREAD_FREE, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    }
    return count;
}

int threads_count(void) { return each_task(NULL, NULL); }

// ---- in a child ----

void threads_take_over(void) {
    for (int i = 0; i < records_end; i++) {
        thread_record *record = &records[i];
        if (record == audit_this_thread || record->state == THREAD_FREE || record->state == THREAD_GONE) continue;
        record->joinable = record->state != THREAD_ENDED;
        record->state = THREAD_GONE;
    }
    if (audit_this_thread) audit_this_thread->tid = this_tid();
    else threads_this();
}

thread_record *threads_gone(pid_t tid) {
    thread_record *gone = NULL;
    if (tid == 0) return NULL;
    for (int i = 0; i < records_end; i++) {
        if (records[i].tid != tid) continue;
        int state = state_of(&records[i]);
        if (state == THREAD_GONE) gone = &records[i];
        else if (state != THREAD_FREE) return NULL;
    }
    return gone;
}

thread_record *threads_next_gone(thread_record *record) {
    for (record = record ? record + 1 : records; record && record < records + records_end; record++) {
        if (state_of(record) == THREAD_GONE) return record;
    }
    return NULL;
}

bool threads_is_alone(void) {
    for (int i = 0; i < records_end; i++) {
        int state = state_of(&records[i]);
        if ((state == THREAD_LIVE || state == THREAD_STARTING || state == THREAD_ENDED) && &records[i] != audit_this_thread) return false;
    }
    return true;
}

// ---- wrappers ----

static void end(void *argument) {
    thread_record *record = argument;
    __atomic_store_n(&record->state, THREAD_ENDED, __ATOMIC_RELEASE);
}

static void *run(void *argument) {
    thread_record *record = argument;
    void *result;
    audit_inside = true;
    begin(record);
    audit_leave();
    pthread_cleanup_push(end, record);
    result = record->start(record->argument);
    pthread_cleanup_pop(1);
    return result;
}

// Its creator may join it, or fork, before it has run.
static void know(thread_record *record, const pthread_t *name) {
    pthread_t thread;
    if (!process_read_memory(&thread, name, sizeof thread)) return; // the new thread may have freed it already
    for (int i = 0; i < records_end && audit_process.forked; i++) {
        // In a child, a new thread gets the memory of one that vanished, and so its name.
        if (state_of(&records[i]) == THREAD_GONE && records[i].has_pthread && pthread_equal(records[i].pthread, thread)) records[i].has_pthread = false;
    }
    if (state_of(record) != THREAD_STARTING || record->has_pthread) return;
    record->pthread = thread;
    record->has_pthread = true;
}

EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
    thread_record *record = NULL;
    if (audit_enter()) {
        if (process_is_ours()) record = claim();
        audit_leave();
    }
    if (!record) return REAL(pthread_create)(thread, attributes, start, argument);
    record->start = start;
    record->argument = argument;
    int result = REAL(pthread_create)(thread, attributes, run, record);
    if (result != 0) __atomic_store_n(&record->state, THREAD_FREE, __ATOMIC_RELEASE);
    else know(record, thread);
    return result;
}

static void look_at_join(pthread_t thread, void *caller) {
    if (!audit_enter()) return;
    thread_record *gone = NULL;
    if (audit_process.forked && process_is_ours()) {
        for (int i = 0; i < records_end; i++) {
            thread_record *record = &records[i];
            if (!record->has_pthread || !pthread_equal(record->pthread, thread)) continue;
            int state = state_of(record);
            if (state == THREAD_GONE && record->joinable) gone = record;
            else if (state == THREAD_LIVE || state == THREAD_STARTING || state == THREAD_ENDED) { // its memory was used again here
                gone = NULL;
                break;
            }
        }
    }
    if (gone) {
        int saved = errno;
        void *frames[STACK_DEEP];
        int count = stack_walk(caller, frames, STACK_DEEP, NULL);
        char detail[160], *at = text_copy(detail, "joins thread ");
        at = text_number(at, gone->tid);
        at = text_copy(text_copy(text_copy(at, " \""), gone->name), "\" of the parent, which this process does not have");
        json *packet = connection_finding("join-of-vanished-thread", audit_process.fork, detail);
        if (packet) {
            json_address(packet, "address", (uintptr_t)thread);
            json_stack(packet, "stack", frames, count);
            connection_end(packet);
        }
        packet = connection_begin("waits");
        if (packet) {
            json_text(packet, "on", "join");
            connection_add_fork(packet, audit_process.fork);
            json_address(packet, "address", (uintptr_t)thread);
            json_number(packet, "tid_gone", gone->tid);
            json_text(packet, "thread_gone", gone->name);
            json_stack(packet, "stack", frames, count);
            connection_end(packet);
        }
        gone->joinable = false; // once
        errno = saved;
    }
    audit_leave();
}

static int joined(pthread_t thread, int result) {
    if (result != 0 || !audit_process.forked || !audit_enter()) return result;
    thread_record *waited_for = NULL;
    int saved = errno;
    for (int i = 0; i < records_end && process_is_ours(); i++) {
        if (state_of(&records[i]) == THREAD_GONE && records[i].has_pthread && pthread_equal(records[i].pthread, thread)) waited_for = &records[i];
    }
    json *packet = waited_for ? connection_begin("got") : NULL;
    if (packet) {
        json_text(packet, "on", "join");
        connection_add_fork(packet, audit_process.fork);
        json_address(packet, "address", (uintptr_t)thread);
        connection_end(packet);
    }
    if (waited_for) waited_for->has_pthread = false;
    errno = saved;
    audit_leave();
    return result;
}

EXPORT int pthread_join(pthread_t thread, void **result) {
    if (UNLIKELY(audit_on)) look_at_join(thread, CALLER);
    return joined(thread, REAL(pthread_join)(thread, result));
}

EXPORT int pthread_tryjoin_np(pthread_t thread, void **result) {
    if (UNLIKELY(audit_on)) look_at_join(thread, CALLER);
    return joined(thread, REAL(pthread_tryjoin_np)(thread, result));
}

EXPORT int pthread_timedjoin_np(pthread_t thread, void **result, const struct timespec *deadline) {
    if (UNLIKELY(audit_on)) look_at_join(thread, CALLER);
    return joined(thread, REAL(pthread_timedjoin_np)(thread, result, deadline));
}

EXPORT int pthread_clockjoin_np(pthread_t thread, void **result, clockid_t clock, const struct timespec *deadline) {
    if (UNLIKELY(audit_on)) look_at_join(thread, CALLER);
    return joined(thread, REAL(pthread_clockjoin_np)(thread, result, clock, deadline));
}
