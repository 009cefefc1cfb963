// A C library with threads and a mutex of its own, for programs in other languages: holder_hammer makes a thread that never leaves it alone.

#include <pthread.h>
#include <time.h>

pthread_mutex_t holder_mutex = PTHREAD_MUTEX_INITIALIZER;

void holder_use(long nanoseconds) {
    pthread_mutex_lock(&holder_mutex);
    if (nanoseconds) nanosleep(&(struct timespec){.tv_nsec = nanoseconds}, NULL);
    pthread_mutex_unlock(&holder_mutex);
}

static void *hammer(void *context) {
    for (;;) holder_use(100000);
    return context;
}

void holder_hammer(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, hammer, NULL);
}
