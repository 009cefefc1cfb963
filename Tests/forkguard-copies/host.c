// Copies of the library in one process: a host that is linked with one opens objects that have one inside, and forks from among threads that take
// the locks of all of them, in each order.
//
//     host FORKS PLUGIN...
//
// Prints what it saw, and ends with 0 when there was one gate: every child has the same generation by each copy, every hook ran once for each fork, no lock was torn.

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "copy_of.h"

#define PLUGINS 4

static const copy_of *copies[PLUGINS + 1] = {&own};
static int count = 1;
static _Atomic unsigned long turns;
static _Atomic bool stops;

// Two locks of two copies, one inside the other, with time in between. One order for all, so that they do not deadlock by themselves: who waits for the inner one
// holds the outer.
static void *hammer(void *context) {
    unsigned seed = (unsigned)(uintptr_t)context;
    while (!stops) {
        int a = (int)(rand_r(&seed) % (unsigned)count), b = (int)(rand_r(&seed) % (unsigned)count);
        if (a > b) {
            int c = a;
            a = b;
            b = c;
        }
        copies[a]->take();
        for (volatile int i = 0; i < 200; i++) {}
        if (a != b) {
            copies[b]->take();
            for (volatile int i = 0; i < 200; i++) {}
            copies[b]->leave();
        }
        copies[a]->leave();
        turns++;
    }
    return NULL;
}

enum { WHOLE = 0, TORN = 1, WRONG_GENERATION = 2, WRONG_HELD = 4, WRONG_HOOKS = 8, WRONG_REPORT = 16 };

static int check_child(uint64_t before, int fork_number) {
    int found = WHOLE;
    alarm(10);
    for (int i = 0; i < count; i++) {
        if (copies[i]->generation() != before + 1) found |= WRONG_GENERATION;
        if (copies[i]->take() != FORKGUARD_LOCKED) found |= TORN;
        // One count for all: each sees what the others hold.
        for (int j = 0; j < count; j++)
            if (copies[j]->held() != (uint32_t)i + 1) found |= WRONG_HELD;
        if (*copies[i]->children != 1 || *copies[i]->parents != fork_number) found |= WRONG_HOOKS;
        if (copies[i]->ordinal() != copies[0]->ordinal()) found |= WRONG_REPORT;
    }
    for (int i = count - 1; i >= 0; i--) copies[i]->leave();
    return found;
}

int main(int arguments, char **argument) {
    int forks = arguments > 1 ? atoi(argument[1]) : 0;
    for (int i = 2; i < arguments && count <= PLUGINS; i++) {
        void *object = dlopen(argument[i], RTLD_NOW | RTLD_LOCAL);
        copy_entry_function *entry = object ? (copy_entry_function *)dlsym(object, "copy_entry") : NULL;
        if (!entry) {
            fprintf(stderr, "%s\n", dlerror());
            return 2;
        }
        copies[count++] = entry();
    }
    for (int i = 0; i < count; i++) copies[i]->begin();
    for (uintptr_t i = 1; i <= 4; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, hammer, (void *)i) != 0) return 2;
    }
    int whole = 0, torn = 0, hung = 0, wrong[32] = {0};
    uint64_t before = forkguard_generation(), longest = 0;
    for (int i = 0; i < forks; i++) {
        unsigned long seen = turns;
        while (turns < seen + 20) {}
        uint64_t began = forkguard_nanoseconds();
        pid_t child = fork();
        if (child == 0) _exit(check_child(before, i));
        uint64_t took = forkguard_nanoseconds() - began;
        if (took > longest) longest = took;
        int status = 0;
        if (child < 0 || waitpid(child, &status, 0) != child) return 2;
        if (!WIFEXITED(status)) hung++;
        else if (WEXITSTATUS(status) == WHOLE) whole++;
        else if (WEXITSTATUS(status) & TORN) torn++;
        if (WIFEXITED(status)) wrong[WEXITSTATUS(status) & 31]++;
    }
    stops = true;
    printf("%d copies, %d forks: %d whole, %d torn, %d ended by a signal; %lu turns, longest fork %.1f ms;", count, forks, whole, torn, hung,
        (unsigned long)turns, (double)longest / 1e6);
    for (int i = 1; i < 32; i++)
        if (wrong[i]) printf(" code %d: %d", i, wrong[i]);
    printf("\n");
    return whole == forks ? 0 : 1;
}
