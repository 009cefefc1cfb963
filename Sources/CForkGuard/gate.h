// Inside the library: what the gate tells the lock and the order of phases.

#ifndef FORKGUARD_GATE_INTERNAL_H
#define FORKGUARD_GATE_INTERNAL_H

#include "forkguard/gate.h"
#include "forkguard/lock.h"
#include "forkguard/report.h"

FORKGUARD_PRIVATE_BEGIN

// How a thread's own fork goes: its slot's `fork_state`.
enum fork_state {
    FORK_NONE = 0,
    FORK_TURN,      // waits for its turn
    FORK_HOOKS,     // in hooks: before the gate is closed, or after it is open again
    FORK_CLOSING,   // closes the gate
    FORK_CLOSED,    // the gate is closed, and the fork comes
    FORK_NO_TURN,   // it did not get its turn by the deadline, and forks unprepared
};

/// Reads the deadline from the environment, asks for the barrier and opens the gate. Once, at start.
void gate_start(void);

/// When something that begins now must have ended: by platform_nanoseconds.
uint64_t gate_deadline(void);

/// The calling thread's slot, made if it has none. Never NULL: a thread for which there is no memory is a trap.
forkguard_slot *gate_slot(void);

/// For a thread that has counted itself in and has not taken the word yet: returns when it may take it (R1 to R4). `woken_from` is the word that it slept on
/// before, or NULL: if it has to park, somebody else is woken in its place.
void gate_enter(forkguard_slot *slot, const uint32_t *woken_from);

/// The same for a section around a lock that is not ours. Hooks that a child owes do not run here: whose code this is, and what it holds, nobody knows.
void gate_enter_section(forkguard_slot *slot);

/// Whether a closed gate holds back a thread that has counted itself in: it is inside nothing else, and not the forker (R3, R4).
bool gate_holds_back(const forkguard_slot *slot);

/// Around the sleep of a thread that cannot have a lock, which has counted its attempt out (R5, R6).
void gate_note(forkguard_slot *slot, forkguard_lock_t *lock);
void gate_clear_note(forkguard_slot *slot);

/// Wakes a forker that waits for threads to become quiet. For every way of becoming so.
void gate_wake_forker(void);

/// How closing the gate went.
typedef struct gate_closing {
    uint32_t windows;
    uint32_t threads;    // other threads that are known
    uint32_t turn, chain, late; // how many of them were marked, and why
    uint32_t kept;       // of those that are late: how many were not waited for (R23)
    uint32_t unyielding; // of those that wait for their turn: how many would not be out after it
    forkguard_holder blocker;   // who was inside when the forker had waited for over 1 ms
    uint32_t holders_count;
    forkguard_holder holders[FORKGUARD_REPORT_ENTRIES]; // the marked ones
} gate_closing;

/// Closes the gate and waits until every other thread is quiet, at most until `deadline` (R9 to R14). The gate is closed on return.
void gate_close(forkguard_slot *forker, uint64_t deadline, gate_closing *closing);

/// Whether no other thread has ever been inside anything: it has no slot. A snapshot.
bool gate_is_alone(const forkguard_slot *slot);

/// Closes the gate if no other thread has a slot; nobody has to be waited for then. Else it is open on return, and this false.
bool gate_close_alone(forkguard_slot *forker);

// What tells in a slot's `locks` and `lifelong` what they point to (enum forkguard_section_kind).
#define GATE_KIND 3u

/// From here on parked threads are patient (R15).
void gate_prepared(void);

/// How many parked threads lost their patience since the gate was closed. Non-zero: whoever can, drains again.
uint32_t gate_breaches(void);

/// Opens the gate, forgets marks, wakes the parked.
void gate_open(void);

/// Opens the gate for one window, so that the calling forker, which must sleep for a lock now, can get it.
void gate_give_up(void);

/// The child's C phase: horizon, survivor, an open gate (R16). `prepared`: the gate had been closed; else whoever was inside is marked with
/// `mark`. `survivor` is NULL when it is not known. `owed`: child hooks are still to run.
void gate_child(forkguard_slot *survivor, bool prepared, bool owed);

/// In the child, before gate_child: appends those that had lost their patience and were inside at the copy to `count` holders of `size`; returns the new
/// count, which may be above `size`.
uint32_t gate_list_breaches(forkguard_holder *holders, uint32_t size, uint32_t count);

/// After a fork that nobody was told of, the survivor may not be the thread that discovered it. A thread that runs with a stale serial is the survivor:
/// it says so when it next comes to a slow path or forks. Until then what it holds counts as stale: a fork finds it torn.
/// Whether it has just done so: then a forker may have passed it by.
bool gate_adopt(forkguard_slot *slot);

/// The child's C phase, before gate_child: frees what sleepers that are gone had been handed (section.h).
void gate_free_handed(const forkguard_slot *survivor);

/// The gate says no longer that hooks are owed.
void gate_hooks_done(void);

/// Whether the thread with this serial vanished in a fork (R16).
bool gate_serial_is_stale(uint64_t serial);

/// The live slot of a serial, or NULL.
forkguard_slot *gate_slot_of(uint64_t serial);

/// What is known of the thread that a stale word belongs to: why it is torn, and its thread id or 0.
uint32_t gate_mark_of(uint64_t serial, int32_t *thread_id);

/// The one thread that waits for its turn to fork and on which the holder of `lock` depends, or NULL. For a forker in its hooks (R22).
forkguard_slot *gate_waiter_behind(const forkguard_lock_t *lock);

/// The same for the thread with this serial.
forkguard_slot *gate_waiter_at(uint64_t owner);

/// The live slot of the thread that mutexes know by this id, or NULL.
forkguard_slot *gate_slot_of_mutex_id(int32_t mutex_id);

/// Writes, or clears, a note for a lock that is not ours; wakes the forker. `letting_go` keeps the note and says that what it points to may be gone.
void gate_note_sleep(forkguard_slot *slot, void *lock, void *condition, const struct forkguard_sleep_operations *operations);
void gate_note_letting_go(forkguard_slot *slot);

/// Why the thread that mutexes know by this id cannot let go of anything before the forker's fork is over (FORKGUARD_MARK_TURN, _CHAIN), or FORKGUARD_MARK_NONE. While the
/// gate is closed. `unyielding`: it waits for its turn, and would not be out after it.
uint32_t gate_mark_of_stuck(int32_t mutex_id, forkguard_slot *forker, bool *unyielding);

/// In a child, after gate_child: the threads that vanished, and after a fork that was not prepared those that were inside. May read /proc.
void gate_report_vanished(forkguard_report *report, bool prepared);

/// Visits every live slot.
typedef bool (*gate_visit)(forkguard_slot *slot, void *context);
void gate_each(gate_visit visit, void *context);

/// Fills in who holds what, as far as it can be told.
void gate_describe(const forkguard_slot *slot, uint32_t mark, forkguard_holder *holder);

FORKGUARD_PRIVATE_END

#endif
