// What is switched on, and why not.

#include "ForkGuardRuntime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "forkguard.h"

static const char *const names[] = {"swift-runtime", "thread-ids", "c-library", "core-foundation", "process-locks", "dispatch", "concurrency"};

#if defined(__linux__) && defined(__GLIBC__) && (defined(__x86_64__) || defined(__aarch64__))

#include <gnu/libc-version.h>

#include "concurrency.h"
#include "dispatch.h"
#include "forks.h"
#include "futex.h"
#include "ghosts.h"
#include "imports.h"
#include "libc.h"
#include "locks.h"
#include "once.h"
#include "operations.h"
#include "queues.h"
#include "spinlocks.h"

#define SWIFT FORKGUARD_RUNTIME_SWIFT
#define IDS FORKGUARD_RUNTIME_IDS
#define DISPATCH FORKGUARD_RUNTIME_DISPATCH
#define CONCURRENCY FORKGUARD_RUNTIME_CONCURRENCY
#define LOCKS FORKGUARD_RUNTIME_LOCKS

#define LOCK(NAME, GATED, REAL) {NAME, FROM_LIBC, (void *)GATED, (void **)&real.REAL, LOCKS, SWIFT, false}
#define ONCE(NAME, LIBRARY, GATED, REAL) {NAME, LIBRARY, (void *)GATED, (void **)&real_once.REAL, SWIFT, 0, false}

static const import imports[] = {
    LOCK("pthread_mutex_lock", gated_mutex_lock, mutex_lock),
    LOCK("pthread_mutex_unlock", gated_mutex_unlock, mutex_unlock),
    LOCK("pthread_mutex_trylock", gated_mutex_trylock, mutex_trylock),
    LOCK("pthread_mutex_timedlock", gated_mutex_timedlock, mutex_timedlock),
    LOCK("pthread_mutex_clocklock", gated_mutex_clocklock, mutex_clocklock),
    LOCK("pthread_cond_destroy", gated_cond_destroy, cond_destroy),
    LOCK("pthread_cond_wait", gated_cond_wait, cond_wait),
    LOCK("pthread_cond_timedwait", gated_cond_timedwait, cond_timedwait),
    LOCK("pthread_cond_clockwait", gated_cond_clockwait, cond_clockwait),
    LOCK("pthread_rwlock_tryrdlock", gated_tryrdlock, tryrdlock),
    LOCK("pthread_rwlock_trywrlock", gated_trywrlock, trywrlock),
    LOCK("pthread_rwlock_rdlock", gated_rdlock, rdlock),
    LOCK("pthread_rwlock_wrlock", gated_wrlock, wrlock),
    LOCK("pthread_rwlock_timedrdlock", gated_timedrdlock, timedrdlock),
    LOCK("pthread_rwlock_timedwrlock", gated_timedwrlock, timedwrlock),
    LOCK("pthread_rwlock_clockrdlock", gated_clockrdlock, clockrdlock),
    LOCK("pthread_rwlock_clockwrlock", gated_clockwrlock, clockwrlock),
    LOCK("pthread_rwlock_unlock", gated_rwlock_unlock, rwlock_unlock),
    {"fork", FROM_LIBC, (void *)gated_fork, (void **)&real_fork.fork, LOCKS, 0, false},
    {"forkpty", FROM_LIBC, (void *)gated_forkpty, (void **)&real_fork.forkpty, LOCKS, 0, false},
    {"daemon", FROM_LIBC, (void *)gated_daemon, (void **)&real_fork.daemon, LOCKS, 0, false},
    ONCE("swift_once", NULL, gated_swift_once, swift_once),
    ONCE("dispatch_once_f", FROM_DISPATCH, gated_dispatch_once_f, dispatch_once_f),
    ONCE("dispatch_once", FROM_DISPATCH, gated_dispatch_once, dispatch_once),
    ONCE("__cxa_guard_acquire", FROM_CXX, gated_cxa_guard_acquire, cxa_guard_acquire),
    ONCE("__cxa_guard_release", FROM_CXX, gated_cxa_guard_release, cxa_guard_release),
    ONCE("__cxa_guard_abort", FROM_CXX, gated_cxa_guard_abort, cxa_guard_abort),
    {"sleep", FROM_LIBC, (void *)gated_sleep, (void **)&real_sleep, FORKGUARD_RUNTIME_FOUNDATION, 0, false},
    {"syscall", FROM_LIBC, (void *)gated_syscall, (void **)&real_syscall, IDS, 0, false},
};
#define IMPORTS (sizeof imports / sizeof *imports)

static import_table tables[7] = {{imports, IMPORTS}};

// The sums over the names that the runtimes export with which this was tested. (imports_fingerprint; Tests/ForkGuardRuntimeTests print it.)
static const struct {
    uint64_t fingerprint;
    const char *version;
} tested[] = {
    {UINT64_C(0x4e054cc59de5e68e), "6.3.1"},
};

static struct {
    uint32_t cures;
    size_t led;
    uint64_t nanoseconds;
    bool may_guard_concurrency;
    const char *impossible; // why nothing can be led, or NULL
} runtime;

static forkguard_lock_t leading = FORKGUARD_LOCK_INITIALIZER("ForkGuardRuntime's imports");

// With -static-stdlib the runtime's own calls of swift_once, and the program's, are led here by the linker: -Xlinker --wrap=swift_once.
typedef void (*swift_once_function)(long *, void (*)(void *), void *);
void __wrap_swift_once(long *token, void (*initialize)(void *), void *context);

// What is left of the runtime's own then. The linker looks into an archive only for what somebody needs, and nobody needs swift_once any more:
// all call __wrap_swift_once. Not even this, which is weak because without the flag there is nothing of that name. So it is mostly not there. But what it calls is:
// swift_once is no more than a look at the flag that begins the token, and this (Swift 6.3, stdlib/public/Threading/Linux.cpp).
extern void __real_swift_once(long *, void (*)(void *), void *) __attribute__((weak));
extern void once_slow(long *, void (*)(void *), void *) __asm__("_ZN5swift14threading_impl9once_slowERNS0_6once_tEPFvPvES3_") __attribute__((weak));

// Who calls swift_once calls it here: then the flag was given.
extern void swift_once(long *, void (*)(void *), void *) __attribute__((weak));
static bool is_wrapped(void) {
    swift_once_function volatile called = swift_once;
    return called == __wrap_swift_once;
}

static void static_swift_once(long *token, void (*initialize)(void *), void *context) {
    if (__atomic_load_n((const int32_t *)token, __ATOMIC_ACQUIRE) >= 0) once_slow(token, initialize, context);
}

// Remembered before anything is led: where the runtime is a shared library, __real_swift_once is an import, too.
static swift_once_function real_wrapped_once(void) {
    static swift_once_function found;
    swift_once_function function = __atomic_load_n(&found, __ATOMIC_RELAXED);
    if (function) return function;
    function = __real_swift_once ? __real_swift_once : once_slow ? static_swift_once : NULL;
    __atomic_store_n(&found, function, __ATOMIC_RELAXED);
    return function;
}

void __wrap_swift_once(long *token, void (*initialize)(void *), void *context) {
    swift_once_function real = real_wrapped_once();
    if (__atomic_load_n(&runtime.cures, __ATOMIC_ACQUIRE) & SWIFT) gated_swift_once(token, initialize, context);
    else if (real) real(token, initialize, context);
    else forkguard_trap_misuse(NULL, "--wrap=swift_once hides the Swift runtime's own swift_once", "link with -Xlinker --undefined=swift_once too");
}

// How often somebody wanted it. Who finds another thread leading leaves it to that one: to wait would be to wait for the dynamic linker's lock, which a constructor that loads
// libraries has.
static uint32_t wanted;

static void announce_concurrency(void);

static void lead_all(uint32_t cures, bool at_start) {
    const char *reason;
    __atomic_fetch_add(&wanted, 1, __ATOMIC_SEQ_CST);
    for (uint32_t seen = 0; seen != __atomic_load_n(&wanted, __ATOMIC_SEQ_CST);) {
        seen = __atomic_load_n(&wanted, __ATOMIC_SEQ_CST);
        // What was loaded since may bring what is real: libdispatch, the C++ library.
        if (!imports_find(tables, &reason)) return;
        concurrency_found();
        operations_found();
        announce_concurrency();
        pinned *pinned = at_start ? NULL : imports_pin();
        bool leads = (at_start || pinned) && forkguard_trylock(&leading) != FORKGUARD_BUSY;
        if (leads) {
            if (is_wrapped() && real_wrapped_once()) real_once.swift_once = real_wrapped_once();
            runtime.led = imports_lead(tables, cures | forkguard_runtime_cures(), pinned);
            forkguard_lock_mark_consistent(&leading);
            forkguard_unlock(&leading);
        }
        imports_unpin(pinned);
        if (!leads) return;
    }
}

// ---- the checks ----

typedef struct verdict {
    bool on;
    char explanation[FORKGUARD_EXPLANATION_SIZE];
} verdict;

static verdict says(bool on, const char *explanation, const char *version) {
    verdict verdict = {.on = on};
    snprintf(verdict.explanation, sizeof verdict.explanation, explanation, version);
    return verdict;
}

static const char *version_of(uint64_t fingerprint) {
    for (size_t i = 0; i < sizeof tested / sizeof *tested; i++)
        if (tested[i].fingerprint == fingerprint) return tested[i].version;
    return NULL;
}

// Before anything is led.
static verdict may_guard_swift(bool untested) {
    if (!imports_has_runtime()) return says(false, "there is no Swift runtime in this process", NULL);
    if (imports_runtime_is_static()) {
        // The names of its functions are gone; but what this was compiled with is what it was linked with.
#if !defined(__clang__) || __clang_major__ != 21
        if (!untested) return says(false, "this was not compiled by Swift 6.3's clang, so the runtime that it is linked with is not the tested one", NULL);
#endif
        if (!is_wrapped()) return says(false, "the Swift runtime is linked statically: link with -Xlinker --wrap=swift_once too", NULL);
        if (!real_wrapped_once()) return says(false, "the Swift runtime's swift_once is missing: link with -Xlinker --undefined=swift_once too", NULL);
        return says(true, "Swift 6.3's runtime, linked statically", NULL);
    }
    const char *version = version_of(imports_fingerprint());
    if (version) return says(true, "the runtime of Swift %s", version);
    if (untested) return says(true, "a Swift runtime that was not tested, as FORKGUARD_RUNTIME asks", NULL);
    return says(false, "not the runtime of Swift 6.3.1, with which this was tested; FORKGUARD_RUNTIME=untested takes it all the same", NULL);
}

// And after.
static verdict guards_swift(verdict before) {
    bool led = imports_led_in_runtime("pthread_mutex_lock") != 0 && imports_led_in_runtime("pthread_mutex_unlock") != 0;
    return led ? before : says(false, "the Swift runtime does not import pthread_mutex_lock", NULL);
}

static void announce(const char *name, uint32_t cure, verdict verdict) {
    if (verdict.on) __atomic_fetch_or(&runtime.cures, cure, __ATOMIC_ACQ_REL);
    else __atomic_fetch_and(&runtime.cures, ~cure, __ATOMIC_ACQ_REL);
    forkguard_announce_cure(name, verdict.on, verdict.explanation);
}

// It may be loaded later than this.
static void announce_concurrency(void) {
    if (!runtime.may_guard_concurrency || !concurrency_is_known() || (runtime.cures & CONCURRENCY)) return;
    announce(names[6], CONCURRENCY, says(true, "a child's own tasks run; what it comes to of the parent's is refused by name", NULL));
}

// Of the processor: what else the machine does meanwhile is not ours.
static uint64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void announce_foundation(size_t count) {
    char text[32];
    snprintf(text, sizeof text, "%zu", count);
    const char *none = imports_foundation_word("sleep") ? "no spinlock of the known form was found in CoreFoundation"
                                                        : "there is no CoreFoundation in this process";
    announce(names[3], FORKGUARD_RUNTIME_FOUNDATION,
        count ? says(true, "%s spinlocks that are variables; a child that waits for another's holder says so", text) : says(false, none, NULL));
}

static verdict guards_locks(void) { return says(true, "pthread mutexes, read-write locks and conditions of every object", NULL); }

// Of the product ForkGuardProcessLocks, where it is linked too.
extern const bool forkguard_process_locks_are_wanted __attribute__((weak));

// Of several libraries in one process that have this inside, the first leads the imports of all objects, and whoever came later finds its verdicts in the copy of the library
// that leads them all (Sources/CForkGuard/copy.h).
static bool another_has_announced(const char *name, bool on) {
    forkguard_cure cures[FORKGUARD_CURES];
    size_t count = forkguard_cures(cures, FORKGUARD_CURES);
    for (size_t i = 0; i < count && i < FORKGUARD_CURES; i++)
        if (strcmp(cures[i].name, name) == 0 && (cures[i].on || !on)) return true;
    return false;
}

// All that the later one may have to add.
static void add_locks(void) {
    if (!&forkguard_process_locks_are_wanted || another_has_announced(names[4], true)) return;
    const char *impossible = NULL;
    if (imports_find(tables, &impossible) && forkguard_runtime_guard_process_locks()) return;
    announce(names[4], 0, says(false, "%s", impossible ? impossible : "its imports could not be led"));
}

__attribute__((constructor)) static void start(void) {
    uint64_t began = nanoseconds();
    if (another_has_announced(names[0], false)) {
        add_locks();
        runtime.impossible = "another library in this process has ForkGuardRuntime inside, and started first";
        return;
    }
    const char *asked = getenv("FORKGUARD_RUNTIME");
    bool untested = asked && strcmp(asked, "untested") == 0;
    if (asked && strcmp(asked, "off") == 0) runtime.impossible = "FORKGUARD_RUNTIME=off is in the environment";
    else if (asked && *asked && !untested) fprintf(stderr, "ForkGuard: FORKGUARD_RUNTIME is '%s', which is neither 'off' nor 'untested'; it is ignored\n", asked);
    tables[1] = (import_table){libc_imports, libc_imports_count};
    tables[2] = (import_table){queue_imports, queue_imports_count};
    tables[3] = (import_table){dispatch_imports, dispatch_imports_count};
    tables[4] = (import_table){concurrency_imports, concurrency_imports_count};
    tables[5] = (import_table){operation_imports, operation_imports_count};
    if (!runtime.impossible) imports_find(tables, &runtime.impossible);
    for (unsigned i = 0; runtime.impossible && i < sizeof names / sizeof *names; i++) announce(names[i], 0, says(false, "%s", runtime.impossible));
    if (runtime.impossible) return;
    torn_start();
    // In this order in the table.
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) announce(names[i], 0, says(false, "not looked at yet", NULL));
    verdict swift = may_guard_swift(untested);
    bool locks = &forkguard_process_locks_are_wanted != NULL;
    size_t spinlocks = spinlocks_register();
    // An interposed one may do more than take the mutex.
    if (real.mutex_lock && real.mutex_trylock && imports_is_libc((void *)real.mutex_lock) && imports_is_libc((void *)real.mutex_unlock)) locks_try_plain();
    const char *no_dispatch = dispatch_keep(untested);
    runtime.may_guard_concurrency = swift.on && !no_dispatch;
    announce(names[6], CONCURRENCY, no_dispatch ? says(false, "%s", no_dispatch) : !swift.on ? swift : says(false, "Swift concurrency is not in this process, or not that of Swift 6.3", NULL));
    lead_all((swift.on ? SWIFT : 0) | (no_dispatch ? 0 : DISPATCH) | IDS | FORKGUARD_RUNTIME_LIBC | (spinlocks ? FORKGUARD_RUNTIME_FOUNDATION : 0) | (locks ? LOCKS : 0), true);
    if (swift.on) swift = guards_swift(swift);
    announce(names[0], SWIFT, swift);
    bool futexes = real_syscall && futex_works();
    announce(names[1], IDS, futexes ? says(true, "locks with thread ids in them are kept from the kernel in a forked process", NULL)
                                    : says(false, "this kernel does not lock futexes with thread ids in them (FUTEX_LOCK_PI)", NULL));
    announce(names[2], FORKGUARD_RUNTIME_LIBC, says(true, "glibc %s", gnu_get_libc_version()));
    announce_foundation(spinlocks);
    announce(names[4], LOCKS, locks ? guards_locks() : says(false, "the product ForkGuardProcessLocks is not linked", NULL));
    announce(names[5], DISPATCH, no_dispatch ? says(false, "%s", no_dispatch) : says(true, "libdispatch of Swift 6.3.1; with it Swift's executors and what Foundation does there", NULL));
    runtime.nanoseconds = nanoseconds() - began;
}

bool forkguard_runtime_guard_process_locks(void) {
    if (runtime.impossible || (runtime.cures & LOCKS)) return !runtime.impossible;
    uint64_t began = nanoseconds();
    lead_all(LOCKS, false);
    announce(names[4], LOCKS, guards_locks());
    runtime.nanoseconds += nanoseconds() - began;
    return true;
}

size_t forkguard_runtime_rescan(void) {
    if (!runtime.impossible) lead_all(0, false);
    return runtime.led;
}

uint64_t forkguard_runtime_fingerprint(void) { return imports_fingerprint(); }

typedef struct visiting {
    void (*visit)(const char *, const char *, bool, bool, void *);
    void *context;
} visiting;

static bool is_wrapper(const void *word, const import *list, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (list[i].wrapper == word) return true;
    return false;
}

static void visit_one(const char *object, const char *name, bool in_runtime, void *word, void *context) {
    const visiting *visiting = context;
    bool led = false;
    for (const import_table *table = tables; table->imports; table++) led |= is_wrapper(word, table->imports, table->count);
    visiting->visit(object, name, in_runtime, led, visiting->context);
}

void forkguard_runtime_visit_imports(void (*visit)(const char *, const char *, bool, bool, void *), void *context) {
    visiting visiting = {visit, context};
    if (!runtime.impossible) imports_visit(visit_one, &visiting);
}

#else

__attribute__((constructor)) static void start(void) {
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        forkguard_announce_cure(names[i], false, "Linux with glibc on x86-64 or arm64 is all that this was tested on");
}

static struct {
    uint32_t cures;
    size_t led;
    uint64_t nanoseconds;
} runtime;

bool forkguard_runtime_guard_process_locks(void) { return false; }
size_t forkguard_runtime_rescan(void) { return 0; }
uint64_t forkguard_runtime_fingerprint(void) { return 0; }
void forkguard_runtime_visit_imports(void (*visit)(const char *, const char *, bool, bool, void *), void *context) {
    (void)visit;
    (void)context;
}

#endif

uint32_t forkguard_runtime_cures(void) { return __atomic_load_n(&runtime.cures, __ATOMIC_ACQUIRE); }
size_t forkguard_runtime_imports(void) { return runtime.led; }
uint64_t forkguard_runtime_start_nanoseconds(void) { return runtime.nanoseconds; }
