// A cache with a refresher thread; the child looks something up.
// Mended: the lock is held over the fork by the forking thread, as pthread_atfork is meant for.
#include "common.h"

static pthread_mutex_t cache_lock = PTHREAD_MUTEX_INITIALIZER;
static int cache[64], rounds;
static sem_t refreshing;

static void *refresh(void *unused) {
    (void)unused;
    for (;;) {
        pthread_mutex_lock(&cache_lock);
        if (rounds++ == 0) sem_post(&refreshing);
        for (int i = 0; i < 64; i++) cache[i] = rounds;
        nanosleep(&(struct timespec){.tv_nsec = rounds == 1 ? 300000000 : 5000000}, NULL); // an answer from afar, the first one slowly
        pthread_mutex_unlock(&cache_lock);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return NULL;
}

static int look_up(int key) {
    pthread_mutex_lock(&cache_lock);
    int value = cache[key];
    pthread_mutex_unlock(&cache_lock);
    return value;
}

#ifdef MENDED
static void before_fork(void) { pthread_mutex_lock(&cache_lock); }
static void after_fork(void) { pthread_mutex_unlock(&cache_lock); }
#endif

int main(void) {
#ifdef MENDED
    pthread_atfork(before_fork, after_fork, after_fork);
#endif
    spawn("refresher", refresh, NULL);
    sem_wait(&refreshing);
    pid_t child = fork();
    if (child == 0) _exit(look_up(7) > 0 ? 0 : 1);
    int status = watch(child);
    printf("lookup in the child: %s\n", status == 0 ? "ok" : "failed");
    return 0;
}
