// Inside the library: which of several copies of it leads.
//
// A process may have more than one: the daemon is linked with it, a Swift library that it opens has it inside, and LD_PRELOAD brought a third. With a gate each, a thread that is quiet at
// one may be inside at the other, two forks' hooks interleave, and each wait ends at a deadline of its own. So there is one gate: the copy that starts first leads, and each
// later one steps back. It is a copy that never starts: its page stays zero, as in a child that does not know yet that it is one. Every inline function of the headers finds that and
// takes its slow way into the library; and every function there that has state begins with FOLLOW, which calls the leading copy's instead.
//
// How the later finds the earlier, when the dynamic linker shows neither to the other (dlopen(3) with RTLD_LOCAL, a static library in an executable): each has a note (elf(5), PT_NOTE) in
// its object that says where its `copy` is. dl_iterate_phdr(3) walks over all objects, however they were loaded.

#ifndef FORKGUARD_COPY_INTERNAL_H
#define FORKGUARD_COPY_INTERNAL_H

#include "forkguard.h"

FORKGUARD_PRIVATE_BEGIN

/// What copies of different versions must agree on to be led by each other: it grows when a function in the list below, or a struct that they share, changes.
#ifndef COPY_VERSION // a test makes a copy of another version
#define COPY_VERSION 1
#endif

/// Every function that has state of the library behind it.
#define COPY_FUNCTIONS(F)                                                                                                                     \
    F(fork) F(fork_closing) F(held_locks)                                                                                                     \
    F(condition_wait) F(condition_signal) F(condition_broadcast)                                                                              \
    F(descriptor_adopt) F(descriptor_enter) F(descriptor_leave) F(descriptor_close) F(descriptor_release) F(descriptor_count)                  \
    F(register_lock) F(register_mutex) F(register_rwlock) F(register_condition) F(registration_of)                                            \
    F(gate_left) F(deadline_ms) F(set_deadline_ms)                                                                       \
    F(generation_slow) F(detection)                                                                                                           \
    F(lock_slow) F(trylock_slow) F(unlock_slow) F(lock_mark_consistent) F(lock_is_torn) F(lock_is_mine)                           \
    F(register_resource) F(unregister) F(current_hook) F(running_hook) F(registered_count)                                                    \
    F(last_report)                                                                                                                            \
    F(section_begin_slow) F(section_enter_slow) F(section_slot_slow) F(section_sleep) F(section_wake) F(section_park) F(section_forget)       \
    F(section_patience) F(thread_vanished) F(survivor_ids) F(survivor_rests)                                                                  \
    F(announce_cure) F(cures) F(announce_rest)

typedef struct copy_functions {
#define COPY_FIELD(name) __typeof__(&forkguard_##name) name;
    COPY_FUNCTIONS(COPY_FIELD)
#undef COPY_FIELD
} copy_functions;

/// Of the copy that leads this one; NULL: this one leads.
extern const copy_functions *copy_leader;

/// Whether it is settled which.
extern bool copy_settled;

/// Settles it; once, by the thread that starts the library. False: another one leads.
bool copy_settle(void);

/// As the first statement of a function: when another copy leads, calls its one, and returns what that returns.
#define FOLLOW(name, ...)                                                                            \
    do {                                                                                             \
        if (!FORKGUARD_LIKELY(__atomic_load_n(&copy_settled, __ATOMIC_ACQUIRE))) forkguard_start();  \
        if (!FORKGUARD_LIKELY(copy_leader == NULL)) return copy_leader->name(__VA_ARGS__);           \
    } while (0)

FORKGUARD_PRIVATE_END

#endif
