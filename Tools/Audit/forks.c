// Every way to make a process that copies this one's memory. vfork, posix_spawn, system and popen do not: they are left alone.

#include "connection.h"
#include "descriptors.h"
#include "stack.h"
#include "threads.h"

#include <alloca.h>
#include <errno.h>
#include <linux/sched.h>
#include <sys/syscall.h>

static unsigned forks;

static void say_wrong(const char *name, fork_name fork, const char *detail, void **frames, int count) {
    json *packet = connection_finding(name, fork, detail);
    if (!packet) return;
    json_stack(packet, "stack", frames, count);
    connection_end(packet);
}

// The name of the fork that is about to be called; process 0 when nobody listens.
static fork_name prepare(const char *via, bool runs_handlers, void *caller) {
    fork_name fork = {0};
    if (!audit_enter()) return fork;
    int saved = errno;
    json *packet = NULL;
    void *frames[STACK_DEEP];
    bool signal_handler = false;
    int count = 0;
    thread_record *thread = NULL;
    if (process_is_ours()) {
        count = stack_walk(caller, frames, STACK_DEEP, &signal_handler);
        thread = threads_this();
        packet = connection_begin("prepare");
    }
    if (packet) {
        fork = (fork_name){audit_process.pid, __atomic_add_fetch(&forks, 1, __ATOMIC_RELAXED)};
        connection_add_fork(packet, fork);
        json_text(packet, "via", via);
        json_flag(packet, "signal_handler", signal_handler);
        json_stack(packet, "stack", frames, count);
        int threads = threads_list(packet);
        json_number(packet, "thread_count", threads);
        json_text(packet, "thread", thread ? thread->name : "");
        descriptors_list(packet, fork.number);
        connection_ask(packet);
        const char *interrupted = "fork was called in a signal handler: what the signal interrupted may hold locks, and is copied half done";
        if (signal_handler) say_wrong("fork-in-signal-handler", fork, interrupted, frames, count);
        if (!runs_handlers && threads > 1) {
            char detail[200], *at = text_copy(text_copy(detail, via), " runs no pthread_atfork handlers, in a process of ");
            text_copy(text_number(at, threads), " threads: no lock of libc or of a library is made usable in the child");
            say_wrong("fork-without-handlers", fork, detail, frames, count);
        }
    }
    audit_fork_under_way = fork;
    errno = saved;
    audit_leave();
    return fork;
}

// In the parent and in the child.
static void finish(fork_name fork, pid_t result) {
    int saved = errno;
    if (fork.process != 0 && audit_enter()) {
        if (process_is_ours() && audit_process.pid == fork.process) {
            audit_fork_under_way = (fork_name){0};
            audit_daemon_under_way = false;
            unsigned last = __atomic_load_n(&audit_process.last_fork, __ATOMIC_RELAXED);
            while (result >= 0 && last < fork.number
                && !__atomic_compare_exchange_n(&audit_process.last_fork, &last, fork.number, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {}
            json *packet = connection_begin("forked");
            if (packet) {
                connection_add_fork(packet, fork);
                json_number(packet, "child", result);
                json_number(packet, "errno", result < 0 ? saved : 0);
                connection_end(packet);
            }
        }
        audit_leave();
    }
    errno = saved;
}

EXPORT pid_t fork(void) {
    fork_name name = prepare("fork", true, CALLER);
    pid_t child = REAL(fork)();
    finish(name, child);
    return child;
}

EXPORT pid_t _Fork(void) {
    fork_name name = prepare("_Fork", false, CALLER);
    pid_t child = REAL(_Fork)();
    finish(name, child);
    return child;
}

EXPORT int forkpty(int *terminal, char *path, const struct termios *settings, const struct winsize *size) {
    fork_name name = prepare("forkpty", true, CALLER);
    int child = REAL(forkpty)(terminal, path, settings, size);
    finish(name, child);
    return child;
}

// Only its child comes back, or nobody forked.
EXPORT int daemon(int keep_directory, int keep_descriptors) {
    fork_name name = prepare("daemon", true, CALLER);
    audit_daemon_under_way = true;
    int result = REAL(daemon)(keep_directory, keep_descriptors);
    finish(name, result);
    audit_daemon_under_way = false;
    return result;
}

typedef struct first_call {
    int (*function)(void *);
    void *argument;
    fork_name name;
} first_call;

static int run_child(void *argument) {
    first_call call = *(first_call *)argument;
    finish(call.name, 0);
    return call.function(call.argument);
}

EXPORT int clone(int (*function)(void *), void *stack, int flags, void *argument, ...) {
    va_list more;
    va_start(more, argument);
    pid_t *parent_tid = va_arg(more, pid_t *);
    void *tls = va_arg(more, void *);
    pid_t *child_tid = va_arg(more, pid_t *);
    va_end(more);
    fork_name name = {0};
    if (!(flags & CLONE_VM)) name = prepare("clone", false, CALLER);
    if (name.process == 0) return REAL(clone)(function, stack, flags, argument, parent_tid, tls, child_tid);
    first_call call = {function, argument, name};
    int child = REAL(clone)(run_child, stack, flags, &call, parent_tid, tls, child_tid);
    finish(name, child);
    return child;
}

// Whether a system call forks, and the child comes back here, on a copy of this stack.
static inline bool is_fork(long number, long first, long second) {
#ifdef SYS_fork
    if (number == SYS_fork) return true;
#endif
    if (number == SYS_clone) return !(first & CLONE_VM) && second == 0;
    if (number != SYS_clone3 || first == 0 || second < 64) return false;
    const struct clone_args *arguments = (const void *)first;
    return !(arguments->flags & CLONE_VM) && arguments->stack == 0;
}

typedef long raw_call(long number, long a, long b, long c, long d, long e, long f);

static __attribute__((noinline)) long fork_by_call(long number, long a, long b, long c, long d, long e, long f, void *caller) {
    fork_name name = prepare(number == SYS_clone || number == SYS_clone3 ? "clone" : "syscall", false, caller);
    long result = ((raw_call *)REAL(syscall))(number, a, b, c, d, e, f);
    finish(name, (pid_t)result);
    return result;
}

// It takes as many arguments as the call has, and comes back twice for a vfork, or on another stack for a thread: so it must be a jump, and leave nothing on
// the stack.
EXPORT raw_call audit_syscall __asm__("syscall");
long audit_syscall(long number, long a, long b, long c, long d, long e, long f) {
    if (UNLIKELY(is_fork(number, a, b))) return fork_by_call(number, a, b, c, d, e, f, CALLER);
    return ((raw_call *)REAL(syscall))(number, a, b, c, d, e, f);
}
