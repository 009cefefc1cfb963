// CoreFoundation's spinlocks.
//
// Time zones, preferences, string encodings and bundles are behind spinlocks there that are no more than an int: compare-and-swap from 0 to -1, sleep(0) while that
// fails, a store of 0 in the end (CFInternal.h, __CFLock). All of it is inlined, so nobody is called when one is taken. But the loop has a shape that nothing else has,
//
//     call  sleep@plt
//     xor   %eax, %eax
//     lock cmpxchg %reg, variable(%rip)
//
// and from there the variables are known without their names: 22 in Swift 6.3.1's. A fork takes them by compare-and-swap, as foreign locks, and the child makes them free. Those that are part of an object
// (CFBundle's, CFRunLoop's) are found by nobody; a child that waits for one whose holder vanished is told so by sleep(0) itself, which comes here.

#include "spinlocks.h"

#include "imports.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "forkguard.h"

unsigned (*real_sleep)(unsigned seconds);

// ---- those that are variables ----

static int try_spinlock(void *lock) {
    int32_t nobody = 0;
    return __atomic_compare_exchange_n((int32_t *)lock, &nobody, -1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED) ? 0 : EBUSY;
}

static int free_spinlock(void *lock) {
    __atomic_store_n((int32_t *)lock, 0, __ATOMIC_RELEASE);
    return 0;
}

static const forkguard_lock_operations spinlock_operations = {NULL, try_spinlock, NULL, free_spinlock, free_spinlock, NULL, NULL};

#if defined(__x86_64__)

#define MOST 64

typedef struct search {
    const unsigned char *sleep_word; // the import through which sleep is called
    int32_t *found[MOST];
    size_t count;
} search;

static int32_t displacement(const unsigned char *code) {
    int32_t value;
    memcpy(&value, code, sizeof value);
    return value;
}

// The call of five bytes that ends at `code` goes to the stub which jumps through the import of sleep.
static bool calls_sleep(const unsigned char *code, const unsigned char *begin, const unsigned char *end, const search *search) {
    if (code - begin < 5 || code[-5] != 0xe8) return false;
    const unsigned char *stub = code + displacement(code - 4);
    if (stub < begin || end - stub < 10) return false;
    if (memcmp(stub, "\xf3\x0f\x1e\xfa", 4) == 0) stub += 4; // endbr64
    return stub[0] == 0xff && stub[1] == 0x25 && stub + 6 + displacement(stub + 2) == search->sleep_word;
}

static void search_code(const unsigned char *begin, size_t size, void *context) {
    search *search = context;
    const unsigned char *end = begin + size, *at = begin;
    while (end - at > 16 && (at = memchr(at, 0xf0, (size_t)(end - at - 12)))) {
        const unsigned char *lock = at++;
        const unsigned char *code = lock + 1;
        if ((*code & 0xf0) == 0x40) code++; // REX
        // cmpxchg with an operand relative to the next instruction
        if (code[0] != 0x0f || code[1] != 0xb1 || (code[2] & 0xc7) != 0x05) continue;
        if (lock - begin < 7 || lock[-2] != 0x31 || lock[-1] != 0xc0 || !calls_sleep(lock - 2, begin, end, search)) continue;
        int32_t *variable = (int32_t *)(uintptr_t)(code + 7 + displacement(code + 3));
        size_t i = 0;
        while (i < search->count && search->found[i] != variable) i++;
        if (i == search->count && search->count < MOST) search->found[search->count++] = variable;
    }
}

size_t spinlocks_register(void) {
    search search = {.sleep_word = imports_foundation_word("sleep")};
    if (!search.sleep_word) return 0;
    imports_foundation_code(search_code, &search);
    size_t registered = 0;
    for (size_t i = 0; i < search.count; i++) {
        forkguard_foreign_lock lock = {.lock = search.found[i], .operations = &spinlock_operations, .name = "a spinlock of CoreFoundation's"};
        if (forkguard_register_lock(&lock) != 0) registered++;
    }
    return registered;
}

#else

size_t spinlocks_register(void) {
    (void)spinlock_operations;
    return 0;
}

#endif

// ---- all of them, in the child ----

#define MILLISECOND UINT64_C(1000000)

// Sections behind these locks take microseconds; some read a file.
#define LONG_ENOUGH (1000 * MILLISECOND)
// Two waits that are further apart are not for the same lock.
#define APART (50 * MILLISECOND)

static uint64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

// Whether every other thread of the process sleeps: then nobody is about to let go. False where that cannot be read.
static bool is_alone_awake(void) {
    DIR *tasks = opendir("/proc/self/task");
    if (!tasks) return false;
    int32_t self = (int32_t)syscall(SYS_gettid);
    bool alone = true;
    struct dirent *entry;
    while (alone && (entry = readdir(tasks))) {
        int32_t id;
        if (sscanf(entry->d_name, "%d", &id) != 1 || id == self) continue;
        char path[64], line[256];
        snprintf(path, sizeof path, "/proc/self/task/%d/stat", id);
        FILE *file = fopen(path, "re");
        if (!file) continue; // it has ended
        const char *name_end = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
        fclose(file);
        alone = name_end && name_end[1] == ' ' && name_end[2] == 'S'; // proc_pid_stat(5): interruptible sleep
    }
    closedir(tasks);
    return alone;
}

unsigned gated_sleep(unsigned seconds) {
    static __thread uint64_t since, last;
    // Read and not asked for: an answer may run hooks. 0: not known, 1: nobody forked this process.
    if (seconds != 0 || __atomic_load_n(&forkguard_page.word.generation, __ATOMIC_RELAXED) <= 1) return real_sleep(seconds);
    uint64_t now = nanoseconds();
    if (now - last > APART) since = now;
    if (now - since > LONG_ENOUGH) {
        if (is_alone_awake())
            forkguard_trap_misuse(
                NULL,
                "a lock for which this thread waits with sleep(0), as CoreFoundation does for its own (bundles, run loops), was held by a thread of the "
                "parent, which did not survive the fork",
                "use bundles in the parent before other threads do, or not at all in a child"
            );
        since = now;
    }
    unsigned left = real_sleep(0);
    last = nanoseconds();
    return left;
}
