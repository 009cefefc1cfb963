// A crash reporter or a reload that forks right in its signal handler, whatever was interrupted.
// Mended: the handler writes a byte, a loop reads it and forks.
#include "common.h"

static int notes[2];
static volatile sig_atomic_t reports;

static void report(void) {
    pid_t child = fork();
    if (child == 0) _exit(0);
    watch(child);
    reports++;
}

static void handler(int signal) {
    (void)signal;
    int saved = errno;
#ifdef MENDED
    (void)!write(notes[1], "r", 1);
#else
    report();
#endif
    errno = saved;
}

static void *idle(void *unused) {
    (void)unused;
    return pause(), NULL;
}

int main(void) {
    must(pipe2(notes, O_CLOEXEC) == 0, "pipe");
    struct sigaction action = {.sa_handler = handler};
    sigaction(SIGUSR1, &action, NULL);
    sigset_t usr1;
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &usr1, NULL); // the main thread gets it
    spawn("logger", idle, NULL);
    pthread_sigmask(SIG_UNBLOCK, &usr1, NULL);
    raise(SIGUSR1);
#ifdef MENDED
    char byte;
    must(read(notes[0], &byte, 1) == 1, "read");
    report();
#endif
    printf("%d reports\n", (int)reports);
    return 0;
}
