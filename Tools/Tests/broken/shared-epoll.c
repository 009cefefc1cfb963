// An event loop, and a child that takes its inherited pipe out of what it thinks is its own epoll set: it is the parent's.
// Mended: the child makes a new set.
#include "common.h"

static int set, messages[2], others[2];

static void *poke(void *unused) {
    (void)unused;
    for (int i = 0; i < 20; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
        (void)!write(messages[1], "x", 1);
    }
    return NULL;
}

static int serve(int count) {
    int served = 0;
    for (int i = 0; i < count; i++) {
        struct epoll_event event;
        if (epoll_wait(set, &event, 1, 100) == 1 && event.data.fd == messages[0]) {
            char byte;
            served += read(messages[0], &byte, 1) == 1;
        }
    }
    return served;
}

int main(void) {
    set = epoll_create1(EPOLL_CLOEXEC);
    must(pipe2(messages, O_CLOEXEC | O_NONBLOCK) == 0 && pipe2(others, O_CLOEXEC) == 0, "pipe");
    struct epoll_event event = {.events = EPOLLIN, .data.fd = messages[0]};
    epoll_ctl(set, EPOLL_CTL_ADD, messages[0], &event);
    pid_t child = fork();
    if (child == 0) {
        struct epoll_event own = {.events = EPOLLIN, .data.fd = others[0]};
#ifdef MENDED
        close(set);
        set = epoll_create1(EPOLL_CLOEXEC);
#else
        epoll_ctl(set, EPOLL_CTL_DEL, messages[0], NULL);
#endif
        epoll_ctl(set, EPOLL_CTL_ADD, others[0], &own);
        (void)!write(others[1], "y", 1);
        _exit(epoll_wait(set, &event, 1, 1000) == 1 && event.data.fd == others[0] ? 0 : 1);
    }
    int status = watch(child);
    pthread_t poker = spawn("poker", poke, NULL);
    int served = serve(20);
    pthread_join(poker, NULL);
    printf("events that the parent got after its child: %d of 20; child %d\n", served, status);
    return 0;
}
