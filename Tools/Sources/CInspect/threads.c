// Stops threads for the time of a copy.
//
// A thread that is stopped in a system call comes out of it, and the kernel restarts the call, as after a signal without a handler. Two kinds need care.
// Some calls end with EINTR all the same (epoll_wait, sigtimedwait, semop, a receive with a timeout: signal(7)): these are restarted here, with the timeout that
// they had. And calls that have done a part would return that part (a blocking write): threads in those are not stopped.

#include "CInspect.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/// Reads the file of a thread in /proc. The length, 0 when there is nothing.
static size_t read_file(pid_t process, pid_t thread, const char *name, char *text, size_t size) {
    char path[96];
    text[0] = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/%s", (int)process, (int)thread, name);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t length = read(file, text, size - 1);
    close(file);
    if (length < 0) length = 0;
    text[length] = 0;
    return (size_t)length;
}

bool inspect_thread_call(pid_t process, pid_t thread, int64_t *call, uint64_t arguments[6], uint64_t *stack_pointer, uint64_t *program_counter) {
    *call = -1;
    *stack_pointer = *program_counter = 0;
    memset(arguments, 0, 6 * sizeof *arguments);
    char text[256];
    if (read_file(process, thread, "syscall", text, sizeof text) == 0) return false;
    if (strncmp(text, "running", 7) == 0) return true;
    char *next = text;
    *call = strtoll(next, &next, 10);
    if (*call < 0) return true; // blocked, in no call: in a page fault
    for (int i = 0; i < 6; i++) arguments[i] = strtoull(next, &next, 16);
    *stack_pointer = strtoull(next, &next, 16);
    *program_counter = strtoull(next, &next, 16);
    return true;
}

uint64_t inspect_thread_switches(pid_t process, pid_t thread) {
    char text[4096];
    read_file(process, thread, "status", text, sizeof text);
    const char *line = strstr(text, "\nvoluntary_ctxt_switches:");
    return line ? strtoull(line + strlen("\nvoluntary_ctxt_switches:"), NULL, 10) : 0;
}

#if defined(__x86_64__)

static bool is_shortened_by_interruption(int64_t call, const uint64_t arguments[6]) {
    enum { wait_all = 0x100 };
    switch (call) {
    case SYS_write: case SYS_writev: case SYS_pwrite64: case SYS_pwritev: case SYS_pwritev2: case SYS_sendto: case SYS_sendmsg: case SYS_sendmmsg:
    case SYS_sendfile: case SYS_splice: case SYS_tee: case SYS_vmsplice: case SYS_copy_file_range: case SYS_recvmmsg:
    case SYS_vfork: case SYS_clone: case SYS_clone3: // a maker that waits for its vfork child does not stop
        return true;
    case SYS_recvfrom: return arguments[3] & wait_all;
    case SYS_recvmsg: return arguments[2] & wait_all;
    default: return false;
    }
}

static bool sleeps_deeply(pid_t process, pid_t thread) {
    char text[512];
    if (read_file(process, thread, "stat", text, sizeof text) == 0) return false;
    const char *end = strrchr(text, ')');
    return end && end[1] == ' ' && end[2] == 'D';
}

#define ONE(signal) (UINT64_C(1) << ((signal) - 1))

/// Of these signals, as a mask, those that a handler or the end of the process come from. A traced thread gets the others, too, and comes out of its call for them.
static uint64_t with_effect(pid_t process, pid_t thread, uint64_t signals, uint64_t *pending) {
    char text[4096];
    uint64_t blocked = 0, ignored = 0, caught = 0;
    *pending = 0;
    if (read_file(process, thread, "status", text, sizeof text) == 0) return signals;
    for (const char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        if (strncmp(line, "SigPnd:", 7) == 0 || strncmp(line, "ShdPnd:", 7) == 0) *pending |= strtoull(line + 7, NULL, 16);
        if (strncmp(line, "SigBlk:", 7) == 0) blocked = strtoull(line + 7, NULL, 16);
        if (strncmp(line, "SigIgn:", 7) == 0) ignored = strtoull(line + 7, NULL, 16);
        if (strncmp(line, "SigCgt:", 7) == 0) caught = strtoull(line + 7, NULL, 16);
    }
    const uint64_t harmless = ignored | ((ONE(SIGCHLD) | ONE(SIGCONT) | ONE(SIGURG) | ONE(SIGWINCH)) & ~caught);
    *pending &= ~blocked & ~harmless;
    return signals & ~harmless;
}

/// The signal that a stopped thread is to be let go with, and whether it stopped. A thread that ended instead is reaped, unless it is the main thread, which is
/// left to its process's parent.
static bool has_stopped(pid_t process, struct inspect_thread *thread, int *signal) {
    siginfo_t event = {0};
    *signal = 0;
    if (waitid(P_PID, (id_t)thread->id, &event, WSTOPPED | WNOHANG | __WALL) == 0 && event.si_pid == thread->id) {
        const bool by_us = event.si_status >> 8 == PTRACE_EVENT_STOP;
        *signal = by_us ? 0 : event.si_status & 0x7f;
        return true;
    }
    if (kill(process, 0) != 0 || syscall(SYS_tgkill, process, thread->id, 0) != 0) {
        if (thread->id != process) waitid(P_PID, (id_t)thread->id, &event, WEXITED | WNOHANG | __WALL);
        thread->outcome = INSPECT_GONE;
        thread->detached = true;
    }
    return false;
}

/// `signal` is what the thread is let go with, 0 for none: its handler comes with EINTR.
static void restart_call(pid_t process, pid_t thread, struct user_regs_struct *registers, int signal) {
    if ((int64_t)registers->rax != -EINTR || (int64_t)registers->orig_rax < 0) return;
    uint64_t pending;
    if (with_effect(process, thread, signal ? ONE(signal) : 0, &pending) || pending) return;
    errno = 0;
    const long before = ptrace(PTRACE_PEEKTEXT, thread, (void *)(registers->rip - 2), NULL);
    if (errno != 0 || (before & 0xffff) != 0x050f) return; // not after a syscall instruction
    registers->rip -= 2;
    registers->rax = registers->orig_rax;
    ptrace(PTRACE_SETREGS, thread, NULL, registers);
}

static void copy(pid_t process, struct inspect_thread *thread, int signal) {
    struct user_regs_struct r;
    if (ptrace(PTRACE_GETREGS, thread->id, NULL, &r) != 0) return;
    const uint64_t inOrder[17] = {r.rax, r.rdx, r.rcx, r.rbx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rip};
    memcpy(thread->registers, inOrder, sizeof inOrder);
    restart_call(process, thread->id, &r, signal);
    thread->stack = malloc(INSPECT_STACK_BYTES);
    thread->outcome = INSPECT_COPIED;
    if (!thread->stack) return;
    // By pages, as the stack ends somewhere, and the kernel copies whole pieces only.
    struct iovec local = {thread->stack, INSPECT_STACK_BYTES}, remote[INSPECT_STACK_BYTES / 4096 + 1];
    size_t pieces = 0, left = INSPECT_STACK_BYTES;
    for (uint64_t at = r.rsp; left > 0;) {
        size_t size = 4096 - at % 4096;
        if (size > left) size = left;
        remote[pieces++] = (struct iovec){(void *)(uintptr_t)at, size};
        at += size;
        left -= size;
    }
    const ssize_t copied = process_vm_readv(process, &local, 1, remote, pieces, 0);
    thread->stack_size = copied > 0 ? (uint64_t)copied : 0;
}

static void interrupt(pid_t process, struct inspect_thread *thread);

// Attached, but not stopped when their time was over.
static struct late {
    pid_t process;
    struct inspect_thread thread;
} late[256];
static size_t late_count;

size_t inspect_threads_release_late(void) {
    size_t left = 0;
    for (size_t i = 0; i < late_count; i++) {
        int signal;
        if (has_stopped(late[i].process, &late[i].thread, &signal)) {
            struct user_regs_struct registers;
            if (ptrace(PTRACE_GETREGS, late[i].thread.id, NULL, &registers) == 0)
                restart_call(late[i].process, late[i].thread.id, &registers, signal);
            if (ptrace(PTRACE_DETACH, late[i].thread.id, NULL, signal) == 0 || errno == ESRCH) continue;
        } else if (late[i].thread.detached) {
            continue;
        } else {
            interrupt(late[i].process, &late[i].thread);
        }
        late[left++] = late[i];
    }
    return late_count = left;
}

/// Not in a call that would be shortened: it may have come to one since it was looked at first. Then it stays attached, and is asked later.
static void interrupt(pid_t process, struct inspect_thread *thread) {
    uint64_t arguments[6], stack_pointer, program_counter;
    int64_t call;
    if (inspect_thread_call(process, thread->id, &call, arguments, &stack_pointer, &program_counter) && is_shortened_by_interruption(call, arguments)) return;
    ptrace(PTRACE_INTERRUPT, thread->id, NULL, NULL);
}

static void attach(pid_t process, struct inspect_thread *thread) {
    uint64_t arguments[6], stack_pointer, program_counter;
    thread->outcome = INSPECT_NOT_TRIED;
    for (size_t i = 0; i < late_count; i++) {
        if (late[i].thread.id == thread->id) return;
    }
    thread->has_call = inspect_thread_call(process, thread->id, &thread->call, arguments, &stack_pointer, &program_counter);
    if (!thread->has_call) {
        // What may be traced may be asked. And no thread is touched that is not of this process.
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/task/%d", (int)process, (int)thread->id);
        thread->outcome = access(path, F_OK) == 0 ? INSPECT_REFUSED : INSPECT_GONE;
        return;
    }
    if (is_shortened_by_interruption(thread->call, arguments) || sleeps_deeply(process, thread->id)) return;
    if (late_count == sizeof late / sizeof *late) return;
    if (ptrace(PTRACE_SEIZE, thread->id, NULL, NULL) != 0) {
        thread->outcome = errno == ESRCH ? INSPECT_GONE : INSPECT_REFUSED;
        return;
    }
    thread->attached = true;
    thread->outcome = INSPECT_LATE;
    interrupt(process, thread);
}

/// True when it need not be looked at again.
static bool copy_and_detach(pid_t process, struct inspect_thread *thread) {
    if (!thread->attached || thread->detached) return true;
    int signal;
    if (has_stopped(process, thread, &signal)) {
        copy(process, thread, signal);
        ptrace(PTRACE_DETACH, thread->id, NULL, signal);
        thread->detached = true;
    }
    return thread->detached;
}

void inspect_threads_copy(pid_t process, struct inspect_thread *threads, size_t count, uint64_t nanoseconds) {
    const uint64_t end = now() + nanoseconds;
    // A few at a time: each is stopped for as long as it takes to copy those beside it.
    enum { together = 16 };
    for (size_t first = 0; first < count; first += together) {
        const size_t past = first + together < count ? first + together : count;
        for (size_t i = first; i < past; i++) {
            threads[i].outcome = INSPECT_LATE;
            if (now() < end) attach(process, &threads[i]);
        }
        // One thread that does not stop costs its share, not all of the time.
        const uint64_t share = now() + nanoseconds / 4;
        for (bool all = false; !all;) {
            all = true;
            for (size_t i = first; i < past; i++) all &= copy_and_detach(process, &threads[i]);
            if (!all) {
                if (now() > end || now() > share) break;
                nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
            }
        }
        for (size_t i = first; i < past; i++) {
            if (threads[i].attached && !threads[i].detached && late_count < sizeof late / sizeof *late)
                late[late_count++] = (struct late){process, threads[i]};
        }
    }
}

#else

void inspect_threads_copy(pid_t process, struct inspect_thread *threads, size_t count, uint64_t nanoseconds) {
    (void)process, (void)nanoseconds;
    for (size_t i = 0; i < count; i++) threads[i].outcome = INSPECT_UNSUPPORTED;
}

size_t inspect_threads_release_late(void) { return 0; }

#endif

void inspect_threads_free(struct inspect_thread *threads, size_t count) {
    for (size_t i = 0; i < count; i++) {
        free(threads[i].stack);
        threads[i].stack = NULL;
    }
}
