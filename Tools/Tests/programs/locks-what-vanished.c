// A child locks what a thread of its parent's holds for ever. Prints the signal that ended it.

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static atomic_int held;

static void *hold(void *context) {
    pthread_mutex_lock(&mutex);
    held = 1;
    for (;;) pause();
    return context;
}

int main(void) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, hold, NULL) != 0) return 1;
    while (!held) usleep(1000);
    pid_t child = fork();
    if (child == 0) {
        alarm(2);
        pthread_mutex_lock(&mutex);
        _exit(0);
    }
    int status;
    if (waitpid(child, &status, 0) != child) return 1;
    printf("signal %d\n", WTERMSIG(status));
    return 0;
}
