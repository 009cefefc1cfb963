// libforkguard-preload.so: the gate around the pthread mutexes, read-write locks and conditions of a program that knows nothing of it.
//
// It defines the C library's names. The dynamic linker looks through the objects in the order in which they were loaded, this one before
// all that the program needs, so every reference to these names leads here: the program's (also one that is not position-independent, whose
// table of imports cannot be told apart), those of objects that are opened later, and dlsym(3). What is real is the next object's.
//
// Before its constructor runs, which is late (the linker initializes what was loaded last first), everything goes straight through: an
// allocator that is preloaded too locks while it is not made yet, and to start the gate may allocate.

#include "preload.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "exclusions.h"
#include "forkguard.h"
#include "forks.h"
#include "ghosts.h"
#include "locks.h"
#include "report.h"

#define EXPORTED __attribute__((visibility("default")))

// ON is zero: then a lock costs one more load and one compare.
static enum { ON = 0, NOT_STARTED, OFF, EXCLUDING } mode = NOT_STARTED;

// ---- what is real ----

// Conditions have two forms on x86-64: dlsym(3) of older C libraries finds the one of 2002 first.
#if defined(__x86_64__)
#define CONDITION "GLIBC_2.3.2"
#else
#define CONDITION "GLIBC_2.17"
#endif

static void *find(const char *name, const char *version) {
    void *found = version ? dlvsym(RTLD_NEXT, name, version) : NULL;
    return found ? found : dlsym(RTLD_NEXT, name);
}

static void find_real(void) {
    // dlsym(3) itself may allocate, with an allocator that locks: so first what allocators use. `finding` is of one thread: who else comes
    // finds the same.
    static __thread bool finding;
    if (finding) return;
    finding = true;
    *(void **)&real.mutex_lock = find("pthread_mutex_lock", NULL);
    *(void **)&real.mutex_unlock = find("pthread_mutex_unlock", NULL);
    *(void **)&real.mutex_trylock = find("pthread_mutex_trylock", NULL);
    *(void **)&real.mutex_timedlock = find("pthread_mutex_timedlock", NULL);
    *(void **)&real.mutex_clocklock = find("pthread_mutex_clocklock", NULL);
    *(void **)&real.cond_destroy = find("pthread_cond_destroy", CONDITION);
    *(void **)&real.cond_wait = find("pthread_cond_wait", CONDITION);
    *(void **)&real.cond_timedwait = find("pthread_cond_timedwait", CONDITION);
    *(void **)&real.cond_clockwait = find("pthread_cond_clockwait", NULL);
    *(void **)&real.tryrdlock = find("pthread_rwlock_tryrdlock", NULL);
    *(void **)&real.trywrlock = find("pthread_rwlock_trywrlock", NULL);
    *(void **)&real.rdlock = find("pthread_rwlock_rdlock", NULL);
    *(void **)&real.wrlock = find("pthread_rwlock_wrlock", NULL);
    *(void **)&real.timedrdlock = find("pthread_rwlock_timedrdlock", NULL);
    *(void **)&real.timedwrlock = find("pthread_rwlock_timedwrlock", NULL);
    *(void **)&real.clockrdlock = find("pthread_rwlock_clockrdlock", NULL);
    *(void **)&real.clockwrlock = find("pthread_rwlock_clockwrlock", NULL);
    *(void **)&real.rwlock_unlock = find("pthread_rwlock_unlock", NULL);
    *(void **)&real_fork.fork = find("fork", NULL);
    *(void **)&real_fork.forkpty = find("forkpty", NULL);
    *(void **)&real_fork.daemon = find("daemon", NULL);
    finding = false;
}

// Out of line, for all but the usual case. Whether a call from there is to be gated.
static __attribute__((noinline, cold)) bool decide(const void *caller) {
    if (mode == EXCLUDING) return !exclusions_contain(caller);
    if (!real_fork.daemon) find_real();
    return false;
}

#define GATED (FORKGUARD_LIKELY(mode == ON) || decide(__builtin_return_address(0)))

// ---- the names ----

EXPORTED int pthread_mutex_lock(pthread_mutex_t *mutex) { return GATED ? gated_mutex_lock(mutex) : real.mutex_lock(mutex); }
EXPORTED int pthread_mutex_unlock(pthread_mutex_t *mutex) { return GATED ? gated_mutex_unlock(mutex) : real.mutex_unlock(mutex); }
EXPORTED int pthread_mutex_trylock(pthread_mutex_t *mutex) { return GATED ? gated_mutex_trylock(mutex) : real.mutex_trylock(mutex); }
EXPORTED int pthread_mutex_timedlock(pthread_mutex_t *mutex, const struct timespec *deadline) {
    return GATED ? gated_mutex_timedlock(mutex, deadline) : real.mutex_timedlock(mutex, deadline);
}
EXPORTED int pthread_mutex_clocklock(pthread_mutex_t *mutex, clockid_t clock, const struct timespec *deadline) {
    return GATED ? gated_mutex_clocklock(mutex, clock, deadline) : real.mutex_clocklock(mutex, clock, deadline);
}

EXPORTED int pthread_cond_destroy(pthread_cond_t *condition) { return GATED ? gated_cond_destroy(condition) : real.cond_destroy(condition); }
EXPORTED int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex) {
    return GATED ? gated_cond_wait(condition, mutex) : real.cond_wait(condition, mutex);
}
EXPORTED int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *deadline) {
    return GATED ? gated_cond_timedwait(condition, mutex, deadline) : real.cond_timedwait(condition, mutex, deadline);
}
EXPORTED int pthread_cond_clockwait(pthread_cond_t *condition, pthread_mutex_t *mutex, clockid_t clock, const struct timespec *deadline) {
    return GATED ? gated_cond_clockwait(condition, mutex, clock, deadline) : real.cond_clockwait(condition, mutex, clock, deadline);
}

EXPORTED int pthread_rwlock_rdlock(pthread_rwlock_t *lock) { return GATED ? gated_rdlock(lock) : real.rdlock(lock); }
EXPORTED int pthread_rwlock_wrlock(pthread_rwlock_t *lock) { return GATED ? gated_wrlock(lock) : real.wrlock(lock); }
EXPORTED int pthread_rwlock_tryrdlock(pthread_rwlock_t *lock) { return GATED ? gated_tryrdlock(lock) : real.tryrdlock(lock); }
EXPORTED int pthread_rwlock_trywrlock(pthread_rwlock_t *lock) { return GATED ? gated_trywrlock(lock) : real.trywrlock(lock); }
EXPORTED int pthread_rwlock_timedrdlock(pthread_rwlock_t *lock, const struct timespec *deadline) {
    return GATED ? gated_timedrdlock(lock, deadline) : real.timedrdlock(lock, deadline);
}
EXPORTED int pthread_rwlock_timedwrlock(pthread_rwlock_t *lock, const struct timespec *deadline) {
    return GATED ? gated_timedwrlock(lock, deadline) : real.timedwrlock(lock, deadline);
}
EXPORTED int pthread_rwlock_clockrdlock(pthread_rwlock_t *lock, clockid_t clock, const struct timespec *deadline) {
    return GATED ? gated_clockrdlock(lock, clock, deadline) : real.clockrdlock(lock, clock, deadline);
}
EXPORTED int pthread_rwlock_clockwrlock(pthread_rwlock_t *lock, clockid_t clock, const struct timespec *deadline) {
    return GATED ? gated_clockwrlock(lock, clock, deadline) : real.clockwrlock(lock, clock, deadline);
}
EXPORTED int pthread_rwlock_unlock(pthread_rwlock_t *lock) { return GATED ? gated_rwlock_unlock(lock) : real.rwlock_unlock(lock); }

// The C library has these under a second name, and what locks by one may unlock by the other.
#if __has_attribute(copy)
#define SECOND_NAME(NAME) EXPORTED __attribute__((alias(#NAME), copy(NAME))) __typeof__(NAME) __##NAME
#else
#define SECOND_NAME(NAME) EXPORTED __attribute__((alias(#NAME))) __typeof__(NAME) __##NAME
#endif
SECOND_NAME(pthread_mutex_lock);
SECOND_NAME(pthread_mutex_unlock);
SECOND_NAME(pthread_mutex_trylock);
SECOND_NAME(pthread_rwlock_rdlock);
SECOND_NAME(pthread_rwlock_wrlock);
SECOND_NAME(pthread_rwlock_tryrdlock);
SECOND_NAME(pthread_rwlock_trywrlock);
SECOND_NAME(pthread_rwlock_unlock);

// ---- forks ----
//
// vfork(2), posix_spawn(3), and system(3) and popen(3), which spawn, run no handlers and take no gate: their children have the parent's
// memory for the little time until they exec.

static void start(void);

// Switched off, not even these start the gate.
static bool counts(void) {
    start();
    return mode != OFF;
}

EXPORTED pid_t fork(void) { return counts() ? gated_fork() : real_fork.fork(); }
SECOND_NAME(fork);

EXPORTED int forkpty(int *terminal, char *name, const void *modes, const void *size) {
    return counts() ? gated_forkpty(terminal, name, modes, size) : real_fork.forkpty(terminal, name, modes, size);
}

EXPORTED int daemon(int stays, int keeps) { return counts() ? gated_daemon(stays, keeps) : real_fork.daemon(stays, keeps); }

// The pthread functions of the gate itself, which are to take no gate (CMakeLists.txt renames them in mutex.c).
int forkguard_real_mutex_trylock(pthread_mutex_t *mutex) { return real.mutex_trylock(mutex); }
int forkguard_real_mutex_timedlock(pthread_mutex_t *mutex, const struct timespec *deadline) { return real.mutex_timedlock(mutex, deadline); }
int forkguard_real_mutex_unlock(pthread_mutex_t *mutex) { return real.mutex_unlock(mutex); }
int forkguard_real_rwlock_trywrlock(pthread_rwlock_t *lock) { return real.trywrlock(lock); }
int forkguard_real_rwlock_timedwrlock(pthread_rwlock_t *lock, const struct timespec *deadline) { return real.timedwrlock(lock, deadline); }
int forkguard_real_rwlock_unlock(pthread_rwlock_t *lock) { return real.rwlock_unlock(lock); }

// ---- start ----

static struct stat error_at_start;

bool preload_may_write(void) {
    int saved = errno;
    struct stat now;
    bool may = fstat(STDERR_FILENO, &now) == 0
        && ((S_ISREG(now.st_mode) && (fcntl(STDERR_FILENO, F_GETFL) & O_APPEND)) || (now.st_ino == error_at_start.st_ino && now.st_dev == error_at_start.st_dev));
    errno = saved;
    return may;
}

void preload_say(const char *what, const char *value, const char *why) {
    // Not stdio: what this is loaded into may not have begun to use it.
    char text[512];
    int length = snprintf(text, sizeof text, "ForkGuard: %s%s%s\n", what, value, why);
    if (length > (int)sizeof text - 1) length = sizeof text - 1;
    ssize_t written = write(STDERR_FILENO, text, (size_t)length);
    (void)written;
}

static Dl_info object_of(const void *address) {
    Dl_info info = {0};
    if (!dladdr(address, &info) || !info.dli_fname) info.dli_fname = "";
    const char *slash = strrchr(info.dli_fname, '/');
    if (slash) info.dli_fname = slash + 1;
    return info;
}

// The same library under another path. The linker knows one from the other by its file; the first guards, and this one goes straight through.
static bool another_is_first(void) {
    Dl_info first = object_of(dlsym(RTLD_DEFAULT, "pthread_mutex_lock")), own = object_of((const void *)(uintptr_t)decide);
    return first.dli_fbase != own.dli_fbase && strcmp(first.dli_fname, own.dli_fname) == 0;
}

static bool is_switched_off(void) {
    const char *asked = getenv("FORKGUARD_PRELOAD");
    if (!asked || !*asked || strcmp(asked, "on") == 0) return false;
    if (strcmp(asked, "off") == 0) return true;
    preload_say("FORKGUARD_PRELOAD is '", asked, "', which is neither 'on' nor 'off'; it is ignored");
    return false;
}

// Once; a second thread, of another object's constructor, finds it under way and goes on as before.
static void start(void) {
    static uint32_t begun;
    if (!real_fork.daemon) find_real();
    if (FORKGUARD_LIKELY(__atomic_load_n(&begun, __ATOMIC_RELAXED)) || !environ || __atomic_exchange_n(&begun, 1, __ATOMIC_SEQ_CST)) return;
    int saved = errno;
    fstat(STDERR_FILENO, &error_at_start);
    if (another_is_first() || is_switched_off() || exclusions_read()) {
        mode = OFF;
    } else {
        torn_start();
        forkguard_start();
        // Another one in between may do more than take the mutex.
        if (object_of((const void *)(uintptr_t)real.mutex_lock).dli_fbase == object_of((const void *)(uintptr_t)gnu_get_libc_version).dli_fbase) locks_try_plain();
        __atomic_store_n(&mode, exclusions_name_objects() ? EXCLUDING : ON, __ATOMIC_SEQ_CST);
    }
    errno = saved;
}

__attribute__((constructor)) static void start_before_main(void) { start(); }
