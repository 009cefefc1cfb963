// A worker pool that is shut down in the child, too: it joins threads that only the parent has. Mended: the child knows that it has none.
#include "common.h"

static pthread_t workers[3];
static int running, stopping;

static void *work(void *unused) {
    (void)unused;
    __atomic_add_fetch(&running, 1, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&stopping, __ATOMIC_SEQ_CST)) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL); // looks for work
    __atomic_sub_fetch(&running, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void shut_down(void) {
    __atomic_store_n(&stopping, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 3; i++) pthread_join(workers[i], NULL);
}

int main(void) {
    for (int i = 0; i < 3; i++) workers[i] = spawn("worker", work, NULL);
    while (__atomic_load_n(&running, __ATOMIC_SEQ_CST) < 3) sched_yield();
    pid_t child = fork();
    if (child == 0) {
#ifdef MENDED
        running = 0;
#else
        shut_down();
#endif
        _exit(running); // not 0: work that was never finished, whatever the join said (glibc 2.36 crashes here)
    }
    int status = watch(child);
    shut_down();
    printf("child ended with %d\n", status);
    return 0;
}
