// The child process, as its parent holds it.
//
// A process id is free for the next process as soon as somebody reaped the child, so a signal sent to it late hits a stranger. A pidfd keeps
// meaning the same child, and can be polled with a time-out, which waitpid(2) cannot.

#include "forkguard/child.h"

#include "platform/platform.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__linux__)
#include <sys/syscall.h>
// The same numbers on every architecture (5.1 and 5.3), for C libraries with older headers.
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#endif

// How often a child without a pidfd is looked at.
#define POLL_INTERVAL INT64_C(2000000)

int forkguard_child_open(pid_t child) {
#if defined(__linux__)
    int saved = errno;
    int descriptor = (int)syscall(SYS_pidfd_open, child, 0); // sets close-on-exec by itself
    errno = saved;
    return descriptor;
#else
    (void)child;
    return -1;
#endif
}

int forkguard_child_reap(pid_t child, int *status) {
    int saved = errno;
    pid_t reaped;
    do reaped = waitpid(child, status, WNOHANG);
    while (reaped < 0 && errno == EINTR);
    int result = reaped == child ? 0 : reaped == 0 ? ETIMEDOUT : errno;
    errno = saved;
    return result;
}

static int has_ended(pid_t child, int options) {
    siginfo_t info = {.si_pid = 0};
    int result;
    do result = waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT | options);
    while (result < 0 && errno == EINTR);
    return result < 0 ? errno : info.si_pid == child ? 0 : ETIMEDOUT;
}

int forkguard_child_wait(pid_t child, int descriptor, int64_t nanoseconds) {
    int saved = errno;
    int result = has_ended(child, nanoseconds < 0 ? 0 : WNOHANG);
    uint64_t end = platform_nanoseconds() + (uint64_t)nanoseconds;
    while (result == ETIMEDOUT) {
        int64_t left = (int64_t)(end - platform_nanoseconds());
        if (left <= 0) break;
        if (descriptor >= 0) {
            struct pollfd wanted = {.fd = descriptor, .events = POLLIN};
            int64_t milliseconds = left / 1000000 + 1;
            poll(&wanted, 1, milliseconds > INT_MAX ? INT_MAX : (int)milliseconds);
        } else {
            platform_sleep((uint64_t)(left < POLL_INTERVAL ? left : POLL_INTERVAL));
        }
        result = has_ended(child, WNOHANG);
    }
    errno = saved;
    return result;
}

int forkguard_child_signal(pid_t child, int descriptor, int signal) {
    int saved = errno;
    int result;
#if defined(__linux__)
    if (descriptor >= 0) {
        result = (int)syscall(SYS_pidfd_send_signal, descriptor, signal, NULL, 0);
    } else
#endif
    {
        (void)descriptor;
        result = kill(child, signal);
    }
    result = result == 0 ? 0 : errno;
    errno = saved;
    return result;
}

void forkguard_child_exit(int status) {
    fflush(stdout);
    fflush(stderr);
    _exit(status);
}
