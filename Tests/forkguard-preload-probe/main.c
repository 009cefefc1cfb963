// forkguard-preload-probe SCENARIO. Each process ends itself after a hundred seconds, each child after two.

#include "probe.h"

#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

void nap(long nanoseconds) { nanosleep(&(struct timespec){.tv_nsec = nanoseconds}, NULL); }

double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

pthread_t begin(void *(*run)(void *), void *context) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, run, context) == 0);
    return thread;
}

static struct {
    unsigned ok, hung, wrong, inside;
} counts;

void settle(pid_t child) {
    int status;
    CHECK(child > 0);
    CHECK(waitpid(child, &status, 0) == child);
    if (status == 0) counts.ok++;
    else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) counts.hung++;
    else {
        counts.wrong++;
        dprintf(2, "a child ended with status 0x%x\n", status);
    }
}

bool is_over(unsigned forks) { return counts.ok + counts.hung + counts.wrong >= forks || counts.hung >= 3; }
void count_inside(bool is) { counts.inside += is; }

void say(const char *what) {
    dprintf(1, "%s: %u ok, %u hung, %u wrong, %u forks beside a holder\n", what, counts.ok, counts.hung, counts.wrong, counts.inside);
    _exit(counts.hung || counts.wrong ? 1 : 0);
}

void guarded_use(guarded *it, long hold) {
    CHECK(pthread_mutex_lock(&it->mutex) == 0);
    CHECK(atomic_fetch_add(&it->holders, 1) == 0);
    CHECK(it->a == it->b);
    it->a++;
    if (hold) nap(hold);
    it->b++;
    atomic_fetch_sub(&it->holders, 1);
    CHECK(pthread_mutex_unlock(&it->mutex) == 0);
}

void *guarded_use_for_ever(void *it) {
    for (;;) guarded_use(it, 100000);
    return NULL;
}

static const struct {
    const char *name;
    void (*run)(void);
} scenarios[] = {
    {"mutexes", scenario_mutexes},     {"recursive", scenario_recursive}, {"conditions", scenario_conditions}, {"rwlocks", scenario_rwlocks},
    {"survivor", scenario_survivor},   {"handlers", scenario_handlers},   {"kept", scenario_kept},             {"released", scenario_released},
    {"spawns", scenario_spawns},       {"daemon", scenario_daemon},       {"forkpty", scenario_forkpty},       {"signals", scenario_signals},
    {"execs", scenario_execs},         {"closes", scenario_closes},       {"object", scenario_object},         {"who", scenario_who},
    {"lost", scenario_lost},           {"lock", scenario_lock},           {"pairs", scenario_pairs},         {"contended", scenario_contended},
};

int main(int count, char **arguments) {
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    alarm(100);
    for (unsigned i = 0; count == 2 && i < sizeof scenarios / sizeof *scenarios; i++)
        if (strcmp(arguments[1], scenarios[i].name) == 0) {
            scenarios[i].run();
            return 0;
        }
    dprintf(2, "usage: forkguard-preload-probe SCENARIO\n");
    return 64;
}
