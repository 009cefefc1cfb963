// Where a process is stuck.

#include "internal.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__linux__)
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#ifndef PR_SET_PTRACER
#define PR_SET_PTRACER 0x59616d61
#define PR_SET_PTRACER_ANY ((unsigned long)-1)
#endif
#endif

extern char **environ;

// ---- gdb ----

// Without what would have the debugger preload the tested library, or ask the network for symbols.
static char **debugger_environment(void) {
    size_t count = 0;
    while (environ[count]) count++;
    char **copy = calloc(count + 1, sizeof *copy);
    if (!copy) return NULL;
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (strncmp(environ[i], "LD_PRELOAD=", 11) == 0 || strncmp(environ[i], "DEBUGINFOD_URLS=", 16) == 0) continue;
        copy[kept++] = environ[i];
    }
    return copy;
}

// The exit code of a program whose output goes to a file, -ETIMEDOUT when it was killed, or -errno.
static int run_bounded(const char *const arguments[], int output, int32_t timeout_ms) {
    char **environment = debugger_environment();
    if (!environment) return -ENOMEM;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, output, 1);
    posix_spawn_file_actions_adddup2(&actions, output, 2);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);

    pid_t pid;
    int result = -posix_spawnp(&pid, arguments[0], &actions, &attributes, (char *const *)arguments, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    free(environment);
    if (result != 0) return result;

    uint64_t deadline = fgt_now_ns() + (uint64_t)timeout_ms * 1000000u;
    while (fgt_has_ended(pid) == 0) {
        if (fgt_now_ns() >= deadline) {
            fgt_kill(pid);
            fgt_reap(pid);
            return -ETIMEDOUT;
        }
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    int32_t status = fgt_reap(pid);
    int32_t code = status < 0 ? -1 : fgt_exit_code(status);
    return code < 0 ? -ECHILD : code;
}

int64_t fgt_stack_by_gdb(int32_t pid, const char *gdb, int32_t timeout_ms, char *buffer, size_t count) {
    // Into a file: when gdb has stopped this very process, nobody would read a pipe.
    int output = fgt_anonymous_file();
    if (output < 0) return -errno;
    char process[16], seconds[16];
    snprintf(process, sizeof process, "%d", pid);
    snprintf(seconds, sizeof seconds, "%d", (timeout_ms + 999) / 1000);
    // And for the same reason the time-out must be kept by somebody else.
    const char *arguments[] = {
        "timeout", "-s", "KILL", seconds,
        gdb, "-nx", "-q", "-batch",
        "-ex", "set pagination off", "-ex", "set width 0", "-ex", "set print frame-arguments none",
        "-ex", "thread apply all backtrace 64", "-p", process, NULL,
    };
    bool own = pid == getpid();
#if defined(__linux__)
    if (own) prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
#endif
    int result = run_bounded(own ? arguments : arguments + 4, output, own ? timeout_ms + 1000 : timeout_ms);
#if defined(__linux__)
    if (own) prctl(PR_SET_PTRACER, 0);
#endif
    int64_t length = result == -ENOENT || result == 127 ? -ENOENT : result < 0 ? result : 0;
    if (result >= 0 && result != 127) {
        do length = pread(output, buffer, count, 0);
        while (length < 0 && errno == EINTR);
        if (length < 0) length = -errno;
    }
    close(output);
    return length;
}

// ---- /proc ----

#if defined(__linux__)

struct text {
    char *bytes;
    size_t count, used;
};

__attribute__((format(printf, 2, 3))) static void add(struct text *text, const char *format, ...) {
    if (text->used >= text->count) return;
    va_list arguments;
    va_start(arguments, format);
    int wanted = vsnprintf(text->bytes + text->used, text->count - text->used, format, arguments);
    va_end(arguments);
    if (wanted > 0) text->used += (size_t)wanted;
    if (text->used >= text->count) text->used = text->count - 1;
}

// The file's contents without the last newline; empty when it cannot be read.
static void read_small(char *buffer, size_t count, int32_t pid, const char *task, const char *name) {
    char path[128];
    snprintf(path, sizeof path, "/proc/%d/task/%s/%s", pid, task, name);
    size_t used = 0;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file >= 0) {
        ssize_t got;
        while (used + 1 < count && (got = read(file, buffer + used, count - 1 - used)) > 0) used += (size_t)got;
        close(file);
    }
    while (used > 0 && buffer[used - 1] == '\n') used--;
    buffer[used] = 0;
}

static const char *system_call_name(long number) {
    static const struct {
        long number;
        const char *name;
    } known[] = {
        {SYS_futex, "futex"}, {SYS_read, "read"}, {SYS_write, "write"}, {SYS_wait4, "wait4"}, {SYS_waitid, "waitid"},
        {SYS_nanosleep, "nanosleep"}, {SYS_clock_nanosleep, "clock_nanosleep"}, {SYS_ppoll, "ppoll"}, {SYS_pselect6, "pselect6"},
        {SYS_epoll_pwait, "epoll_pwait"}, {SYS_recvfrom, "recvfrom"}, {SYS_recvmsg, "recvmsg"}, {SYS_sendto, "sendto"},
        {SYS_accept, "accept"}, {SYS_accept4, "accept4"}, {SYS_connect, "connect"}, {SYS_flock, "flock"}, {SYS_fcntl, "fcntl"},
        {SYS_rt_sigsuspend, "rt_sigsuspend"}, {SYS_rt_sigtimedwait, "rt_sigtimedwait"},
#ifdef SYS_poll
        {SYS_poll, "poll"},
#endif
#ifdef SYS_pause
        {SYS_pause, "pause"},
#endif
#ifdef SYS_select
        {SYS_select, "select"},
#endif
#ifdef SYS_epoll_wait
        {SYS_epoll_wait, "epoll_wait"},
#endif
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].number == number) return known[i].name;
    return "system call";
}

// The child has the runner's address space: a name here is the name there.
static bool add_symbol(struct text *text, const char *prefix, unsigned long address, bool return_address) {
    Dl_info information;
    if (address < 4096 || dladdr((void *)address, &information) == 0) return false;
    // After a call there is never the beginning of a function: that is a pointer to one.
    if (return_address && (!information.dli_sname || information.dli_saddr == (void *)address)) return false;
    const char *file = information.dli_fname ? strrchr(information.dli_fname, '/') : NULL;
    file = file ? file + 1 : information.dli_fname ? information.dli_fname : "?";
    if (information.dli_sname)
        add(text, "%s%s + %lu (%s)\n", prefix, information.dli_sname, address - (unsigned long)information.dli_saddr, file);
    else
        add(text, "%s%#lx (%s)\n", prefix, address - (unsigned long)information.dli_fbase, file);
    return true;
}

struct code_range {
    unsigned long from, to;
};

static size_t code_ranges(int32_t pid, struct code_range *ranges, size_t count) {
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    FILE *maps = fopen(path, "re");
    if (!maps) return 0;
    size_t found = 0;
    while (found < count && fgets(line, sizeof line, maps)) {
        char permissions[8];
        if (sscanf(line, "%lx-%lx %7s", &ranges[found].from, &ranges[found].to, permissions) == 3 && permissions[2] == 'x') found++;
    }
    fclose(maps);
    return found;
}

// No unwinder: whatever on the stack is an address of code that has a name. Some are left over from calls that have returned.
static void add_stack_words(struct text *text, int32_t pid, unsigned long stack, const struct code_range *ranges, size_t range_count) {
    unsigned long words[2048];
    struct iovec here = {words, sizeof words}, there = {(void *)stack, sizeof words};
    ssize_t got = process_vm_readv(pid, &here, 1, &there, 1, 0);
    if (got <= 0) {  // the stack is shorter: up to the end of the page
        there.iov_len = 4096 - stack % 4096;
        got = process_vm_readv(pid, &here, 1, &there, 1, 0);
    }
    int shown = 0;
    for (ssize_t i = 0; i < got / (ssize_t)sizeof(long) && shown < 40; i++)
        for (size_t range = 0; range < range_count; range++)
            if (words[i] >= ranges[range].from && words[i] < ranges[range].to) {
                shown += add_symbol(text, "    maybe ", words[i], true);
                break;
            }
}

int64_t fgt_stack_by_proc(int32_t pid, char *buffer, size_t count) {
    struct text text = {buffer, count, 0};
    if (count == 0) return 0;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *tasks = opendir(path);
    if (!tasks) return -errno;
    static const size_t most = 512;
    struct code_range *ranges = calloc(most, sizeof *ranges);
    size_t range_count = ranges ? code_ranges(pid, ranges, most) : 0;

    struct dirent *task;
    while ((task = readdir(tasks))) {
        if (task->d_name[0] == '.') continue;
        char name[64], waits[128], call[256], status[2048], kernel[4096];
        read_small(name, sizeof name, pid, task->d_name, "comm");
        read_small(waits, sizeof waits, pid, task->d_name, "wchan");
        read_small(call, sizeof call, pid, task->d_name, "syscall");
        read_small(status, sizeof status, pid, task->d_name, "status");
        read_small(kernel, sizeof kernel, pid, task->d_name, "stack");
        const char *state = strstr(status, "State:\t");
        add(&text, "Thread %s \"%s\": state %.*s", task->d_name, name, state ? (int)strcspn(state + 7, "\n") : 1, state ? state + 7 : "?");
        if (waits[0] && strcmp(waits, "0") != 0) add(&text, ", waits in the kernel's %s", waits);
        add(&text, "\n");

        long number;
        unsigned long arguments[6], stack = 0, counter = 0;
        if (sscanf(call, "%ld %lx %lx %lx %lx %lx %lx %lx %lx", &number, &arguments[0], &arguments[1], &arguments[2], &arguments[3],
                   &arguments[4], &arguments[5], &stack, &counter) == 9) {
            add(&text, "    %s (%ld), arguments %#lx %#lx %#lx %#lx\n", system_call_name(number), number, arguments[0], arguments[1],
                arguments[2], arguments[3]);
            add_symbol(&text, "    in ", counter, false);
            add_stack_words(&text, pid, stack, ranges, range_count);
        } else if (call[0]) {
            add(&text, "    %s\n", call);
        }
        for (const char *line = kernel; *line;) {
            size_t length = strcspn(line, "\n");
            add(&text, "    kernel %.*s\n", (int)length, line);
            line += length + (line[length] == '\n');
        }
    }
    closedir(tasks);
    free(ranges);
    return (int64_t)text.used;
}

#else

int64_t fgt_stack_by_proc(int32_t pid, char *buffer, size_t count) {
    (void)pid, (void)buffer, (void)count;
    return -ENOSYS;
}

#endif

// ---- names ----

extern char *swift_demangle(const char *name, size_t length, char *output, size_t *output_length, uint32_t flags) __attribute__((weak));

int64_t fgt_demangle(const char *mangled, size_t length, char *buffer, size_t count) {
    if (!swift_demangle) return -1;
    char *readable = swift_demangle(mangled, length, NULL, NULL, 0);
    if (!readable) return -1;
    int written = snprintf(buffer, count, "%s", readable);
    free(readable);
    return written < 0 ? -1 : (size_t)written < count ? written : (int64_t)count - 1;
}
