#include "cidle.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static long faults(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt;
}

static void *idle(void *context) {
    for (;;) pause();
    return context;
}

static idle_fork fork_once(void) {
    idle_fork result;
    struct rusage usage = {0};
    long before = faults();
    uint64_t began = now();
    pid_t child = fork();
    if (child == 0) _exit(0);
    uint64_t returned = now();
    result.parent_faults = faults() - before;
    if (child < 0 || wait4(child, NULL, 0, &usage) != child) abort();
    result.nanoseconds = returned - began;
    result.total_nanoseconds = now() - began;
    result.child_faults = usage.ru_minflt;
    return result;
}

int idle_main(int count, char **arguments) {
    for (int threads = count > 1 ? atoi(arguments[1]) : 0; threads > 0; threads--) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, idle, NULL) != 0) return 1;
    }
    for (char go; read(STDIN_FILENO, &go, 1) == 1;) {
        idle_fork result = fork_once();
        if (write(STDOUT_FILENO, &result, sizeof result) != sizeof result) return 1;
    }
    return 0;
}
