// What is said when something is wrong: before the process ends there, the lock, where it was made, what was violated, and what to do.
//
// The message goes out with write(2) and the end is a trap instruction: abort(3) takes a lock of glibc's that a child may find held.

#include "trap.h"

#include "report.h"

#include <string.h>

void trap_place(const char *file, uint32_t line, char *text, size_t size) {
    text_buffer buffer = {text, size, 0};
    text[0] = 0;
    if (!file || !*file) return;
    // The end of a long path says more than its beginning.
    size_t length = strlen(file);
    if (length + 12 > size) file += length + 12 - size;
    text_add(&buffer, file);
    text_add(&buffer, ":");
    text_add_number(&buffer, line);
}

static void add_made(text_buffer *buffer, const char *what, const char *name, const char *file, uint32_t line) {
    char place[FORKGUARD_NAME_SIZE * 4];
    text_add(buffer, what);
    text_add(buffer, " '");
    text_add(buffer, name && *name ? name : "without a name");
    trap_place(file, line, place, sizeof place);
    if (*place) {
        text_add(buffer, "', made at ");
        text_add(buffer, place);
        text_add(buffer, ", ");
    } else {
        text_add(buffer, "' ");
    }
}

static void add_lock(text_buffer *buffer, const forkguard_lock_t *lock) {
    add_made(buffer, "ForkGuard: lock", lock->name, lock->file, lock->line);
}

void trap_condition(const forkguard_condition_t *condition, const forkguard_lock_t *lock) {
    char text[256];
    text_buffer buffer = {text, sizeof text, 0};
    add_made(&buffer, "was left to wait for condition", condition->name, condition->file, condition->line);
    text_add(&buffer, "by a thread that does not hold it");
    forkguard_trap_misuse(lock, text, "lock it before waiting, and wait on the thread that locked it");
}

void forkguard_trap_misuse(const forkguard_lock_t *lock, const char *violated, const char *remedy) {
    char text[1024];
    text_buffer buffer = {text, sizeof text, 0};
    if (lock) {
        add_lock(&buffer, lock);
    } else {
        text_add(&buffer, "ForkGuard: ");
    }
    text_add(&buffer, violated);
    text_add(&buffer, ". What to do: ");
    text_add(&buffer, remedy);
    text_add(&buffer, ".\n");
    text_write_error(&buffer);
    __builtin_trap();
}

static const char *reason(uint32_t mark) {
    switch (mark) {
    case FORKGUARD_MARK_TURN: return "it was waiting for its own turn to fork";
    case FORKGUARD_MARK_CHAIN: return "it was blocked on a lock that the forking thread, or another one waiting to fork, holds";
    case FORKGUARD_MARK_LATE: return "it did not leave before the deadline";
    case FORKGUARD_MARK_BREACH: return "it was let in while the fork was under way, because fork() itself seemed to wait for it";
    case FORKGUARD_MARK_ENDED: return "it had ended without unlocking";
    default: return "the fork was not prepared (_Fork, clone or a raw system call, or a fork inside a hook)";
    }
}

void forkguard_trap_torn(const forkguard_lock_t *lock) {
    char text[1024];
    text_buffer buffer = {text, sizeof text, 0};
    add_lock(&buffer, lock);
    text_add(&buffer, "is torn: thread ");
    text_add_number(&buffer, lock->reserved >> TRAP_MARK_BITS);
    text_add(&buffer, " of the parent was inside when this process was forked, and what it protects may be half changed. The fork went on because ");
    text_add(&buffer, reason(lock->reserved & ((1u << TRAP_MARK_BITS) - 1)));
    text_add(&buffer, ". What to do: make the mutex with ifTorn: .rebuild, or fork with ForkGuard.fork, which refuses instead.\n");
    text_write_error(&buffer);
    __builtin_trap();
}
