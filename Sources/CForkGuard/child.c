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

static int reap(pid_t child, int options, int *status) {
    pid_t reaped;
    do reaped = waitpid(child, status, options);
    while (reaped < 0 && errno == EINTR);
    return reaped == child ? 0 : reaped == 0 ? ETIMEDOUT : errno;
}

int forkguard_child_wait(pid_t child, int descriptor, int64_t nanoseconds, int *status) {
    int saved = errno;
    int result = ETIMEDOUT;
    if (nanoseconds < 0) {
        result = reap(child, 0, status);
    } else {
        uint64_t end = platform_nanoseconds() + (uint64_t)nanoseconds;
        while ((result = reap(child, WNOHANG, status)) == ETIMEDOUT) {
            int64_t left = (int64_t)(end - platform_nanoseconds());
            if (left <= 0) break;
            if (descriptor >= 0) {
                struct pollfd wanted = {.fd = descriptor, .events = POLLIN};
                int64_t milliseconds = (left + 999999) / 1000000;
                poll(&wanted, 1, milliseconds > INT_MAX ? INT_MAX : (int)milliseconds);
            } else {
                uint32_t never = 0;
                platform_wait(&never, 0, left < POLL_INTERVAL ? left : POLL_INTERVAL);
            }
        }
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
