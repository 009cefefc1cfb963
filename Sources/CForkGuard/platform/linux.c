#if defined(__linux__)

#include "platform.h"

#include "../trap.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

// Numbers from the kernel's own interface, for C libraries whose headers are older than the kernels that they run on.
#define MADVISE_WIPEONFORK 18                             // linux/mman-common.h, 4.14
#define MADVISE_IMPOSSIBLE 0x7fff
#define MEMBARRIER_QUERY 0                                // linux/membarrier.h, 4.3
#define MEMBARRIER_PRIVATE_EXPEDITED (1 << 3)             // 4.14
#define MEMBARRIER_REGISTER_PRIVATE_EXPEDITED (1 << 4)
#define KERNEL_SIGNAL_SET 8                               // bytes
#define MOST_DESCRIPTORS (1 << 20)                        // proc(5), fs.nr_open
#ifndef SYS_close_range
#define SYS_close_range 436                               // on every architecture, 5.9
#endif
#define KCMP_SAME_VM 1                                    // linux/kcmp.h, KCMP_VM, 3.5

bool platform_wait(const uint32_t *word, uint32_t expected, int64_t nanoseconds) {
    int saved = errno;
    struct timespec time = {.tv_sec = nanoseconds / 1000000000, .tv_nsec = nanoseconds % 1000000000};
    long result = syscall(SYS_futex, word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, expected, nanoseconds < 0 ? NULL : &time, NULL, 0);
    bool in_time = !(result < 0 && errno == ETIMEDOUT);
    errno = saved;
    return in_time;
}

void platform_wake(const uint32_t *word, int count) {
    int saved = errno;
    // Success leaves errno alone, and so must we: right after a fork writing to it copies a page.
    if (syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count, NULL, NULL, 0) >= 0) return;
    // What the kernel says against the memory means that nobody sleeps there. But where the call itself is refused whoever sleeps, sleeps for ever.
    if (errno == ENOSYS || errno == EPERM)
        forkguard_trap_misuse(NULL, "futex(2) is refused here, so nobody who waits can be woken", "allow it in the sandbox that this process is in");
    errno = saved;
}

bool platform_barrier_start(void) {
    int saved = errno;
    long commands = syscall(SYS_membarrier, MEMBARRIER_QUERY, 0, 0);
    bool can = commands > 0 && (commands & MEMBARRIER_PRIVATE_EXPEDITED)
        && syscall(SYS_membarrier, MEMBARRIER_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0
        && syscall(SYS_membarrier, MEMBARRIER_PRIVATE_EXPEDITED, 0, 0) == 0;
    errno = saved;
    return can;
}

bool platform_barrier(void) {
    int saved = errno;
    if (syscall(SYS_membarrier, MEMBARRIER_PRIVATE_EXPEDITED, 0, 0) == 0) return true;
    // A child inherits its parent's registration today; membarrier(2) does not promise it.
    bool done = (errno == EPERM && syscall(SYS_membarrier, MEMBARRIER_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0
            && syscall(SYS_membarrier, MEMBARRIER_PRIVATE_EXPEDITED, 0, 0) == 0);
    errno = saved;
    return done;
}

bool platform_wipe_on_fork(void *page, size_t size) {
    int saved = errno;
    // Some emulators answer every madvise with success. One that takes an advice that does not exist is not to be believed.
    bool done = madvise(page, size, MADVISE_IMPOSSIBLE) != 0 && madvise(page, size, MADVISE_WIPEONFORK) == 0;
    errno = saved;
    return done;
}

bool platform_shares_memory_with(int32_t pid) {
    int saved = errno;
    bool same = syscall(SYS_kcmp, getpid(), pid, KCMP_SAME_VM, 0, 0) == 0;
    errno = saved;
    return same;
}

static uint64_t now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

uint64_t platform_nanoseconds(void) { return now(CLOCK_MONOTONIC); }

int32_t platform_thread_id(void) { return (int32_t)syscall(SYS_gettid); }

void platform_own_name(char name[16]) {
    int saved = errno;
    if (prctl(PR_GET_NAME, name) != 0) name[0] = 0;
    errno = saved;
}

static ssize_t read_task_file(int32_t thread_id, const char *file, char *text, size_t size) {
    int saved = errno;
    // open(2), read(2) and close(2) are cancellation points, and a lock is none.
    int cancel_state;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/%s", (int)thread_id, file);
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = -1;
    if (descriptor >= 0) {
        length = read(descriptor, text, size - 1);
        close(descriptor);
    }
    text[length > 0 ? length : 0] = 0;
    pthread_setcancelstate(cancel_state, &(int){0});
    errno = saved;
    return length;
}

void platform_thread_name(int32_t thread_id, char name[16]) {
    read_task_file(thread_id, "comm", name, 16);
    name[strcspn(name, "\n")] = 0;
}

bool platform_thread_sleeps(int32_t thread_id) {
    // proc_pid_stat(5): "pid (comm) state ..."; comm may itself contain parentheses, so the last one counts.
    char text[256];
    read_task_file(thread_id, "stat", text, sizeof text);
    const char *end = strrchr(text, ')');
    return !end || end[1] != ' ' || end[2] == 'S'; // no /proc here, or no more than a part of it was read
}

bool platform_thread_is_ours(int32_t thread_id) {
    int saved = errno;
    bool ours = syscall(SYS_tgkill, getpid(), thread_id, 0) == 0;
    errno = saved;
    return ours;
}

bool platform_thread_is_gone(int32_t thread_id) {
    int saved = errno;
    // A sandbox that refuses the question has not said so.
    bool gone = syscall(SYS_tgkill, getpid(), thread_id, 0) < 0 && errno == ESRCH;
    errno = saved;
    return gone;
}

bool platform_read(void *to, const void *from, size_t size) {
    int saved = errno;
    struct iovec local = {to, size}, remote = {(void *)from, size};
    bool done = process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == (ssize_t)size;
    if (!done && errno != EFAULT) {
        // Sandboxes refuse it and emulators lack it. mincore(2) knows whether there is a page too, and rt_sigprocmask(2) reads a signal set before it refuses what to
        // do with it; though neither knows whether the page stays.
        uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = (uintptr_t)from & -page, last = ((uintptr_t)from + size - 1) & -page;
        unsigned char resident;
        done = true;
        for (uintptr_t at = first; at <= last; at += page)
            done = done && mincore((void *)at, page, &resident) == 0
                && !(syscall(SYS_rt_sigprocmask, -1, at, NULL, KERNEL_SIGNAL_SET) < 0 && errno == EFAULT);
        if (done) memcpy(to, from, size);
    }
    errno = saved;
    return done;
}

#if defined(__GLIBC__)
// Exported since 2.2.5, declared nowhere. In a child of a process with threads fork(3) makes that lock anew, so there is nothing to give back there; in a process
// without it takes no such lock, and neither do we.
extern void _IO_list_lock(void) __attribute__((weak));
extern void _IO_list_unlock(void) __attribute__((weak));
extern void _IO_list_resetlock(void) __attribute__((weak));
extern char __libc_single_threaded __attribute__((weak)); // sys/single_threaded.h, 2.32

bool platform_lock_streams(void) {
    if (!_IO_list_lock || !_IO_list_unlock || !&__libc_single_threaded || __libc_single_threaded) return false;
    _IO_list_lock();
    return true;
}

void platform_unlock_streams(void) { _IO_list_unlock(); }
void platform_reset_streams(void) {
    if (_IO_list_resetlock) _IO_list_resetlock();
}
#else
bool platform_lock_streams(void) { return false; }
void platform_unlock_streams(void) {}
void platform_reset_streams(void) {}
#endif

#if defined(__GLIBC__)
// What pthread_atfork(3) calls, since 2.3.2. With the handle of a program or library glibc takes the handlers away when that is finalised, at exit too; a thread that is
// in fork() just then finds its list shorter than it was, and aborts ("array index 1 not less than array length 0"). Without one they stay: the library is
// never unloaded, and a fork by another thread during exit is prepared like any other.
extern int __register_atfork(void (*)(void), void (*)(void), void (*)(void), void *) __attribute__((weak));

int platform_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void)) {
    return __register_atfork ? __register_atfork(prepare, parent, child, NULL) : pthread_atfork(prepare, parent, child);
}
#else
int platform_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void)) { return pthread_atfork(prepare, parent, child); }
#endif

int platform_open_tombstone(void) { return open("/", O_PATH | O_CLOEXEC); }

bool platform_is_tombstone(int number) {
    int flags = fcntl(number, F_GETFL);
    return flags >= 0 && (flags & O_PATH);
}

bool platform_replace(int from, int number, bool closes_on_exec) {
    int replaced;
    do replaced = dup3(from, number, closes_on_exec ? O_CLOEXEC : 0);
    while (replaced < 0 && errno == EINTR);
    return replaced >= 0;
}

int platform_reopen(int number, int flags) {
    // By the open file, not by its path, which may lead elsewhere by now or nowhere (proc_pid_fd(5)).
    char path[32] = "/proc/self/fd/", digits[12];
    size_t length = strlen(path), count = 0;
    for (unsigned rest = (unsigned)number; rest != 0 || count == 0; rest /= 10) digits[count++] = (char)('0' + rest % 10);
    while (count != 0) path[length++] = digits[--count];
    // F_GETFL gives O_NOFOLLOW and O_TMPFILE back, too: /proc's link would be refused for the one, a directory wanted for the other.
    return open(path, (flags & ~(O_CREAT | O_EXCL | O_TRUNC | O_NOFOLLOW | O_TMPFILE)) | O_NOCTTY | O_CLOEXEC);
}

void platform_close_range(int first, int last) {
    if (syscall(SYS_close_range, first, last, 0) == 0) return;
    // Before Linux 5.9, and in sandboxes that do not know it.
    for (int number = first; number <= last && number < MOST_DESCRIPTORS; number++) close(number);
}

void platform_pin(const void *address) {
    Dl_info info;
    if (dladdr(address, &info) && info.dli_fname && *info.dli_fname) {
        // Not for the executable, which cannot be unloaded: dlopen would make a heap where there may be none yet, which every fork would copy.
        uintptr_t headers = getauxval(AT_PHDR), base = (uintptr_t)info.dli_fbase;
        if (headers >= base && headers - base < (uintptr_t)sysconf(_SC_PAGESIZE)) return;
        // The reference is never given back: that is the point. A library that cannot be found again by its name gives NULL.
        void *handle = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
        (void)handle;
        dlerror();
    }
}

#endif
