// glibc takes the lock of its list of handlers again after each handler, and the list of streams after all of them. Where locks are registered, a fork that was prepared has the streams
// from our handler on already (foreign.c). Another fork that is not kept out by the turn (it had not got it by its deadline, or is inside a hook) would come to glibc without them, take the
// handlers' lock and wait for the streams, while the first waits for the handlers' lock. So each of them goes through here first. It is a lock that only forks take: to
// have all of them take the list of streams in our handler would do, too, but then they would have it while other libraries' prepare handlers run.

#include "door.h"

#include "platform/platform.h"

static struct {
    uint32_t taken; // 1 taken, 2 taken and somebody sleeps
    uint32_t depth;
    uint64_t owner; // a serial
} door;

void door_enter(const forkguard_slot *slot) {
    if (__atomic_load_n(&door.owner, __ATOMIC_RELAXED) != slot->serial) {
        uint32_t taken = 0;
        if (!__atomic_compare_exchange_n(&door.taken, &taken, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            while (__atomic_exchange_n(&door.taken, 2, __ATOMIC_ACQUIRE) != 0) platform_wait(&door.taken, 2, PLATFORM_FOREVER);
        __atomic_store_n(&door.owner, slot->serial, __ATOMIC_RELAXED);
    }
    door.depth++;
}

void door_leave(const forkguard_slot *slot) {
    if (__atomic_load_n(&door.owner, __ATOMIC_RELAXED) != slot->serial || --door.depth != 0) return;
    __atomic_store_n(&door.owner, 0, __ATOMIC_RELAXED);
    if (__atomic_exchange_n(&door.taken, 0, __ATOMIC_RELEASE) == 2) platform_wake(&door.taken, 1);
}

void door_child(void) {
    if (door.taken == 0) return;
    door.taken = door.depth = 0;
    door.owner = 0;
}
