#include "cforkload.h"
#include "forkguard.h"

static void make(void *lock) { forkguard_lock_init(lock, NULL, NULL, 0); }

static void lock(void *lock) { forkguard_lock(lock); }

static void unlock(void *lock) { forkguard_unlock(lock); }

static void waited(load_fork *fork) {
    forkguard_report report;
    if (forkguard_last_report(&report) != 0) return;
    fork->wait_nanoseconds = report.turn_nanoseconds + report.prepare_nanoseconds + report.gate_nanoseconds;
    fork->gave_up = report.timed_out;
}

int main(int count, char **arguments) {
    // It does nothing that the constructor has not done; the reference is what makes the linker keep the constructor.
    forkguard_start();
    static const load_locks locks = {.size = sizeof(forkguard_lock_t), .make = make, .lock = lock, .unlock = unlock, .waited = waited};
    return load_main(count, arguments, &locks);
}
