// A daemon that is linked with CForkGuard opens a Swift library that has a copy of it inside, with all cures, and forks from among the threads of both.
//
//     linked-daemon LIBRARY FORKS
//
// Ends with 0 when every child had one generation by both copies, found the daemon's lock free, and all of the library worked.

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "forkguard.h"

#define LOADS 31u // of the library's hammers (HostedRuntime.swift): all
#define PATIENCE 10 // seconds, of a child

static forkguard_lock_t lock = FORKGUARD_LOCK_INITIALIZER("the daemon's lock");
static _Atomic unsigned long turns;

static struct {
    void (*start)(uint32_t);
    uint32_t (*prepare)(uint32_t, int32_t);
    uint32_t (*check)(uint32_t, int32_t);
    uint64_t (*generation)(void);
} library;

static void *hammer(void *context) {
    for (;;) {
        if (forkguard_lock(&lock) == FORKGUARD_TORN) abort();
        for (volatile int i = 0; i < 200; i++) {}
        forkguard_unlock(&lock);
        turns++;
    }
    return context;
}

static int check(uint64_t before, int number) {
    alarm(PATIENCE);
    if (forkguard_generation() != before + 1 || library.generation() != before + 1) return 1;
    if (forkguard_lock(&lock) != FORKGUARD_LOCKED) return 2;
    forkguard_unlock(&lock);
    return library.check(LOADS, number) == 0 ? 0 : 3;
}

static void *found(void *object, const char *name) {
    void *address = object ? dlsym(object, name) : NULL;
    if (!address) {
        fprintf(stderr, "%s\n", dlerror());
        exit(2);
    }
    return address;
}

int main(int count, char **arguments) {
    if (count != 3) return 2;
    void *object = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    library.start = (void (*)(uint32_t))found(object, "hosted_start");
    library.prepare = (uint32_t (*)(uint32_t, int32_t))found(object, "hosted_prepare");
    library.check = (uint32_t (*)(uint32_t, int32_t))found(object, "hosted_check");
    library.generation = (uint64_t (*)(void))found(object, "hosted_generation");
    library.start(LOADS);
    for (int i = 0; i < 2; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, hammer, NULL) != 0) return 2;
    }
    int forks = atoi(arguments[2]), whole = 0;
    uint64_t before = forkguard_generation();
    for (int i = 0; i < forks; i++) {
        library.prepare(LOADS, i);
        pid_t child = fork();
        if (child == 0) _exit(check(before, i));
        int status;
        if (child < 0 || waitpid(child, &status, 0) != child) return 2;
        if (status == 0) whole++;
        else fprintf(stderr, "child %d: status %#x\n", i, (unsigned)status);
    }
    printf("%d of %d children whole, %lu turns of the daemon's lock\n", whole, forks, (unsigned long)turns);
    fflush(stdout);
    _exit(whole == forks ? 0 : 1);
}
