#if defined(__FreeBSD__)

// Written by the manual of FreeBSD 14, compiled and linked against its headers, run by nobody yet: UNTESTED.

#include "platform.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <pthread_np.h>
#include <string.h>
#include <sys/membarrier.h>
#include <sys/mman.h>
#include <sys/param.h>
#include <sys/syscall.h>
#include <sys/thr.h>
#include <sys/umtx.h>
#include <time.h>
#include <unistd.h>

bool platform_wait(const uint32_t *word, uint32_t expected, int64_t nanoseconds) {
    int saved = errno;
    struct _umtx_time time = {
        ._timeout = {.tv_sec = nanoseconds / 1000000000, .tv_nsec = nanoseconds % 1000000000}, ._clockid = CLOCK_MONOTONIC,
    };
    void *size = nanoseconds < 0 ? NULL : (void *)sizeof time;
    int result = _umtx_op((void *)word, UMTX_OP_WAIT_UINT_PRIVATE, expected, size, nanoseconds < 0 ? NULL : &time);
    bool in_time = !(result < 0 && errno == ETIMEDOUT);
    errno = saved;
    return in_time;
}

void platform_wake(const uint32_t *word, int count) {
    int saved = errno;
    if (_umtx_op((void *)word, UMTX_OP_WAKE_PRIVATE, (unsigned long)count, NULL, NULL) < 0) errno = saved;
}

bool platform_barrier_start(void) {
    int saved = errno;
    int commands = membarrier(MEMBARRIER_CMD_QUERY, 0, 0);
    bool can = commands > 0 && (commands & MEMBARRIER_CMD_PRIVATE_EXPEDITED) && membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0
        && membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0;
    errno = saved;
    return can;
}

bool platform_barrier(void) {
    int saved = errno;
    bool done = membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0
        || (errno == EPERM && membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0
            && membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0);
    errno = saved;
    return done;
}

bool platform_wipe_on_fork(void *page, size_t size) {
    int saved = errno;
    bool done = minherit(page, size, INHERIT_ZERO) == 0; // 12.0
    errno = saved;
    return done;
}

#pragma weak kcmp // 14.1

bool platform_shares_memory_with(int32_t pid) {
    int saved = errno;
    bool same = kcmp && kcmp(getpid(), pid, KCMP_VM, 0, 0) == 0;
    errno = saved;
    return same;
}

uint64_t platform_nanoseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

int32_t platform_thread_id(void) { return pthread_getthreadid_np(); }

void platform_own_name(char name[16]) {
    if (pthread_getname_np(pthread_self(), name, 16) != 0) name[0] = 0;
}

void platform_thread_name(int32_t thread_id, char name[16]) {
    (void)thread_id;
    name[0] = 0;
}

bool platform_thread_sleeps(int32_t thread_id) {
    (void)thread_id;
    return true; // cannot be told: the patience alone decides
}

bool platform_thread_is_ours(int32_t thread_id) {
    int saved = errno;
    bool ours = thr_kill2(getpid(), thread_id, 0) == 0;
    errno = saved;
    return ours;
}

bool platform_thread_is_gone(int32_t thread_id) {
    int saved = errno;
    bool gone = thr_kill2(getpid(), thread_id, 0) < 0 && errno == ESRCH;
    errno = saved;
    return gone;
}

bool platform_read(void *to, const void *from, size_t size) {
    int saved = errno;
    // sigprocmask(2), the system call itself, reads a signal set before it refuses what to do with it; though it does not know whether the page stays.
    uintptr_t page = (uintptr_t)getpagesize(), first = (uintptr_t)from & -page, last = ((uintptr_t)from + size - 1) & -page;
    bool done = true;
    for (uintptr_t at = first; at <= last; at += page) done = done && !(syscall(SYS_sigprocmask, -1, at, NULL) < 0 && errno == EFAULT);
    if (done) memcpy(to, from, size);
    errno = saved;
    return done;
}

bool platform_lock_streams(void) { return false; }
void platform_unlock_streams(void) {}
void platform_reset_streams(void) {}

int platform_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void)) { return pthread_atfork(prepare, parent, child); }

int platform_open_tombstone(void) { return open("/", O_PATH | O_CLOEXEC); } // 13.1

bool platform_is_tombstone(int number) {
    int flags = fcntl(number, F_GETFL);
    return flags >= 0 && (flags & O_PATH);
}

bool platform_replace(int from, int number, bool closes_on_exec) { return dup3(from, number, closes_on_exec ? O_CLOEXEC : 0) >= 0; }

int platform_reopen(int number, int flags) {
    return openat(number, "", (flags & ~(O_CREAT | O_EXCL | O_TRUNC | O_NOFOLLOW)) | O_EMPTY_PATH | O_NOCTTY | O_CLOEXEC); // 14.0
}

void platform_close_range(int first, int last) { close_range((unsigned)first, (unsigned)last, 0); }

void platform_pin(const void *address) {
    Dl_info info;
    if (dladdr(address, &info) && info.dli_fname) (void)dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

#endif
