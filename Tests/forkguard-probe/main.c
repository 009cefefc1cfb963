#include "probe.h"

#include <sys/wait.h>

static const struct {
    const char *name;
    scenario run;
} scenarios[] = {
    {"start", scenario_start},
    {"methods", scenario_methods},
    {"discovery-race", scenario_discovery_race},
    {"shared-memory", scenario_shared_memory},
    {"fork-fails", scenario_fork_fails},
    {"quiet", scenario_quiet},
    {"child-phases", scenario_child_phases},
    {"exit", scenario_exit},
    {"sandbox", scenario_sandbox},
    {"survivor", scenario_survivor},
    {"chain", scenario_chain},
    {"two-forkers", scenario_two_forkers},
    {"woken", scenario_woken},
    {"parked-stream", scenario_parked_stream},
    {"hook-fork", scenario_hook_fork},
    {"many-forks", scenario_many_forks},
    {"no-memory", scenario_no_memory},
    {"lock-twice", scenario_lock_twice},
    {"unlock-free", scenario_unlock_free},
    {"unlock-other", scenario_unlock_other},
    {"torn", scenario_torn},
    {"survivor-unlock", scenario_survivor_unlock},
    {"unknown-survivor", scenario_unknown_survivor},
    {"foreign-let-go", scenario_foreign_let_go},
    {"early-handler", scenario_early_handler},
    {"signals", scenario_signals},
    {"cancelled", scenario_cancelled},
    {"cancelled-alone", scenario_cancelled_alone},
    {"carried-wake", scenario_carried_wake},
    {"bystanders", scenario_bystanders},
    {"both-hold", scenario_both_hold},
    {"borrower", scenario_borrower},
    {"owed-fork", scenario_owed_fork},
    {"without-turn", scenario_without_turn},
    {"first-use-cancelled", scenario_first_use_cancelled},
    {"unknown-breach", scenario_unknown_breach},
    {"hook-streams", scenario_hook_streams},
    {"first-thread", scenario_first_thread},
    {"slot-again", scenario_slot_again},
    {"stubbed", scenario_stubbed},
    {"foreign", scenario_foreign},
    {"foreign-control", scenario_foreign_control},
    {"foreign-own", scenario_foreign_own},
    {"foreign-torn", scenario_foreign_torn},
    {"foreign-chain", scenario_foreign_chain},
    {"foreign-stream", scenario_foreign_stream},
    {"foreign-both-hold", scenario_foreign_both_hold},
    {"foreign-again", scenario_foreign_again},
    {"handler-fork", scenario_handler_fork},
    {"foreign-wrong", scenario_foreign_wrong},
    {"foreign-late", scenario_foreign_late},
    {"descriptors", scenario_descriptors},
    {"descriptors-stubbed", scenario_descriptors_stubbed},
    {"descriptors-quiet", scenario_descriptors_quiet},
    {"descriptors-denied", scenario_descriptors_denied},
    {"descriptors-odd", scenario_descriptors_odd},
    {"condition", scenario_condition},
    {"condition-control", scenario_condition_control},
    {"condition-unlocked", scenario_condition_unlocked},
};

#if defined(__GLIBC__)
extern int __register_atfork(void (*)(void), void (*)(void), void (*)(void), void *);
void atfork_for_good(void (*prepare)(void), void (*parent)(void), void (*child)(void)) { CHECK(__register_atfork(prepare, parent, child, NULL) == 0); }
#else
void atfork_for_good(void (*prepare)(void), void (*parent)(void), void (*child)(void)) { CHECK(pthread_atfork(prepare, parent, child) == 0); }
#endif

int wait_for(pid_t child) {
    int status;
    while (waitpid(child, &status, 0) < 0) CHECK(errno == EINTR);
    return status;
}

void check_child(pid_t child) {
    CHECK(child > 0);
    int status = wait_for(child);
    if (status != 0) {
        dprintf(2, "child ended with status 0x%x\n", status);
        _exit(1);
    }
}

// forkguard-probe [--deny CALL=ERRNO]... SCENARIO: the calls are refused before the library starts, by an exec under the filter.
int main(int count, char **arguments) {
    alarm(60);
    bool denied = false;
    int at = 1;
    for (; at + 1 < count && strcmp(arguments[at], "--deny") == 0; at += 2) {
        char call[32];
        int error;
        CHECK(sscanf(arguments[at + 1], "%31[a-z0-9_]=%d", call, &error) == 2);
        deny(call, error);
        denied = true;
    }
    if (denied) {
        char *again[] = {arguments[0], arguments[at], NULL};
        execv("/proc/self/exe", again);
        CHECK(!"exec");
    }
    for (unsigned i = 0; at < count && i < sizeof scenarios / sizeof *scenarios; i++)
        if (strcmp(arguments[at], scenarios[i].name) == 0) return scenarios[i].run();
    dprintf(2, "usage: forkguard-probe [--deny CALL=ERRNO]... SCENARIO\n");
    return 64;
}
