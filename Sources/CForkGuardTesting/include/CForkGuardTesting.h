// What ForkGuardTesting needs from C: the ways to fork that Swift hides, the page that runner and child share, watching a child, and
// reading the stack of one that hangs. Internal to the product; nothing here is API.

#ifndef CFORKGUARDTESTING_H
#define CFORKGUARDTESTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__clang__)
#define FGT_NULLABLE _Nullable
#pragma clang assume_nonnull begin
#else
#define FGT_NULLABLE
#endif

// ---- fork.c: ways to fork ----

enum {
    FGT_FORK,
    FGT_UNDERSCORE_FORK,
    FGT_SYSTEM_CALL_FORK,
    FGT_CLONE,
    FGT_CLONE3,
    FGT_CLONE_SHARING_FILES,
};

/// The child's process id in the parent, 0 in the child, -errno when it failed (-ENOSYS where there is no such way).
int32_t fgt_fork(int32_t method);

/// Whether this platform, libc and kernel know the method.
bool fgt_method_available(int32_t method);

// ---- channel.c: what runner and child share ----

/// A page that both processes see, an unlinked file for the child's report, and two pipes for its output. Made by the runner before
/// the fork. The file, because a child can always write into it, however much, whether anybody reads or not; and because its end can
/// be told without waiting for an end of file that siblings, who inherit every descriptor, would hold up.
typedef struct fgt_channel fgt_channel;

/// NULL and errno when it could not be made.
fgt_channel *FGT_NULLABLE fgt_channel_create(bool sharing_files);
void fgt_channel_destroy(fgt_channel *channel);

/// While a channel is armed, a child that the calling thread forks enters the channel before any handler or hook that was registered
/// after this product was loaded, so that what those print is captured too.
void fgt_channel_arm(fgt_channel *FGT_NULLABLE channel);

/// In the child, before the body: a process group of its own, standard output and error into the pipes, killed when the runner ends; unless
/// that was done by the handler. From now on this is the child that the runner knows.
void fgt_channel_enter(fgt_channel *channel);

/// In the child or a descendant, any thread: append a piece to the report. Takes no lock and allocates nothing. 0 or errno.
int32_t fgt_channel_report(fgt_channel *channel, uint8_t tag, const void *FGT_NULLABLE bytes, size_t count);

/// After the body: does not return if this is not the child that the runner knows, but a process that the body forked and that came back
/// here: it says so in the page, and ends.
void fgt_channel_check_child(fgt_channel *channel);

/// The same after a hammer: does not return in another process than the runner.
void fgt_channel_check_runner(fgt_channel *channel);

/// In the child, at its end: waits up to `grace_ms` for processes that the body left running, so that they can be caught coming back, and
/// returns whether any is still running.
bool fgt_channel_leaves_processes(int32_t grace_ms);

/// Asks the hammers to stop; whether they have been asked. A word, since it is looked at in a tight loop.
void fgt_channel_stop(fgt_channel *channel);
bool fgt_channel_stopped(const fgt_channel *channel);

/// The number of processes that escaped.
uint32_t fgt_channel_escaped(const fgt_channel *channel);
/// Waits for those that are the runner's own children, up to `patience_ms`, so that they are no zombies.
void fgt_channel_reap_escaped(fgt_channel *channel, int32_t patience_ms);

/// The process that made the channel.
int32_t fgt_channel_runner(const fgt_channel *channel);
/// The process that entered it, or 0.
int32_t fgt_channel_child(const fgt_channel *channel);
/// Whether a report was refused because the body closed or replaced the channel's descriptor.
bool fgt_channel_lost(const fgt_channel *channel);

/// In the runner: close the ends that are the child's.
void fgt_channel_parent_side(fgt_channel *channel);
/// In the runner: the report's length, and its bytes from an offset; the number read, or -errno.
uint64_t fgt_channel_length(const fgt_channel *channel);
int64_t fgt_channel_read(const fgt_channel *channel, void *bytes, size_t count, uint64_t offset);

// ---- watch.c: watching a child ----

/// A descriptor that becomes readable when the process ends, or -1 where there is no such thing.
int32_t fgt_pidfd(int32_t pid);

/// Waits until the process ends or has printed, or the time is over. Without a pidfd it returns early, to be called again.
void fgt_watch(const fgt_channel *channel, int32_t pidfd, int32_t timeout_ms);

/// What the child printed, if there is something: the number of bytes, 0 when there is nothing now. `stream` is 1 or 2.
size_t fgt_channel_output(fgt_channel *channel, int32_t stream, void *bytes, size_t count);

/// 0 while it runs, 1 when it has ended (and is still there to be reaped), -1 when it is not our child or somebody else reaped it.
int32_t fgt_has_ended(int32_t pid);

/// Kills the process and, where it leads one, its process group.
void fgt_kill(int32_t pid);

/// Waits for the process to end and reaps it: its status as of waitpid, or -1 when somebody else has reaped it.
int32_t fgt_reap(int32_t pid);

/// The exit code of a status, or -1 when a signal ended it; and that signal, or 0.
int32_t fgt_exit_code(int32_t status);
int32_t fgt_end_signal(int32_t status);

void fgt_close(int32_t descriptor);
int32_t fgt_getpid(void);
int32_t fgt_gettid(void);
_Noreturn void fgt_exit(int32_t code);
/// The signal's name, as in "Segmentation fault".
void fgt_signal_name(int32_t number, char *buffer, size_t count);
void fgt_error_text(int32_t number, char *buffer, size_t count);
uint64_t fgt_now_ns(void);

// ---- stack.c: where a process is stuck ----

/// Writes the stacks of all threads of a process into the buffer, as text, by gdb; the number of bytes, or -errno: -ENOENT where there
/// is no gdb, -ETIMEDOUT when it took too long, -ECHILD when it failed. `pid` may be the caller's own process.
int64_t fgt_stack_by_gdb(int32_t pid, const char *gdb, int32_t timeout_ms, char *buffer, size_t count);

/// The same from /proc: per thread its name, state, system call, where it waits in the kernel. -ENOSYS where there is no /proc.
int64_t fgt_stack_by_proc(int32_t pid, char *buffer, size_t count);

/// The readable form of a Swift symbol, or -1 when it is none; otherwise the number of bytes.
int64_t fgt_demangle(const char *mangled, size_t length, char *buffer, size_t count);

// ---- calls.c: whether code makes system calls ----

/// From here on a system call of the calling thread other than read(2), write(2) and the one that follows ends the process with SIGKILL (seccomp(2), strict mode). In a
/// process with one thread. False where there is no such thing.
bool fgt_forbid_system_calls(void);
/// Ends the process, by a call that is still allowed.
_Noreturn void fgt_exit_plainly(int32_t code);

// ---- sync.c: threads and monitors ----

/// A mutex with a condition, on the monotonic clock. pthread's, because Swift's own keep the thread id of the parent in a child.
typedef struct fgt_monitor fgt_monitor;

fgt_monitor *FGT_NULLABLE fgt_monitor_create(void);
void fgt_monitor_destroy(fgt_monitor *monitor);
void fgt_monitor_lock(fgt_monitor *monitor);
void fgt_monitor_unlock(fgt_monitor *monitor);
void fgt_monitor_wake(fgt_monitor *monitor);
/// Waits to be woken, until the deadline (of fgt_now_ns; UINT64_MAX is never). False when it has passed. May wake for nothing.
bool fgt_monitor_wait(fgt_monitor *monitor, uint64_t deadline_ns);

typedef struct fgt_thread fgt_thread;

/// Starts a thread; the name is cut to 15 bytes. NULL and errno when it could not.
fgt_thread *FGT_NULLABLE fgt_thread_start(const char *name, void (*main)(void *), void *context);
/// Waits for it to end. Frees the handle.
void fgt_thread_join(fgt_thread *thread);
/// Lets it run on its own. Frees the handle.
void fgt_thread_abandon(fgt_thread *thread);

int32_t fgt_errno(void);

#if defined(__clang__)
#pragma clang assume_nonnull end
#endif

#endif
