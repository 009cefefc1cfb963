// A program that removes its lock file when it ends; its child ends by exit, and removes the parent's. Mended: the child ends by _exit.
#include "common.h"

static char path[64];

static void remove_lock_file(void) { unlink(path); }

static void *idle(void *unused) {
    (void)unused;
    return pause(), NULL;
}

int main(void) {
    snprintf(path, sizeof path, "/tmp/exit-handlers.%d", getpid());
    must(close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)) == 0, "open");
    atexit(remove_lock_file);
    spawn("logger", idle, NULL);
    pid_t child = fork();
    if (child == 0) {
#ifdef MENDED
        _exit(0);
#else
        exit(0);
#endif
    }
    watch(child);
    printf("the parent's lock file is %s\n", access(path, F_OK) == 0 ? "there" : "gone");
    return 0;
}
