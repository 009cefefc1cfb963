// Watching a child that this process started.

#include "internal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__linux__)
#include <sys/syscall.h>
#elif defined(__FreeBSD__)
#include <pthread_np.h>
#else
#include <pthread.h>
#endif

int32_t fgt_pidfd(int32_t pid) {
#if defined(__linux__) && defined(SYS_pidfd_open)
    // Close-on-exec by itself.
    return (int32_t)syscall(SYS_pidfd_open, pid, 0);
#else
    (void)pid;
    return -1;
#endif
}

void fgt_watch(const fgt_channel *channel, int32_t pidfd, int32_t timeout_ms) {
    if (pidfd < 0 && timeout_ms > 5) timeout_ms = 5;
    struct pollfd watched[3] = {
        {.fd = pidfd, .events = POLLIN},
        {.fd = channel->read_end[0], .events = POLLIN},
        {.fd = channel->read_end[1], .events = POLLIN},
    };
    poll(watched, 3, timeout_ms);
}

int32_t fgt_has_ended(int32_t pid) {
    siginfo_t information;
    memset(&information, 0, sizeof information);
    int result;
    // Left to be reaped: until then its number is nobody else's, and its group can be killed.
    do result = waitid(P_PID, (id_t)pid, &information, WEXITED | WNOHANG | WNOWAIT);
    while (result != 0 && errno == EINTR);
    if (result != 0) return -1;
    return information.si_pid == pid ? 1 : 0;
}

void fgt_kill(int32_t pid) {
    setpgid(pid, pid);
    if (getpgid(pid) == pid) kill(-pid, SIGKILL);
    kill(pid, SIGKILL);
}

int32_t fgt_reap(int32_t pid) {
    int status;
    pid_t reaped;
    do reaped = waitpid(pid, &status, 0);
    while (reaped < 0 && errno == EINTR);
    return reaped == pid ? status : -1;
}

int32_t fgt_exit_code(int32_t status) { return WIFEXITED(status) ? WEXITSTATUS(status) : -1; }
int32_t fgt_end_signal(int32_t status) { return WIFSIGNALED(status) ? WTERMSIG(status) : 0; }

void fgt_close(int32_t descriptor) {
    if (descriptor >= 0) close(descriptor);
}

int32_t fgt_getpid(void) { return getpid(); }

int32_t fgt_gettid(void) {
#if defined(__linux__)
    return (int32_t)syscall(SYS_gettid);
#elif defined(__FreeBSD__)
    return pthread_getthreadid_np();
#else
    uint64_t number = 0;
    pthread_threadid_np(NULL, &number);
    return (int32_t)number;
#endif
}

_Noreturn void fgt_exit(int32_t code) { _exit(code); }

void fgt_signal_name(int32_t number, char *buffer, size_t count) {
    const char *name = strsignal(number);
    snprintf(buffer, count, "%s", name ? name : "unknown");
}

void fgt_error_text(int32_t number, char *buffer, size_t count) { snprintf(buffer, count, "%s", strerror(number)); }

uint64_t fgt_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int32_t fgt_errno(void) { return errno; }
