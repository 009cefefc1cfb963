// Mutexes that are held for ever, other ways to make a process, and what programs do to a library that they do not know of.

#include "probe.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

pthread_mutex_t held_for_ever = PTHREAD_MUTEX_INITIALIZER; // seen by dladdr(3) in a shared object; here by its address
static pthread_mutex_t second = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t written_for_ever = PTHREAD_RWLOCK_INITIALIZER;
static guarded busy = {.mutex = PTHREAD_MUTEX_INITIALIZER};
static atomic_int holding;
static atomic_bool may_release;

static void *hold_for_ever(void *context) {
    prctl(PR_SET_NAME, "holder");
    CHECK(pthread_mutex_lock(&held_for_ever) == 0);
    CHECK(pthread_rwlock_wrlock(&written_for_ever) == 0);
    atomic_fetch_add(&holding, 1);
    // It goes on taking others, too: those are waited for.
    for (;;) guarded_use(&busy, 100000);
    return context;
}

// Holds one mutex for ever because it waits for the other.
static void *wait_for_ever(void *context) {
    while (atomic_load(&holding) == 0) nap(1000000);
    CHECK(pthread_mutex_lock(&second) == 0);
    atomic_fetch_add(&holding, 1);
    CHECK(pthread_mutex_lock(&held_for_ever) == 0);
    return context;
}

static struct timespec now(void) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return time;
}

// Forks a hundred times, and prints how long the first one took and the longest later one. The child may use what is busy but for the first, which went ahead beside its holder.
static _Noreturn void time_forks(const char *what, void (*check_in_child)(void)) {
    double first = 0, most = 0;
    for (unsigned i = 0; !is_over(100); i++) {
        count_inside(atomic_load(&busy.holders));
        double before = seconds_now();
        pid_t child = fork();
        if (child == 0) {
            alarm(2);
            check_in_child();
            // What a thread holds at one time or another is not torn by what it holds for ever.
            if (i != 0) guarded_use(&busy, 0);
            _exit(0);
        }
        double took = seconds_now() - before;
        if (i == 0) first = took;
        else if (took > most) most = took;
        settle(child);
        nap(100000);
    }
    dprintf(1, "first %.0f ms, then at most %.0f ms\n", first * 1000, most * 1000);
    say(what);
}

static void check_kept(void) {
    struct timespec end = now();
    CHECK(pthread_mutex_trylock(&held_for_ever) == EBUSY);
    CHECK(pthread_mutex_timedlock(&held_for_ever, &end) == ETIMEDOUT);
    CHECK(pthread_rwlock_trywrlock(&written_for_ever) == EBUSY);
    CHECK(pthread_rwlock_timedrdlock(&written_for_ever, &end) == ETIMEDOUT);
    CHECK(pthread_mutex_trylock(&second) == EBUSY);
}

void scenario_kept(void) {
    begin(hold_for_ever, NULL);
    begin(wait_for_ever, NULL);
    for (unsigned i = 0; i < 2; i++) begin(guarded_use_for_ever, &busy);
    while (atomic_load(&holding) < 2) nap(1000000);
    time_forks("kept", check_kept);
}

static pthread_mutex_t handed = PTHREAD_MUTEX_INITIALIZER, waited = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t entered = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static pthread_cond_t among_processes;

// Its mutex is unlocked by another thread: nothing ends its section.
static void *hand_over(void *context) {
    CHECK(pthread_mutex_lock(&handed) == 0);
    atomic_fetch_add(&holding, 1);
    for (;;) guarded_use(&busy, 100000);
    return context;
}

static void *free_while_locked(void *context) {
    pthread_mutex_t *mutex = calloc(1, sizeof *mutex);
    CHECK(mutex && pthread_mutex_lock(mutex) == 0);
    memset(mutex, 0, sizeof *mutex);
    free(mutex);
    atomic_fetch_add(&holding, 1);
    for (;;) guarded_use(&busy, 100000);
    return context;
}

static void *enter_again(void *context) {
    CHECK(pthread_mutex_lock(&entered) == 0);
    atomic_fetch_add(&holding, 1);
    for (;;) {
        CHECK(pthread_mutex_lock(&entered) == 0);
        nap(1000000);
        CHECK(pthread_mutex_unlock(&entered) == 0);
        nap(1000000);
    }
    return context;
}

static void *wait_among_processes(void *context) {
    CHECK(pthread_mutex_lock(&waited) == 0);
    atomic_fetch_add(&holding, 1);
    for (;;) pthread_cond_wait(&among_processes, &waited);
    return context;
}

static void check_lost(void) {
    CHECK(pthread_mutex_lock(&handed) == 0 && pthread_mutex_unlock(&handed) == 0);
    CHECK(pthread_mutex_lock(&waited) == 0 && pthread_mutex_unlock(&waited) == 0);
    CHECK(pthread_mutex_trylock(&entered) == EBUSY);
}

// Sections that are not what they seem: each kind costs no more than one deadline, all together.
void scenario_lost(void) {
    pthread_condattr_t attributes;
    CHECK(pthread_condattr_init(&attributes) == 0 && pthread_condattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0);
    CHECK(pthread_cond_init(&among_processes, &attributes) == 0);
    begin(hand_over, NULL);
    begin(free_while_locked, NULL);
    begin(enter_again, NULL);
    begin(wait_among_processes, NULL);
    while (atomic_load(&holding) < 4) nap(1000000);
    CHECK(pthread_mutex_unlock(&handed) == 0);
    time_forks("lost", check_lost);
}

static void *hold_a_while(void *context) {
    CHECK(pthread_mutex_lock(&busy.mutex) == 0);
    atomic_fetch_add(&holding, 1);
    while (!atomic_load(&may_release)) nap(1000000);
    CHECK(pthread_mutex_unlock(&busy.mutex) == 0);
    atomic_fetch_sub(&holding, 1);
    for (;;) guarded_use(&busy, 100000); // from here on as everybody
    return context;
}

void scenario_released(void) {
    begin(hold_a_while, NULL);
    while (atomic_load(&holding) < 1) nap(1000000);
    for (unsigned i = 0; i < 3; i++) { // beside it: remembered
        pid_t child = fork();
        if (child == 0) _exit(pthread_mutex_trylock(&busy.mutex) == EBUSY ? 0 : 1);
        settle(child);
    }
    atomic_store(&may_release, true);
    while (atomic_load(&holding) != 0) nap(1000000);
    begin(guarded_use_for_ever, &busy);
    while (!is_over(200)) {
        count_inside(atomic_load(&busy.holders));
        pid_t child = fork();
        if (child == 0) {
            alarm(2);
            guarded_use(&busy, 0);
            _exit(0);
        }
        settle(child);
        nap(200000);
    }
    say("released");
}

// What a child does that takes a mutex which a vanished thread has: it ends with a message, or waits for ever.
void scenario_lock(void) {
    begin(hold_for_ever, NULL);
    while (atomic_load(&holding) < 1) nap(1000000);
    pid_t child = fork();
    if (child == 0) {
        alarm(2);
        pthread_mutex_lock(&held_for_ever);
        _exit(3);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    dprintf(1, "lock: signal %d\n", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    _exit(0);
}

// ---- children that share the memory until they exec: no gate is closed, so nothing waits for a deadline ----

static int exit_status(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : -1; }

void scenario_spawns(void) {
    begin(hold_for_ever, NULL);
    for (unsigned i = 0; i < 2; i++) begin(guarded_use_for_ever, &busy);
    while (atomic_load(&holding) < 1) nap(1000000);
    double before = seconds_now();
    for (unsigned i = 0; i < 50; i++) {
        int status;
        pid_t child = vfork();
        if (child == 0) _exit(7);
        CHECK(child > 0 && waitpid(child, &status, 0) == child && exit_status(status) == 7);
        child = vfork();
        if (child == 0) {
            execl("/bin/sh", "sh", "-c", "exit 8", (char *)NULL);
            _exit(1);
        }
        CHECK(child > 0 && waitpid(child, &status, 0) == child && exit_status(status) == 8);
        CHECK(posix_spawn(&child, "/bin/sh", NULL, NULL, (char *[]){"sh", "-c", "exit 9", NULL}, environ) == 0);
        CHECK(waitpid(child, &status, 0) == child && exit_status(status) == 9);
        CHECK(posix_spawn(&child, "/nowhere/to/be/found", NULL, NULL, (char *[]){"sh", NULL}, environ) == ENOENT);
        CHECK(exit_status(system("exit 10")) == 10);
        char line[16] = "";
        FILE *pipe = popen("echo eleven; exit 11", "r");
        CHECK(pipe && fgets(line, sizeof line, pipe) && strcmp(line, "eleven\n") == 0 && exit_status(pclose(pipe)) == 11);
    }
    double took = seconds_now() - before;
    dprintf(1, "spawns: 250 children, %s\n", took < 20 ? "none waited for" : "waited for");
    _exit(0);
}

// ---- daemon, forkpty ----

void scenario_daemon(void) {
    for (unsigned i = 0; i < 3; i++) begin(guarded_use_for_ever, &busy);
    while (!is_over(100)) {
        int results[2];
        char done = 0;
        count_inside(atomic_load(&busy.holders));
        CHECK(pipe(results) == 0);
        pid_t parent = fork();
        if (parent == 0) {
            // The process that daemon(3) ends is this one; the daemon is its child, beside threads of this one's.
            alarm(4);
            for (unsigned i = 0; i < 2; i++) begin(guarded_use_for_ever, &busy);
            nap(1000000);
            CHECK(daemon(1, 1) == 0);
            alarm(2);
            guarded_use(&busy, 0);
            CHECK(getsid(0) == getpgrp() && write(results[1], "d", 1) == 1);
            _exit(0);
        }
        close(results[1]);
        settle(parent);
        if (read(results[0], &done, 1) != 1 || done != 'd') { // the daemon hung, and its alarm ended it
            dprintf(1, "daemon: hung\n");
            _exit(1);
        }
        close(results[0]);
    }
    say("daemon");
}

void scenario_forkpty(void) {
    for (unsigned i = 0; i < 3; i++) begin(guarded_use_for_ever, &busy);
    while (!is_over(100)) {
        int terminal;
        count_inside(atomic_load(&busy.holders));
        pid_t child = forkpty(&terminal, NULL, NULL, NULL);
        if (child == 0) {
            alarm(2);
            guarded_use(&busy, 0);
            _exit(isatty(0) ? 0 : 1);
        }
        settle(child);
        close(terminal);
        nap(100000);
    }
    say("forkpty");
}

// ---- fork in a signal handler ----

static atomic_int forked;
static guarded interrupted = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void fork_in_handler(int signal) {
    (void)signal;
    int saved = errno;
    pid_t child = fork();
    if (child == 0) _exit(0);
    int status;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    if (status == 0) atomic_fetch_add(&forked, 1);
    errno = saved;
}

static void use_interrupted(void) {
    CHECK(pthread_mutex_lock(&interrupted.mutex) == 0);
    CHECK(interrupted.a == interrupted.b);
    interrupted.a++;
    for (volatile unsigned i = 0; i < 100; i++) {}
    interrupted.b++;
    CHECK(pthread_mutex_unlock(&interrupted.mutex) == 0);
}

static void *be_interrupted_too(void *context) {
    sigset_t alarms;
    sigemptyset(&alarms);
    sigaddset(&alarms, SIGUSR1);
    CHECK(pthread_sigmask(SIG_BLOCK, &alarms, NULL) == 0);
    for (;;) {
        use_interrupted();
        nap(10000);
    }
    return context;
}

static void *interrupt(void *thread) {
    sigset_t alarms;
    sigemptyset(&alarms);
    sigaddset(&alarms, SIGUSR1);
    CHECK(pthread_sigmask(SIG_BLOCK, &alarms, NULL) == 0);
    for (;;) {
        pthread_kill(*(pthread_t *)thread, SIGUSR1);
        nap(300000);
    }
    return NULL;
}

void scenario_signals(void) {
    pthread_t me = pthread_self();
    CHECK(sigaction(SIGUSR1, &(struct sigaction){.sa_handler = fork_in_handler, .sa_flags = SA_RESTART}, NULL) == 0);
    begin(be_interrupted_too, NULL);
    begin(interrupt, &me);
    while (atomic_load(&forked) < 500)
        use_interrupted(); // not fork(): glibc's own hangs when a handler forks in the middle of it
    // Nor printing, which allocates: a fork that interrupts malloc waits for it for ever, without us too.
    CHECK(sigaction(SIGUSR1, &(struct sigaction){.sa_handler = SIG_IGN}, NULL) == 0);
    dprintf(1, "signals: 500 forks in handlers\n");
    _exit(0);
}

// ---- exec at once ----

void scenario_execs(void) {
    for (unsigned i = 0; i < 3; i++) begin(guarded_use_for_ever, &busy);
    while (!is_over(200)) {
        count_inside(atomic_load(&busy.holders));
        pid_t child = fork();
        if (child == 0) {
            execl("/bin/true", "true", (char *)NULL);
            _exit(1);
        }
        settle(child);
    }
    say("execs");
}

// ---- a program that closes all descriptors, and opens a file of its own where standard error was ----

void scenario_closes(void) {
    int output = fcntl(1, F_DUPFD, 100);
    char path[] = "/tmp/forkguard-preload-probe.XXXXXX";
    for (int number = 0; number < 100; number++) close(number);
    CHECK(open("/dev/null", O_RDWR) == 0 && dup2(output, 1) == 1);
    int data = mkstemp(path);
    if (data != 2) _exit(1);
    unlink(path);
    begin(hold_for_ever, NULL);
    while (atomic_load(&holding) < 1) nap(1000000);
    for (unsigned i = 0; i < 3; i++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(2);
            pthread_mutex_trylock(&held_for_ever);
            _exit(0);
        }
        settle(child);
    }
    dprintf(1, "closes: %lld bytes of others' in the file\n", (long long)lseek(2, 0, SEEK_END));
    say("closes");
}

// ---- an object that is opened later, by its name in the environment ----

void scenario_object(void) {
    void *object = dlopen(getenv("FORKGUARD_TEST_OBJECT"), RTLD_NOW);
    CHECK(object);
    void (*use)(long) = (void (*)(long))dlsym(object, "holder_use");
    void (*hammer)(void) = (void (*)(void))dlsym(object, "holder_hammer");
    CHECK(use && hammer);
    for (unsigned i = 0; i < 3; i++) hammer();
    while (!is_over(200)) {
        nap(300000);
        count_inside(true);
        pid_t child = fork();
        if (child == 0) {
            alarm(2);
            use(0);
            _exit(0);
        }
        settle(child);
    }
    say("object");
}

// Whose pthread_mutex_lock this program and dlsym(3) find.
void scenario_who(void) {
    Dl_info here = {0}, found = {0};
    CHECK(dladdr((void *)(long)pthread_mutex_lock, &here) && dladdr(dlsym(RTLD_DEFAULT, "pthread_mutex_lock"), &found));
    const char *slash = strrchr(here.dli_fname, '/');
    // The linker makes a place of its own for it in a program that is not position-independent.
    if (strstr(here.dli_fname, "probe")) slash = strrchr(found.dli_fname, '/');
    const char *slash_found = strrchr(found.dli_fname, '/');
    dprintf(1, "who: %s, %s\n", slash + 1, slash_found + 1);
    _exit(0);
}
