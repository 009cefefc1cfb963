// What the library asks of the system (platform/platform.h), and of the C library, in a process whose threads are the scheduler's.

#include "scheduler.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "platform/platform.h"

#define HEAP_SIZE (1u << 20)
#define MOST_FREED 8

char process_last_message[512];
void (*process_prepare)(void), (*process_parent)(void), (*process_child)(void);

static struct {
    machine machine;
    pid_t id;
    void *wiped;
    size_t wiped_size, heap_used, freed_count;
    struct {
        uintptr_t start;
        size_t size;
    } freed[MOST_FREED];
} process;

static char *heap;

void process_start(const machine *machine) {
    if (!heap) heap = mmap(NULL, HEAP_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    process.machine = *machine;
    process.id = 1000;
}

void process_become_child(void) {
    process.id++;
    scheduler_become_child();
    if (process.wiped) memset(process.wiped, 0, process.wiped_size);
}

// ---- memory ----

void process_free(const void *memory, size_t size) {
    if (process.freed_count == MOST_FREED) abort();
    process.freed[process.freed_count].start = (uintptr_t)memory;
    process.freed[process.freed_count++].size = size;
}

bool process_is_freed(const volatile void *address) {
    for (size_t i = 0; i < process.freed_count; i++)
        if ((uintptr_t)address - process.freed[i].start < process.freed[i].size) return true;
    return false;
}

void *process_allocate(size_t size) {
    size = (size + 31) & ~(size_t)15;
    if (process.heap_used + size > HEAP_SIZE) scheduler_fail("the heap is full");
    char *made = heap + process.heap_used;
    process.heap_used += size;
    memset(made, 0, size);
    *(size_t *)made = size;
    return made + 16;
}

void *process_reallocate(void *memory, size_t size) {
    void *made = process_allocate(size);
    if (memory) {
        size_t old = *(size_t *)((char *)memory - 16) - 16;
        memcpy(made, memory, old < size ? old : size);
    }
    return made;
}

ssize_t process_write(const void *text, size_t size) {
    size_t copied = size < sizeof process_last_message - 1 ? size : sizeof process_last_message - 1;
    memcpy(process_last_message, text, copied);
    process_last_message[copied] = 0;
    return (ssize_t)size;
}

pid_t process_id(void) { return process.id; }

int process_clock(struct timespec *time) {
    time->tv_sec = (time_t)(scheduler_now() / 1000000000);
    time->tv_nsec = (long)(scheduler_now() % 1000000000);
    return 0;
}

// ---- the platform ----

bool platform_wait(const uint32_t *word, uint32_t expected, int64_t nanoseconds) { return scheduler_sleep(word, expected, nanoseconds); }
void platform_wake(const uint32_t *word, int count) { scheduler_wake(word, count); }
bool platform_barrier_start(void) { return !process.machine.no_barrier; }

bool platform_barrier(void) {
    scheduler_point(__func__, __LINE__, NULL);
    scheduler_flush_all();
    return true;
}

bool platform_wipe_on_fork(void *page, size_t size) {
    if (process.machine.no_page) return false;
    process.wiped = page;
    process.wiped_size = size;
    return true;
}

bool platform_shares_memory_with(int32_t pid) {
    (void)pid;
    return false;
}

uint64_t platform_nanoseconds(void) { return scheduler_now(); }
int32_t platform_thread_id(void) { return current ? current->id : 1; }
void platform_own_name(char name[16]) { name[0] = 0; }
void platform_thread_name(int32_t thread_id, char name[16]) {
    (void)thread_id;
    name[0] = 0;
}
bool platform_thread_sleeps(int32_t thread_id) { return scheduler_thread_sleeps(thread_id); }
bool platform_thread_is_ours(int32_t thread_id) { return scheduler_has_thread(thread_id); }
bool platform_thread_is_gone(int32_t thread_id) { return !scheduler_has_thread(thread_id); }

bool platform_read(void *to, const void *from, size_t size) {
    if (process_is_freed(from)) return false;
    memcpy(to, from, size);
    return true;
}

bool platform_lock_streams(void) { return false; }
void platform_unlock_streams(void) {}
void platform_reset_streams(void) {}

int platform_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void)) {
    process_prepare = prepare;
    process_parent = parent;
    process_child = child;
    return 0;
}

int platform_open_tombstone(void) { return -1; }
bool platform_is_tombstone(int number) {
    (void)number;
    return false;
}
bool platform_replace(int from, int number, bool closes_on_exec) {
    (void)from, (void)number, (void)closes_on_exec;
    return false;
}
int platform_reopen(int number, int flags) {
    (void)number, (void)flags;
    return -1;
}
void platform_close_range(int first, int last) { (void)first, (void)last; }
void platform_pin(const void *address) { (void)address; }

// ---- pthread mutexes ----

// As glibc keeps them, but for the id of the thread, which is the scheduler's.

static uint32_t *word_of(pthread_mutex_t *mutex) { return (uint32_t *)&mutex->__data.__lock; }

int mutex_try(pthread_mutex_t *mutex) {
    scheduler_point(__func__, __LINE__, mutex);
    scheduler_flush();
    if (*word_of(mutex) != 0) return EBUSY;
    *word_of(mutex) = 1;
    mutex->__data.__owner = platform_thread_id();
    return 0;
}

int mutex_wait_until(pthread_mutex_t *mutex, const struct timespec *end) {
    uint64_t until = end ? (uint64_t)end->tv_sec * 1000000000 + (uint64_t)end->tv_nsec : 0;
    while (mutex_try(mutex) != 0) {
        if (end && scheduler_now() >= until) return ETIMEDOUT;
        *word_of(mutex) = 2;
        scheduler_sleep(word_of(mutex), 2, end ? (int64_t)(until - scheduler_now()) : -1);
    }
    return 0;
}

void mutex_lock(pthread_mutex_t *mutex) { mutex_wait_until(mutex, NULL); }

int mutex_unlock(pthread_mutex_t *mutex) {
    scheduler_point(__func__, __LINE__, mutex);
    scheduler_flush();
    mutex->__data.__owner = 0;
    *word_of(mutex) = 0;
    scheduler_wake(word_of(mutex), INT32_MAX);
    return 0;
}
