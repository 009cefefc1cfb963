// A library that registered its handlers, as it must, and a program that goes around them. Mended: it calls fork.
#include "common.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long counter;

static void before_fork(void) { pthread_mutex_lock(&lock); }
static void after_fork(void) { pthread_mutex_unlock(&lock); }

static void *count(void *unused) {
    (void)unused;
    for (;;) {
        pthread_mutex_lock(&lock);
        for (int i = 0; i < 1000; i++) __atomic_fetch_add(&counter, 1, __ATOMIC_RELAXED);
        pthread_mutex_unlock(&lock);
        sched_yield();
    }
    return NULL;
}

int main(void) {
    pthread_atfork(before_fork, after_fork, after_fork);
    spawn("counter", count, NULL);
    while (__atomic_load_n(&counter, __ATOMIC_RELAXED) == 0) sched_yield();
#ifdef MENDED
    pid_t child = fork();
#else
    pid_t child = _Fork();
#endif
    if (child == 0) {
        // The lock may be free, or not: this one asks before it takes it.
        int result = pthread_mutex_trylock(&lock);
        _exit(result == 0 ? 0 : 1);
    }
    printf("lock in the child: %s\n", watch(child) == 0 ? "free" : "held by nobody");
    return 0;
}
