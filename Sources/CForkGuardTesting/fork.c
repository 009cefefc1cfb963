// The ways to fork that Swift hides, and those that go around libc.

#include "CForkGuardTesting.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#if defined(__linux__)
#include <sys/syscall.h>

#ifndef CLONE_FILES
#define CLONE_FILES 0x00000400
#endif

// glibc has it since 2.34, musl since 1.2.3; older headers do not name it.
extern pid_t _Fork(void) __attribute__((weak));

struct clone3_arguments {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
};

static long raw_clone(unsigned long flags) {
#if defined(__s390__) || defined(__CRIS__)
    return syscall(SYS_clone, 0UL, flags | SIGCHLD, 0UL, 0UL, 0UL);
#else
    // The order of the last three differs per architecture; all are 0.
    return syscall(SYS_clone, flags | SIGCHLD, 0UL, 0UL, 0UL, 0UL);
#endif
}
#endif

int32_t fgt_fork(int32_t method) {
    long pid = -1;
    errno = ENOSYS;
    switch (method) {
    case FGT_FORK:
        pid = fork();
        break;
#if defined(__linux__)
    case FGT_UNDERSCORE_FORK:
        if (_Fork) pid = _Fork();
        break;
    case FGT_SYSTEM_CALL_FORK:
#ifdef SYS_fork
        pid = syscall(SYS_fork);
#endif
        break;
    case FGT_CLONE:
        pid = raw_clone(0);
        break;
    case FGT_CLONE_SHARING_FILES:
        pid = raw_clone(CLONE_FILES);
        break;
    case FGT_CLONE3:
#ifdef SYS_clone3
    {
        struct clone3_arguments arguments;
        memset(&arguments, 0, sizeof arguments);
        arguments.exit_signal = SIGCHLD;
        pid = syscall(SYS_clone3, &arguments, sizeof arguments);
    }
#endif
        break;
#endif
    default:
        break;
    }
    return pid < 0 ? -errno : (int32_t)pid;
}

bool fgt_method_available(int32_t method) {
    switch (method) {
    case FGT_FORK:
        return true;
#if defined(__linux__)
    case FGT_UNDERSCORE_FORK:
        return _Fork != NULL;
    case FGT_SYSTEM_CALL_FORK:
#ifdef SYS_fork
        return true;
#else
        return false;
#endif
    case FGT_CLONE:
    case FGT_CLONE_SHARING_FILES:
        return true;
    case FGT_CLONE3:
#ifdef SYS_clone3
        // A size of 0 is refused before anything is done; a kernel or a sandbox without the call says ENOSYS or EPERM.
        return syscall(SYS_clone3, NULL, 0UL) == -1 && errno == EINVAL;
#else
        return false;
#endif
#endif
    default:
        return false;
    }
}
