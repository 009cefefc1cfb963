// usage: schedule SCENARIO FIRST COUNT [-v]    runs the scenario's schedules with the seeds FIRST to FIRST + COUNT - 1, until one fails: 1;
//                                             3: none did, but not all that the scenario is there for happened
//        schedule --list

#include "oracle.h"
#include "scenarios.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

extern char __data_start[], end[];

static void trapped(int signal) {
    const char *last = process_last_message;
    if (signal == SIGALRM) scheduler_fail("a thread does not come to a point any more");
    scheduler_fail("%s: %.300s", signal == SIGSEGV || signal == SIGBUS ? "touches memory that is not there" : "trap", last);
}

static void catch_signals(void) {
    stack_t other = {.ss_sp = malloc(65536), .ss_size = 65536};
    sigaltstack(&other, NULL);
    struct sigaction action = {.sa_handler = trapped, .sa_flags = SA_ONSTACK};
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGALRM, SIGABRT};
    for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++) sigaction(signals[i], &action, NULL);
}

int main(int count, char **arguments) {
    if (count == 2 && strcmp(arguments[1], "--list") == 0) {
        for (const scenario *scenario = scenarios; scenario->name; scenario++) puts(scenario->name);
        return 0;
    }
    const scenario *found = scenarios;
    while (count >= 4 && found->name && strcmp(found->name, arguments[1]) != 0) found++;
    if (count < 4 || !found->name) {
        fprintf(stderr, "usage: %s SCENARIO FIRST COUNT [-v] | --list\n", arguments[0]);
        return 2;
    }
    uint64_t first = strtoull(arguments[2], NULL, 10), schedules = strtoull(arguments[3], NULL, 10);
    scheduler_name = found->name;
    scheduler_prints = count > 4;
    counted = calloc(1, sizeof *counted);
    scheduler_start();
    process_start(&(machine){0});
    catch_signals();
    // What a schedule leaves behind in memory is undone by copying over it what was there before.
    size_t size = (size_t)(end - __data_start);
    char *fresh = malloc(size);
    memcpy(fresh, __data_start, size);
    for (uint64_t seed = first; seed < first + schedules; seed++) {
        memcpy(__data_start, fresh, size);
        alarm(20);
        scenario_run(found, seed);
    }
    printf("%s: %llu schedules", found->name, (unsigned long long)schedules);
    const struct {
        const char *name;
        uint64_t count;
    } counts[] = {
        {"forks", counted->forks}, {"children", counted->children}, {"windows", counted->windows}, {"turns lent", counted->lent},
        {"refused", counted->refused}, {"torn for a turn", counted->torn[FORKGUARD_MARK_TURN]},
        {"in a chain", counted->torn[FORKGUARD_MARK_CHAIN]}, {"late", counted->torn[FORKGUARD_MARK_LATE]},
        {"by a breach", counted->torn[FORKGUARD_MARK_BREACH]}, {"by a bypass", counted->torn[FORKGUARD_MARK_BYPASS]},
        {"by an end", counted->torn[FORKGUARD_MARK_ENDED]}, {"times told", counted->told},
    };
    for (unsigned i = 0; i < sizeof counts / sizeof *counts; i++)
        if (counts[i].count != 0) printf(", %llu %s", (unsigned long long)counts[i].count, counts[i].name);
    puts("");
    return scenario_reached(found) ? 0 : 3;
}
