#include "exits.h"

#include "connection.h"
#include "stack.h"

#include <alloca.h>
#include <errno.h>
#include <string.h>
#include <sys/auxv.h>

// ---- handlers ----

static struct {
    int count;
    void *first;
} registered, inherited;

static bool said; // that this process ends

// The program's own: its executable, and libraries that do not come with the system. Those of the system's libraries know about forks, or its author
// cannot change them.
static bool is_of_program(void *address) {
    Dl_info object, program;
    if (!address || !dladdr(address, &object) || !object.dli_fname) return false;
    if (dladdr((void *)getauxval(AT_PHDR), &program) && program.dli_fbase == object.dli_fbase) return true;
    return strncmp(object.dli_fname, "/lib", 4) != 0 && strncmp(object.dli_fname, "/usr/lib", 8) != 0 && !strstr(object.dli_fname, "libforkguard-audit");
}

EXPORT int __cxa_atexit(void (*function)(void *), void *argument, void *object) {
    int result = REAL(__cxa_atexit)(function, argument, object);
    bool entered = !audit_inside;
    if (result != 0 || !entered) return result;
    audit_inside = true;
    int saved = errno;
    if (is_of_program(object ? object : (void *)(uintptr_t)function)) {
        if (__atomic_fetch_add(&registered.count, 1, __ATOMIC_RELAXED) == 0) registered.first = (void *)(uintptr_t)function;
    }
    errno = saved;
    audit_leave();
    return result;
}

void exits_take_over(void) {
    said = false;
    inherited.count = registered.count;
    inherited.first = registered.first;
    // The parent of a daemon has left without running them: they are for its child to run.
    if (audit_process.by_daemon) inherited.count = 0;
}

// ---- the end ----

static void say_end(const char *how, int status, void *caller, bool handlers) {
    if (!audit_enter()) return;
    int saved = errno;
    if (process_is_ours() && !said) {
        said = true;
        if (handlers && audit_process.forked && inherited.count > 0) {
            void *frames[STACK_DEEP];
            int count = caller ? stack_walk(caller, frames, STACK_DEEP, NULL) : 0;
            char detail[160], *at = text_copy(detail, "runs ");
            at = text_number(at, inherited.count);
            text_copy(text_copy(at, inherited.count == 1 ? " exit handler that was" : " exit handlers that were"), " registered before the fork");
            json *packet = connection_finding("exit-handlers-in-child", audit_process.fork, detail);
            if (packet) {
                json_address(packet, "address", (uintptr_t)inherited.first);
                json_stack(packet, "stack", frames, count);
                connection_end(packet);
            }
        }
        json *packet = connection_begin("exit");
        if (packet) {
            json_number(packet, "status", status);
            json_text(packet, "how", how);
            connection_end(packet);
        }
    }
    errno = saved;
    audit_leave();
}

// main's return ends in libc's own exit, which no wrapper sees. Registered first, so it runs last.
static void at_exit(int status, void *argument) {
    (void)argument;
    say_end("exit", status, NULL, true);
}

void exits_start(void) { on_exit(at_exit, NULL); }

EXPORT void exit(int status) {
    say_end("exit", status, CALLER, true);
    REAL(exit)(status);
    __builtin_unreachable();
}

EXPORT void _exit(int status) {
    say_end("_exit", status, CALLER, false);
    REAL(_exit)(status);
    __builtin_unreachable();
}

EXPORT void _Exit(int status) {
    say_end("_exit", status, CALLER, false);
    REAL(_Exit)(status);
    __builtin_unreachable();
}

EXPORT void quick_exit(int status) {
    say_end("quick_exit", status, CALLER, false);
    REAL(quick_exit)(status);
    __builtin_unreachable();
}

// ---- another program ----

static void say_exec(const char *path) {
    if (!audit_enter()) return;
    int saved = errno;
    json *packet = process_is_ours() ? connection_begin("exec") : NULL;
    if (packet) {
        json_bytes(packet, "path", path ? path : "", path ? strnlen(path, 4096) : 0);
        connection_end(packet);
    }
    errno = saved;
    audit_leave();
}

EXPORT int execve(const char *path, char *const arguments[], char *const environment[]) {
    say_exec(path);
    return REAL(execve)(path, arguments, environment);
}

EXPORT int execv(const char *path, char *const arguments[]) {
    say_exec(path);
    return REAL(execv)(path, arguments);
}

EXPORT int execvp(const char *file, char *const arguments[]) {
    say_exec(file);
    return REAL(execvp)(file, arguments);
}

EXPORT int execvpe(const char *file, char *const arguments[], char *const environment[]) {
    say_exec(file);
    return REAL(execvpe)(file, arguments, environment);
}

EXPORT int fexecve(int fd, char *const arguments[], char *const environment[]) {
    say_exec("");
    return REAL(fexecve)(fd, arguments, environment);
}

EXPORT int execveat(int directory, const char *path, char *const arguments[], char *const environment[], int flags) {
    say_exec(path);
    return REAL(execveat)(directory, path, arguments, environment, flags);
}

// The arguments in a list: counted, then put into an array on the stack, as libc does it.
#define COLLECT(first) \
    va_list list; \
    size_t count = 1; \
    va_start(list, argument); \
    while (va_arg(list, char *)) count++; \
    va_end(list); \
    char **arguments = alloca((count + 1) * sizeof *arguments); \
    arguments[0] = (char *)(uintptr_t)(first); \
    va_start(list, argument); \
    for (size_t i = 1; i <= count; i++) arguments[i] = va_arg(list, char *);

EXPORT int execl(const char *path, const char *argument, ...) {
    COLLECT(argument)
    va_end(list);
    say_exec(path);
    return REAL(execv)(path, arguments);
}

EXPORT int execlp(const char *file, const char *argument, ...) {
    COLLECT(argument)
    va_end(list);
    say_exec(file);
    return REAL(execvp)(file, arguments);
}

EXPORT int execle(const char *path, const char *argument, ...) {
    COLLECT(argument)
    char *const *environment = va_arg(list, char *const *);
    va_end(list);
    say_exec(path);
    return REAL(execve)(path, arguments, environment);
}
