// A pre-forking server whose parent has threads, and forks in the midst of them: a refresher that rewrites a table all the time, and a logger. Its workers have
// their own of both, and threads that answer `GET /entry/N` from the table they inherited.
//
//     daemon WORKERS LOG        prints where it listens and which workers come and go
//
// SIGHUP replaces the workers, one after the other, and loses no request; SIGTERM ends all. A worker that dies is replaced.
//
// What ForkGuard changes in a daemon like this one is between the markers: compiled with -DUNGUARDED it is the daemon as it was, whose workers hang.

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ENTRIES = 1024, THREADS = 4, MOST_WORKERS = 64, LOG_SIZE = 65536 };

// ---- what is shared by threads ----

static struct { unsigned long version; char text[40]; } table[ENTRIES]; // all of the same version
static char pending[LOG_SIZE];                                          // lines that the logger has not written yet
static size_t pending_size;
static pthread_mutex_t log_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t log_changed = PTHREAD_COND_INITIALIZER;
static int listener, log_file, lifeline[2]; // the parent alone has the pipe's end to write to: when it is gone, however it went, workers notice

static void write_table(unsigned long version) {
    for (int i = 0; i < ENTRIES; i++) {
        table[i].version = version;
        snprintf(table[i].text, sizeof table[i].text, "entry %d of version %lu", i, version);
    }
}

#ifdef UNGUARDED

static pthread_mutex_t table_mutex = PTHREAD_MUTEX_INITIALIZER;
static unsigned long work_done;

static void lock_table(void) { pthread_mutex_lock(&table_mutex); }
static void unlock_table(void) { pthread_mutex_unlock(&table_mutex); }
// With the lock.
static unsigned long count_work(void) { return ++work_done; }
static void adopt(void) {}

#else // ---- what adopting ForkGuard has added ----

#include <forkguard.h>

// Instead of a pthread mutex: no other thread is inside when the process is copied.
static forkguard_lock_t table_lock = FORKGUARD_LOCK_INITIALIZER("table");
static struct { uint64_t generation; unsigned long count; } work_done; // counts for one process only, which it notes

static void lock_table(void) {
    if (forkguard_lock(&table_lock) == FORKGUARD_TORN) { // the fork could not wait for who was inside
        write_table(0);
        work_done.count = 0;
        forkguard_lock_mark_consistent(&table_lock);
    }
}
static void unlock_table(void) { forkguard_unlock(&table_lock); }

static unsigned long count_work(void) {
    if (!forkguard_is_current(work_done.generation)) {
        work_done.generation = forkguard_generation();
        work_done.count = 0;
    }
    return ++work_done.count;
}

// The parent will write these lines. In the child, before fork returns: it is the only thread, and the mutex is free.
static int drop_pending(void *context) {
    (void)context;
    pending_size = 0;
    return 0;
}

static void adopt(void) {
    // The logger keeps its pthread mutex and condition: a fork waits for the mutex, and the child finds both as new.
    bool registered = forkguard_register_mutex(&log_mutex, &(forkguard_foreign_lock){.name = "log"}) != 0
        && forkguard_register_condition(&log_changed, &(forkguard_foreign_lock){.name = "log changed"}) != 0
        && forkguard_register_resource(&(forkguard_resource){.name = "log", .child = drop_pending}) != 0;
    forkguard_descriptor_t tokens[3]; // not kept: these descriptors stay open as long as the process
    int failure = forkguard_descriptor_adopt(lifeline[1], FORKGUARD_TOMBSTONE, &tokens[0]);
    if (!failure) failure = forkguard_descriptor_adopt(lifeline[0], FORKGUARD_KEEP, &tokens[1]);
    if (!failure) failure = forkguard_descriptor_adopt(listener, FORKGUARD_KEEP, &tokens[2]);
    if (registered && !failure) return;
    fprintf(stderr, "daemon: adopting: %s\n", strerror(failure ? failure : errno));
    exit(1);
}

#endif // ---- the end of it ----

static void say_and_exit(const char *what) {
    perror(what);
    exit(1);
}

static void start_thread(void *(*body)(void *), void *context, pthread_t *thread) {
    pthread_t nobody;
    int failure = pthread_create(thread ? thread : &nobody, NULL, body, context);
    if (failure) {
        errno = failure;
        say_and_exit("daemon: pthread_create");
    }
    if (!thread) pthread_detach(nobody);
}

// ---- the log ----

static void log_line(const char *line) {
    pthread_mutex_lock(&log_mutex);
    size_t size = strlen(line);
    if (pending_size + size <= sizeof pending) { // else the line is lost, not the request
        memcpy(pending + pending_size, line, size);
        pending_size += size;
    }
    pthread_cond_signal(&log_changed);
    pthread_mutex_unlock(&log_mutex);
}

static void write_pending(void) { // with the mutex
    if (pending_size && write(log_file, pending, pending_size) < 0) perror("daemon: log");
    pending_size = 0;
}

static void *logger(void *context) {
    (void)context;
    pthread_mutex_lock(&log_mutex);
    for (;;) {
        while (!pending_size) pthread_cond_wait(&log_changed, &log_mutex);
        write_pending();
    }
    return NULL;
}

// ---- the table ----

static void *refresher(void *pause_microseconds) {
    for (char line[64];;) {
        lock_table();
        write_table(table[0].version + 1);
        snprintf(line, sizeof line, "%d refreshed the table, work %lu\n", getpid(), count_work());
        unlock_table();
        log_line(line);
        usleep((useconds_t)(uintptr_t)pause_microseconds);
    }
    return NULL;
}

// ---- a worker ----

static void answer(int client) {
    char request[2048], body[128] = "", response[256];
    size_t size = 0;
    unsigned number = 0;
    struct timeval patience = {.tv_sec = 2};
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    do {
        ssize_t count = read(client, request + size, sizeof request - 1 - size);
        if (count <= 0) return;
        request[size += (size_t)count] = 0;
    } while (!strstr(request, "\r\n\r\n") && size < sizeof request - 1);
    bool known = sscanf(request, "GET /entry/%u ", &number) == 1 && number < ENTRIES;
    if (known) {
        lock_table();
        bool whole = true;
        for (int i = 1; i < ENTRIES; i++) whole &= table[i].version == table[0].version;
        snprintf(body, sizeof body, "%d %s %s, work %lu\n", getpid(), whole ? "whole" : "torn", table[number].text, count_work());
        unlock_table();
        log_line(body);
    }
    int length = snprintf(response, sizeof response, "HTTP/1.1 %s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
        known ? "200 OK" : "404 Not Found", strlen(body), body);
    if (send(client, response, (size_t)length, MSG_NOSIGNAL) < 0) perror("daemon: send");
}

static void *answerer(void *stopping) {
    struct pollfd events[2] = {{.fd = listener, .events = POLLIN}, {.fd = *(int *)stopping, .events = POLLIN}};
    for (;;) {
        if (poll(events, 2, -1) < 0 && errno != EINTR) say_and_exit("daemon: poll");
        if (events[1].revents) return NULL;
        int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC); // often a sibling was faster
        if (client < 0) continue;
        answer(client);
        close(client);
    }
}

// Until SIGTERM, or until the parent is gone.
static _Noreturn void work(const sigset_t *signals) {
    pthread_t threads[THREADS];
    int stop[2];
    int signal_file = signalfd(-1, signals, SFD_CLOEXEC);
    if (signal_file < 0 || pipe2(stop, O_CLOEXEC) != 0) say_and_exit("daemon: pipe");
    start_thread(logger, NULL, NULL);
    start_thread(refresher, (void *)10000, NULL);
    for (int i = 0; i < THREADS; i++) start_thread(answerer, &stop[0], &threads[i]);
    struct pollfd events[2] = {{.fd = signal_file, .events = POLLIN}, {.fd = lifeline[0], .events = POLLIN}};
    for (bool stopped = false; !stopped;) {
        struct signalfd_siginfo info = {0};
        if (poll(events, 2, -1) < 0 && errno != EINTR) say_and_exit("daemon: poll");
        if (events[0].revents && read(signal_file, &info, sizeof info) < 0) say_and_exit("daemon: read");
        stopped = info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT || events[1].revents;
    }
    close(stop[1]);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    pthread_mutex_lock(&log_mutex);
    write_pending();
    _exit(0);
}

// ---- the parent ----

static pid_t fork_worker(const sigset_t *signals) {
    pid_t worker = fork(); // as ever: handlers that the library has installed do the rest
    if (worker < 0) say_and_exit("daemon: fork");
    if (worker == 0) work(signals);
    dprintf(STDOUT_FILENO, "worker %d forked\n", worker);
    return worker;
}

// `retiring` was told to end, and has been replaced.
typedef struct { pid_t current, retiring; } slot;

// Forks anew what has died, unless the daemon is ending. How many still run.
static int reap(slot *slots, int count, const sigset_t *signals, bool ending) {
    pid_t ended;
    for (int status; (ended = waitpid(-1, &status, WNOHANG)) > 0;) {
        if (WIFSIGNALED(status)) dprintf(STDOUT_FILENO, "worker %d signalled(%d)\n", ended, WTERMSIG(status));
        else dprintf(STDOUT_FILENO, "worker %d exited(%d)\n", ended, WEXITSTATUS(status));
        for (int i = 0; i < count; i++) {
            if (slots[i].current == ended) slots[i].current = ending ? 0 : fork_worker(signals);
            if (slots[i].retiring == ended) slots[i].retiring = 0;
        }
    }
    int running = 0;
    for (int i = 0; i < count; i++) running += (slots[i].current != 0) + (slots[i].retiring != 0);
    return running;
}

static void tell(pid_t worker, int signal) {
    if (worker) kill(worker, signal); // 0 would be all of us
}

int main(int argc, char **argv) {
    int count = argc == 3 ? atoi(argv[1]) : 0;
    if (count < 1 || count > MOST_WORKERS) {
        fprintf(stderr, "usage: daemon WORKERS LOG; 1 to %d workers\n", MOST_WORKERS);
        return 64;
    }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 1024) != 0
        || getsockname(listener, (struct sockaddr *)&address, &size) != 0)
        say_and_exit("daemon: listen");
    log_file = open(argv[2], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (log_file < 0) say_and_exit(argv[2]);
    if (pipe2(lifeline, O_CLOEXEC) != 0) say_and_exit("daemon: pipe");
    adopt();

    sigset_t signals;
    sigemptyset(&signals);
    for (int i = 0; i < 4; i++) sigaddset(&signals, (int[]){SIGHUP, SIGTERM, SIGINT, SIGCHLD}[i]);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); // before there are threads: they all inherit it

    write_table(0);
    start_thread(logger, NULL, NULL);
    start_thread(refresher, (void *)100, NULL);
    dprintf(STDOUT_FILENO, "listening on 127.0.0.1:%d, process %d\n", ntohs(address.sin_port), getpid());
    slot slots[MOST_WORKERS] = {0};
    for (int i = 0; i < count; i++) slots[i].current = fork_worker(&signals);
    for (int signal = 0; signal != SIGTERM && signal != SIGINT;) {
        signal = sigwaitinfo(&signals, NULL);
        if (signal == SIGCHLD) reap(slots, count, &signals, false);
        for (int i = 0; signal == SIGHUP && i < count; i++) {
            tell(slots[i].retiring, SIGKILL); // it has had its time
            slots[i].retiring = slots[i].current;
            slots[i].current = fork_worker(&signals);
            tell(slots[i].retiring, SIGTERM);
        }
    }
    for (int i = 0; i < count; i++) tell(slots[i].current, SIGTERM);
    struct timespec patience = {.tv_sec = 3};
    while (reap(slots, count, &signals, true) && sigtimedwait(&signals, NULL, &patience) > 0) {}
    for (int i = 0; i < count; i++) { // who does not hear
        tell(slots[i].current, SIGKILL);
        tell(slots[i].retiring, SIGKILL);
    }
    while (reap(slots, count, &signals, true)) sigwaitinfo(&signals, NULL);
    return 0;
}
