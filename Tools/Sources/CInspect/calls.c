// The system calls in which threads wait, and those that they are seen in most; in words.

#include "CInspect.h"

#include <linux/futex.h>
#include <sys/syscall.h>

static const struct {
    long number;
    const char *name, *meaning;
} calls[] = {
    {SYS_futex, "futex", "waits for a lock, a condition or another thread"},
    {SYS_read, "read", "reads"},
    {SYS_readv, "readv", "reads"},
    {SYS_pread64, "pread64", "reads"},
    {SYS_write, "write", "writes"},
    {SYS_writev, "writev", "writes"},
    {SYS_pwrite64, "pwrite64", "writes"},
    {SYS_recvfrom, "recvfrom", "receives"},
    {SYS_recvmsg, "recvmsg", "receives"},
    {SYS_sendto, "sendto", "sends"},
    {SYS_sendmsg, "sendmsg", "sends"},
    {SYS_accept, "accept", "waits for a connection"},
    {SYS_accept4, "accept4", "waits for a connection"},
    {SYS_connect, "connect", "connects"},
#ifdef SYS_poll
    {SYS_poll, "poll", "waits for descriptors"},
    {SYS_select, "select", "waits for descriptors"},
    {SYS_epoll_wait, "epoll_wait", "waits for events"},
    {SYS_open, "open", "opens a file"},
    {SYS_pause, "pause", "waits for a signal"},
    {SYS_fork, "fork", "forks"},
    {SYS_vfork, "vfork", "waits for its vfork child"},
#endif
    {SYS_ppoll, "ppoll", "waits for descriptors"},
    {SYS_pselect6, "pselect6", "waits for descriptors"},
    {SYS_epoll_pwait, "epoll_pwait", "waits for events"},
    {SYS_io_getevents, "io_getevents", "waits for events"},
    {SYS_nanosleep, "nanosleep", "sleeps"},
    {SYS_clock_nanosleep, "clock_nanosleep", "sleeps"},
    {SYS_wait4, "wait4", "waits for a child"},
    {SYS_waitid, "waitid", "waits for a child"},
    {SYS_rt_sigtimedwait, "rt_sigtimedwait", "waits for a signal"},
    {SYS_rt_sigsuspend, "rt_sigsuspend", "waits for a signal"},
    {SYS_openat, "openat", "opens a file"},
    {SYS_close, "close", "closes a descriptor"},
    {SYS_fsync, "fsync", "writes a file to disk"},
    {SYS_fdatasync, "fdatasync", "writes a file to disk"},
    {SYS_flock, "flock", "waits for a file lock"},
    {SYS_fcntl, "fcntl", "asks about a descriptor, or waits for a file lock"},
    {SYS_sched_yield, "sched_yield", "lets others run"},
    {SYS_mmap, "mmap", "maps memory"},
    {SYS_munmap, "munmap", "unmaps memory"},
    {SYS_mprotect, "mprotect", "changes the protection of memory"},
    {SYS_madvise, "madvise", "gives memory back"},
    {SYS_brk, "brk", "asks for memory"},
    {SYS_clone, "clone", "makes a thread or a process"},
    {SYS_exit, "exit", "ends"},
    {SYS_msgrcv, "msgrcv", "waits for a message"},
    {SYS_semtimedop, "semtimedop", "waits for a System V semaphore"},
    {SYS_semop, "semop", "waits for a System V semaphore"},
    {SYS_mq_timedreceive, "mq_timedreceive", "waits for a message"},
    {SYS_restart_syscall, "restart_syscall", "waits, in a call that was interrupted"},
};

static const size_t count = sizeof calls / sizeof *calls;

const char *inspect_call_name(int64_t call) {
    for (size_t i = 0; i < count; i++) if (calls[i].number == call) return calls[i].name;
    return NULL;
}

const char *inspect_call_meaning(int64_t call) {
    for (size_t i = 0; i < count; i++) if (calls[i].number == call) return calls[i].meaning;
    return NULL;
}

bool inspect_waits_for_ever(int64_t call, const uint64_t arguments[6]) {
    if (call != SYS_futex || arguments[3] != 0) return false;
    const int operation = (int)arguments[1] & FUTEX_CMD_MASK;
    return operation == FUTEX_WAIT || operation == FUTEX_WAIT_BITSET || operation == FUTEX_LOCK_PI;
}
