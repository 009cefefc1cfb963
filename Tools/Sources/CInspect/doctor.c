// What this kernel and this C library give: each tried, not looked up.

#include "CInspect.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__GLIBC__)
#include <gnu/libc-version.h>
#endif

/// The status of a child that runs `body`; -1 when there was none.
static int status_of_child(int (*body)(void *), void *argument) {
    pid_t child = fork();
    if (child == 0) _exit(body(argument));
    int status;
    while (child > 0 && waitpid(child, &status, 0) < 0) if (errno != EINTR) return -1;
    return child > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int is_zero(void *word) { return *(volatile int *)word == 0; }

bool inspect_wipes_on_fork(void) {
    const size_t size = (size_t)sysconf(_SC_PAGESIZE);
    volatile int *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return false;
    *page = 1;
    const bool wiped = madvise((void *)page, size, MADV_WIPEONFORK) == 0 && status_of_child(is_zero, (void *)page) == 1 && *page == 1;
    munmap((void *)page, size);
    return wiped;
}

bool inspect_has_membarrier(void) {
    return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0
        && syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0;
}

static volatile int prepared, in_parent, in_child;
static void on_prepare(void) { prepared = 1; }
static void on_parent(void) { in_parent = 1; }
static void on_child(void) { in_child = 1; }
static int ran_in_child(void *unused) { (void)unused; return prepared && in_child && !in_parent; }

bool inspect_runs_handlers(void) {
    return pthread_atfork(on_prepare, on_parent, on_child) == 0 && status_of_child(ran_in_child, NULL) == 1 && in_parent && !in_child;
}

bool inspect_has_process_descriptors(void) {
    int descriptor = inspect_open_process(getpid());
    if (descriptor < 0) return false;
    const bool answers = inspect_signal_process(descriptor, 0) == 0;
    close(descriptor);
    return answers;
}

int inspect_may_trace(void) {
    pid_t child = fork();
    if (child < 0) return errno;
    if (child == 0) for (;;) pause();
    const int error = ptrace(PTRACE_SEIZE, child, NULL, NULL) == 0 ? 0 : errno;
    kill(child, SIGKILL);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {}
    return error;
}

const char *inspect_libc_name(void) {
#if defined(__GLIBC__)
    return "glibc";
#else
    return "musl or another";
#endif
}

const char *inspect_libc_version(void) {
#if defined(__GLIBC__)
    return gnu_get_libc_version();
#else
    return "";
#endif
}

double inspect_system_call_nanoseconds(void) {
    enum { calls = 20000 };
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int i = 0; i < calls; i++) syscall(SYS_getpid);
    clock_gettime(CLOCK_MONOTONIC, &end);
    return ((double)(end.tv_sec - start.tv_sec) * 1e9 + (double)(end.tv_nsec - start.tv_nsec)) / calls;
}
