// Two threads in calls that end with EINTR when they are interrupted, and one in a write that would be cut short, while the main thread forks a hundred times: exit
// status 0 if none of them noticed. The argument: how many milliseconds a child lives.

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile int noticed; // 1, 2, 4: which of them
static int full[2];
static uint8_t bytes[1 << 20];

static void *in_epoll_wait(void *set) {
    struct epoll_event event;
    if (epoll_wait(*(int *)set, &event, 1, -1) != 1) noticed |= 1;
    return NULL;
}

static void *in_sigwait(void *unused) {
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGUSR2);
    const struct timespec long_time = {.tv_sec = 60};
    if (sigtimedwait(&wanted, NULL, &long_time) != SIGUSR2) noticed |= 2;
    return unused;
}

static void *in_write(void *unused) {
    if (write(full[1], bytes, sizeof bytes) != (ssize_t)sizeof bytes) noticed |= 4;
    return unused;
}

int main(int count, char **arguments) {
    const int life = count > 1 ? atoi(arguments[1]) : 0;
    int set = epoll_create1(0), wake[2];
    if (set < 0 || pipe(wake) != 0 || pipe(full) != 0) return 2;
    epoll_ctl(set, EPOLL_CTL_ADD, wake[0], &(struct epoll_event){.events = EPOLLIN});
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &blocked, NULL);
    pthread_t threads[3];
    pthread_create(&threads[0], NULL, in_epoll_wait, &set);
    pthread_create(&threads[1], NULL, in_sigwait, NULL);
    pthread_create(&threads[2], NULL, in_write, NULL);
    pthread_setname_np(threads[0], "event-loop");
    for (int i = 0; i < 100; i++) {
        pid_t child = fork();
        if (child == 0) _exit(poll(NULL, 0, life));
        if (child < 0 || waitpid(child, NULL, 0) != child) return 3;
        poll(NULL, 0, 20); // forks that are seconds apart are looked at, too
    }
    if (write(wake[1], "x", 1) != 1) return 2;
    pthread_kill(threads[1], SIGUSR2);
    for (ssize_t left = sizeof bytes; left > 0;) {
        static uint8_t sink[65536];
        ssize_t got = read(full[0], sink, sizeof sink);
        if (got <= 0) return 2;
        left -= got;
        if (noticed) return noticed;
    }
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    return noticed;
}
