// Threads and monitors.

#include "CForkGuardTesting.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct fgt_monitor {
    pthread_mutex_t mutex;
    pthread_cond_t condition;
};

fgt_monitor *fgt_monitor_create(void) {
    fgt_monitor *monitor = malloc(sizeof *monitor);
    if (!monitor) return NULL;
    pthread_mutex_init(&monitor->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
#if !defined(__APPLE__)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
#endif
    pthread_cond_init(&monitor->condition, &attributes);
    pthread_condattr_destroy(&attributes);
    return monitor;
}

void fgt_monitor_destroy(fgt_monitor *monitor) {
    pthread_cond_destroy(&monitor->condition);
    pthread_mutex_destroy(&monitor->mutex);
    free(monitor);
}

void fgt_monitor_lock(fgt_monitor *monitor) { pthread_mutex_lock(&monitor->mutex); }
void fgt_monitor_unlock(fgt_monitor *monitor) { pthread_mutex_unlock(&monitor->mutex); }
void fgt_monitor_wake(fgt_monitor *monitor) { pthread_cond_broadcast(&monitor->condition); }

bool fgt_monitor_wait(fgt_monitor *monitor, uint64_t deadline_ns) {
    if (deadline_ns == UINT64_MAX) return pthread_cond_wait(&monitor->condition, &monitor->mutex) == 0;
#if defined(__APPLE__)
    uint64_t now = fgt_now_ns();
    uint64_t left = deadline_ns > now ? deadline_ns - now : 0;
    struct timespec span = {.tv_sec = (time_t)(left / 1000000000u), .tv_nsec = (long)(left % 1000000000u)};
    return pthread_cond_timedwait_relative_np(&monitor->condition, &monitor->mutex, &span) != ETIMEDOUT;
#else
    struct timespec until = {.tv_sec = (time_t)(deadline_ns / 1000000000u), .tv_nsec = (long)(deadline_ns % 1000000000u)};
    return pthread_cond_timedwait(&monitor->condition, &monitor->mutex, &until) != ETIMEDOUT;
#endif
}

struct fgt_thread {
    pthread_t thread;
};

struct start {
    void (*main)(void *);
    void *context;
    char name[16];
};

static void *run(void *argument) {
    struct start start = *(struct start *)argument;
    free(argument);
#if defined(__APPLE__)
    pthread_setname_np(start.name);
#else
    pthread_setname_np(pthread_self(), start.name);
#endif
    start.main(start.context);
    return NULL;
}

fgt_thread *fgt_thread_start(const char *name, void (*main)(void *), void *context) {
    fgt_thread *thread = malloc(sizeof *thread);
    struct start *start = malloc(sizeof *start);
    int error = ENOMEM;
    if (thread && start) {
        start->main = main;
        start->context = context;
        snprintf(start->name, sizeof start->name, "%s", name);
        error = pthread_create(&thread->thread, NULL, run, start);
        if (error == 0) return thread;
    }
    free(thread);
    free(start);
    errno = error;
    return NULL;
}

void fgt_thread_join(fgt_thread *thread) {
    pthread_join(thread->thread, NULL);
    free(thread);
}

void fgt_thread_abandon(fgt_thread *thread) {
    pthread_detach(thread->thread);
    free(thread);
}
