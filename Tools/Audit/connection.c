#include "connection.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>

#define PATIENCE 2 // seconds
// After a question that was not answered, until one is: the program is not to wait so long for each of its forks.
#define IMPATIENCE 100000000 // nanoseconds
static bool unanswered;

static struct sockaddr_un address;
static struct {
    int fd; // -1: none
    dev_t device;
    ino_t inode;
    bool silent;
    uint32_t lock; // 0 free, 1 taken, 2 taken and waited for
    uint64_t mask; // of the thread that has it
} connection = {.fd = -1};
static char buffer[60000];
static json packet;
char connection_scratch[CONNECTION_SCRATCH];

void connection_start(const char *path) {
    address.sun_family = AF_UNIX;
    if (strlen(path) < sizeof address.sun_path) strcpy(address.sun_path, path);
    else connection.silent = true;
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

// All signals but those that nobody handles and that do nothing: such a one is dropped, unless it is blocked. Then it waits, wakes another thread, and that thread's epoll_wait
// ends with EINTR.
static uint64_t signals_to_block(void) {
    static const int harmless[] = {SIGCHLD, SIGCONT, SIGURG, SIGWINCH};
    uint64_t all = ~UINT64_C(0);
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++) {
        struct {
            uintptr_t handler;
            unsigned long flags;
            uintptr_t restorer;
            uint64_t mask;
        } action = {0}; // the kernel's
        bool known = audit_real.syscall(SYS_rt_sigaction, harmless[i], NULL, &action, sizeof action.mask) == 0;
        if (known && (action.handler == (uintptr_t)SIG_DFL || action.handler == (uintptr_t)SIG_IGN)) all &= ~(UINT64_C(1) << (harmless[i] - 1));
    }
    return all;
}

static bool take(void) {
    uint64_t all = signals_to_block(), mask;
    audit_real.syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, &mask, sizeof all);
    uint32_t seen = 0;
    int64_t end = now() + PATIENCE * INT64_C(1000000000);
    if (!__atomic_compare_exchange_n(&connection.lock, &seen, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        while (__atomic_exchange_n(&connection.lock, 2, __ATOMIC_ACQUIRE) != 0) {
            struct timespec rest = {.tv_nsec = 100000000};
            audit_real.syscall(SYS_futex, &connection.lock, FUTEX_WAIT_PRIVATE, 2, &rest, NULL, 0);
            if (now() < end) continue;
            audit_real.syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof mask);
            return false;
        }
    }
    connection.mask = mask;
    return true;
}

static void give(void) {
    uint64_t mask = connection.mask;
    if (__atomic_exchange_n(&connection.lock, 0, __ATOMIC_RELEASE) == 2)
        audit_real.syscall(SYS_futex, &connection.lock, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    audit_real.syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof mask);
}

// Raw system calls throughout: libc's send and connect would be cancellation points.
static bool is_open(void) {
    struct stat status;
    return connection.fd >= 0 && fstat(connection.fd, &status) == 0 && status.st_ino == connection.inode && status.st_dev == connection.device;
}

bool connection_is(int fd) { return fd == connection.fd && is_open(); }

static void begin_object(const char *event) {
    struct json *json = &packet;
    json_start(json, buffer, sizeof buffer);
    json_open(json, NULL, '{');
    json_text(json, "event", event);
    json_number(json, "pid", audit_process.pid);
    json_number(json, "tid", audit_real.syscall(SYS_gettid));
    json_number(json, "time", now());
}

static void send_object(void) {
    json_close(&packet, '}');
    if (audit_real.syscall(SYS_sendto, connection.fd, buffer, packet.at - buffer, MSG_NOSIGNAL, NULL, 0) < 0) connection.silent = true;
}

ssize_t connection_read_file(const char *path, char *into, size_t size) {
    int fd = (int)audit_real.syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    size_t got = 0;
    for (ssize_t more; got < size - 1 && (more = audit_real.syscall(SYS_read, fd, into + got, size - 1 - got)) > 0;) got += (size_t)more;
    audit_real.syscall(SYS_close, fd);
    into[got] = 0;
    return (ssize_t)got;
}

void connection_add_fork(json *packet, fork_name fork) {
    char text[FORK_NAME_SIZE];
    if (fork.process) json_text(packet, "fork", fork_name_text(fork, text));
}

static void introduce(void) {
    static const char *const origins[] = {"start", "fork", "bypass"};
    begin_object("process");
    json_text(&packet, "origin", origins[audit_process.origin]);
    json_number(&packet, "ppid", getppid());
    connection_add_fork(&packet, audit_process.fork);
    ssize_t length = audit_real.syscall(SYS_readlinkat, AT_FDCWD, "/proc/self/exe", connection_scratch, CONNECTION_SCRATCH);
    json_bytes(&packet, "exe", connection_scratch, length < 0 ? 0 : (size_t)length);
    json_open(&packet, "arguments", '[');
    length = connection_read_file("/proc/self/cmdline", connection_scratch, CONNECTION_SCRATCH);
    for (ssize_t i = 0; i < length; i += (ssize_t)strlen(connection_scratch + i) + 1) json_text(&packet, NULL, connection_scratch + i);
    json_close(&packet, ']');
    send_object();
}

// High, so that the program's own descriptors get the numbers that they would have without us; within the first thousand, as the kernel's table of
// descriptors is as long as the highest one.
static int move_up(int fd) {
    struct rlimit limit;
    long from = getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < 1024 ? (long)limit.rlim_cur : 1024;
    int high = (int)audit_real.syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, from - from / 16);
    if (high < 0) return fd;
    audit_real.syscall(SYS_close, fd);
    return high;
}

static bool join(void) {
    if (connection.silent) return false;
    if (is_open()) return true;
    int fd = (int)audit_real.syscall(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    struct stat status;
    struct timeval patience = {.tv_sec = PATIENCE};
    if (fd < 0) return false;
    fd = move_up(fd);
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) != 0 || fstat(fd, &status) != 0
        || audit_real.syscall(SYS_connect, fd, &address, sizeof address) != 0) {
        audit_real.syscall(SYS_close, fd);
        connection.silent = true;
        return false;
    }
    connection.fd = fd;
    connection.device = status.st_dev;
    connection.inode = status.st_ino;
    introduce();
    return !connection.silent;
}

void connection_take_over(void) {
    if (is_open()) audit_real.syscall(SYS_close, connection.fd);
    connection.fd = -1;
    connection.silent = address.sun_path[0] == 0;
    connection.lock = 0;
    unanswered = false;
}

json *connection_begin(const char *event) {
    if (connection.silent || !take()) return NULL;
    if (!join()) {
        give();
        return NULL;
    }
    begin_object(event);
    return &packet;
}

void connection_introduce(void) {
    if (connection.silent || !take()) return;
    join();
    give();
}

json *connection_finding(const char *name, fork_name fork, const char *detail) {
    json *packet = connection_begin("finding");
    if (!packet) return NULL;
    json_text(packet, "name", name);
    connection_add_fork(packet, fork);
    json_text(packet, "detail", detail);
    return packet;
}

void connection_end(json *packet) {
    (void)packet;
    send_object();
    give();
}

void connection_ask(json *packet) {
    (void)packet;
    char answer[256];
    // An answer that came too late last time is not this one's.
    while (audit_real.syscall(SYS_recvfrom, connection.fd, answer, sizeof answer, MSG_DONTWAIT, NULL, NULL) > 0) {}
    send_object();
    struct pollfd poll = {.fd = connection.fd, .events = POLLIN};
    struct timespec patience = unanswered ? (struct timespec){.tv_nsec = IMPATIENCE} : (struct timespec){.tv_sec = PATIENCE};
    unanswered = !connection.silent && audit_real.syscall(SYS_ppoll, &poll, 1, &patience, NULL, 0) != 1;
    if (!connection.silent && !unanswered
        && audit_real.syscall(SYS_recvfrom, connection.fd, answer, sizeof answer, MSG_DONTWAIT, NULL, NULL) <= 0)
        connection.silent = true;
    give();
}
