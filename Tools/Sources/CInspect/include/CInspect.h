// What `forkguard` asks the kernel and libdw. Used by the command's one thread (ptrace answers only the thread that attached).

#ifndef FORKGUARD_INSPECT_H
#define FORKGUARD_INSPECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// Objects: which file is mapped where in a process, and what is at an address there.

typedef struct inspect_objects inspect_objects;

struct inspect_place {
    char object[256];        // the path of the executable or library; "" where the address is in none
    char symbol[512];        // "" where none is known; C++ names are readable, Swift's are not
    char file[256];          // the source file; "" without debug information
    int32_t line;
    uint64_t symbol_offset;  // bytes from the symbol's start
    uint64_t object_offset;  // bytes from where the object was loaded
};

/// Reads what is mapped now. NULL where the process is gone or may not be looked at. The process may be gone when the objects are asked.
inspect_objects *inspect_objects_of(pid_t process);
void inspect_objects_free(inspect_objects *objects);
void inspect_place_of(inspect_objects *objects, uint64_t address, struct inspect_place *place);

/// Files that are mapped executable, as a sum: equal for processes with the same objects at the same addresses. 0 where it cannot be read.
uint64_t inspect_objects_sum(pid_t process);

// Threads: stops a thread for as long as it takes to copy its registers and its stack, and lets it go on as if nothing had been.

enum {
    INSPECT_STACK_BYTES = 64 * 1024,
    INSPECT_FRAMES = 40,
};

enum inspect_outcome {
    INSPECT_COPIED,
    INSPECT_NOT_TRIED,    // it is in a call that an interruption would shorten, or asleep where nothing wakes it
    INSPECT_REFUSED,      // by the kernel: ptrace is not permitted
    INSPECT_GONE,
    INSPECT_LATE,         // it did not stop in time
    INSPECT_UNSUPPORTED,  // this processor
};

struct inspect_thread {
    int32_t id;
    int32_t outcome;      // of enum inspect_outcome
    bool has_call;        // whether it could be asked for its system call
    int64_t call;         // -1 when it ran
    uint64_t registers[17]; // in DWARF's order
    uint8_t *stack;       // from the stack pointer on; NULL or inspect_threads_free it
    uint64_t stack_size;
    bool attached;        // ours, between the calls
    bool detached;
};

/// Copies all of them, in `nanoseconds` at most. `process` is whose threads they are.
void inspect_threads_copy(pid_t process, struct inspect_thread *threads, size_t count, uint64_t nanoseconds);
void inspect_threads_free(struct inspect_thread *threads, size_t count);
/// The program counters of a copied thread, innermost first. An address that a call returns to is given less one, so that it is in the line that called.
size_t inspect_threads_unwind(inspect_objects *objects, pid_t process, const struct inspect_thread *thread, uint64_t *addresses, size_t count);
/// Lets go those that stopped after their time was over. To be called again and again; how many there still are.
size_t inspect_threads_release_late(void);

/// What the thread does: the number of its system call, -1 when it runs; false when it is gone or may not be asked. All are zero but `call` when it runs.
bool inspect_thread_call(pid_t process, pid_t thread, int64_t *call, uint64_t arguments[6], uint64_t *stack_pointer, uint64_t *program_counter);

/// How often the thread has given up the processor: equal as long as it sleeps.
uint64_t inspect_thread_switches(pid_t process, pid_t thread);

/// Whether the call is one in which a thread waits for another: a futex, without an end.
bool inspect_waits_for_ever(int64_t call, const uint64_t arguments[6]);

/// The name of a system call, and what a thread in it does, in a few words; NULL for one that is not in the table.
const char *inspect_call_name(int64_t call);
const char *inspect_call_meaning(int64_t call);

// Processes and the socket.

/// A listening AF_UNIX SOCK_SEQPACKET socket at `path`; -1 with errno.
int inspect_listen(const char *path);
/// The next connection, with its maker's id; -1 with errno.
int inspect_accept(int listening, pid_t *process);
/// -1 with errno.
int inspect_open_process(pid_t process);
int inspect_signal_process(int descriptor, int signal);
/// Whether it has ended, though it may not have been reaped.
bool inspect_has_ended(int descriptor);
/// As many descriptors as this process may have. Not for CMD, which has been started.
void inspect_raise_descriptor_limit(void);

/// Blocks the signals that are to be handed on, and SIGCHLD; a descriptor that tells of them. -1 with errno.
int inspect_block_signals(void);
/// The next one; 0 when there is none. `by_terminal`: the kernel sent it to all of the foreground.
int inspect_next_signal(int descriptor, bool *by_terminal);
/// Whether a child of ours has ended, and with what; it is gone then.
bool inspect_reap(pid_t process, int *exit_status, int *signal);
/// Starts a program with the signals that were blocked before inspect_block_signals. 0 or errno.
int inspect_start(const char *path, char *const arguments[], char *const environment[], pid_t *process);

/// Whether an executable gives its process rights by capabilities.
bool inspect_has_capabilities(int descriptor);

// What there is here.

/// A page that children find empty, with a child that looked.
bool inspect_wipes_on_fork(void);
bool inspect_has_membarrier(void);
/// pthread_atfork's handlers, with a child in which they ran.
bool inspect_runs_handlers(void);
bool inspect_has_process_descriptors(void);
/// Whether a child of ours can be stopped and read. 0 or errno.
int inspect_may_trace(void);
const char *inspect_libc_name(void);
const char *inspect_libc_version(void);
/// Nanoseconds that a getpid takes.
double inspect_system_call_nanoseconds(void);

#endif
