// Not even its own user may look into it.

#include <pthread.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void *idle(void *unused) {
    pause();
    return unused;
}

int main(void) {
    pthread_t thread;
    prctl(PR_SET_DUMPABLE, 0);
    if (pthread_create(&thread, NULL, idle, NULL) != 0) return 1;
    pid_t child = fork();
    if (child == 0) _exit(0);
    return waitpid(child, NULL, 0) == child ? 0 : 1;
}
