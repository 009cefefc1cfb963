// Handlers that lock before a fork often make anew in the child what they would have to unlock (pthread_atfork(3p), rationale): so the count of the
// thread that forks is put back to what it was.

#include "forks.h"

#include "forkguard.h"

real_forks real_fork;

static void put_back(uint32_t held) {
    forkguard_slot *slot = forkguard_section_slot();
    if (slot) slot->held = held;
}

pid_t gated_fork(void) {
    uint32_t held = forkguard_sections_held();
    pid_t child = real_fork.fork();
    if (child == 0) put_back(held);
    return child;
}

int gated_forkpty(int *terminal, char *name, const void *modes, const void *size) {
    uint32_t held = forkguard_sections_held();
    int child = real_fork.forkpty(terminal, name, modes, size);
    if (child == 0) put_back(held);
    return child;
}

int gated_daemon(int stays, int keeps) {
    uint32_t held = forkguard_sections_held();
    int result = real_fork.daemon(stays, keeps);
    put_back(held);
    return result;
}
