// Two parts of a program both set up the same module, which registers its fork handlers each time: the second prepare waits for the lock of the first.
// Mended: once. (An error-checking mutex, so that it ends without a hang.)
#include "common.h"

static pthread_mutex_t lock;
static int failures;

static void before_fork(void) { failures += pthread_mutex_lock(&lock) != 0; }
static void after_fork(void) { pthread_mutex_unlock(&lock); }
static void *idle(void *unused) {
    (void)unused;
    return pause(), NULL;
}

static void register_handlers(void) { pthread_atfork(before_fork, after_fork, after_fork); }

static void set_up(void) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
#ifdef MENDED
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_handlers);
#else
    register_handlers();
#endif
    pthread_mutex_init(&lock, &attributes);
}

int main(void) {
    set_up();
    set_up();
    spawn("logger", idle, NULL);
    pid_t child = fork();
    if (child == 0) _exit(failures);
    int status = watch(child);
    printf("failed calls in the handlers: parent %d, child %d\n", failures, status);
    return 0;
}
