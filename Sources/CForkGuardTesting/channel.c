// What runner and child share.

#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__linux__)
#include <sys/prctl.h>
#include <sys/syscall.h>
#ifndef MFD_CLOEXEC
#define MFD_CLOEXEC 1U
#endif
#ifndef PR_SET_PTRACER
#define PR_SET_PTRACER 0x59616d61
#define PR_SET_PTRACER_ANY ((unsigned long)-1)
#endif
#endif

#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif

// ---- making and ending ----

int fgt_anonymous_file(void) {
#if defined(__linux__) && defined(SYS_memfd_create)
    int descriptor = (int)syscall(SYS_memfd_create, "forkguard-testing", MFD_CLOEXEC);
    if (descriptor >= 0 || (errno != ENOSYS && errno != EPERM)) return descriptor;
#endif
    char path[1024];
    const char *directory = getenv("TMPDIR");
    if (!directory || !*directory || strlen(directory) > 900) directory = "/tmp";
    strcpy(path, directory);
    strcat(path, "/forkguard-testing.XXXXXX");
    int file = mkstemp(path);
    if (file < 0) return -1;
    unlink(path);
    fcntl(file, F_SETFD, FD_CLOEXEC);
    return file;
}

static int closed_on_exec_pipe(int ends[2]) {
#if defined(__linux__)
    if (pipe2(ends, O_CLOEXEC) != 0) return -1;
#else
    if (pipe(ends) != 0) return -1;
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    fcntl(ends[1], F_SETFD, FD_CLOEXEC);
#endif
    // Only the runner's end: the flag belongs to the open file description, and the two ends are two of them.
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    return 0;
}

static void close_end(int *descriptor) {
    if (*descriptor >= 0) close(*descriptor);
    *descriptor = -1;
}

fgt_channel *fgt_channel_create(bool sharing_files) {
    fgt_channel *channel = mmap(NULL, sizeof *channel, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (channel == MAP_FAILED) return NULL;
    channel->runner = getpid();
    channel->sharing_files = sharing_files;
    channel->report = -1;
    for (int stream = 0; stream < 2; stream++) channel->read_end[stream] = channel->write_end[stream] = -1;

    struct stat file;
    channel->report = fgt_anonymous_file();
    if (channel->report < 0 || fstat(channel->report, &file) != 0) goto failed;
    channel->device = file.st_dev;
    channel->inode = file.st_ino;
    // A child that shares the descriptor table cannot have an output of its own.
    for (int stream = 0; stream < 2 && !sharing_files; stream++) {
        int ends[2];
        if (closed_on_exec_pipe(ends) != 0) goto failed;
        channel->read_end[stream] = ends[0];
        channel->write_end[stream] = ends[1];
    }
    return channel;

failed: {
    int error = errno;
    fgt_channel_destroy(channel);
    errno = error;
    return NULL;
}
}

void fgt_channel_parent_side(fgt_channel *channel) {
    if (channel->write_ends_closed) return;
    channel->write_ends_closed = true;
    for (int stream = 0; stream < 2; stream++)
        if (channel->write_end[stream] >= 0) close(channel->write_end[stream]);
}

void fgt_channel_destroy(fgt_channel *channel) {
    fgt_channel_parent_side(channel);
    close_end(&channel->report);
    for (int stream = 0; stream < 2; stream++) close_end(&channel->read_end[stream]);
    munmap(channel, sizeof *channel);
}

// ---- the child ----

static _Thread_local fgt_channel *armed;

// Everything but being the one child: a hook may fork as well, on the thread that is armed, and its child comes here, too.
static void become_child(fgt_channel *channel) {
    static int32_t done;
    int32_t self = getpid();
    if (self == done || self == channel->runner || getppid() != channel->runner) return;
    done = self;
    setpgid(0, 0);
#if defined(__linux__)
    // By the thread that forked, which waits for this child until it has ended.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // Yama lets only ancestors look; gdb is a sibling.
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
#endif
    if (channel->sharing_files) return;
    for (int stream = 0; stream < 2; stream++) {
        dup2(channel->write_end[stream], stream + 1);
        if (channel->write_end[stream] > 2) close(channel->write_end[stream]);
        if (channel->read_end[stream] > 2) close(channel->read_end[stream]);
    }
}

static void after_fork_in_child(void) {
    fgt_channel *channel = armed;
    armed = NULL;
    if (channel) become_child(channel);
}

// Early, so that this handler is the first of the child's.
__attribute__((constructor(101))) static void watch_forks(void) { pthread_atfork(NULL, NULL, after_fork_in_child); }

void fgt_channel_arm(fgt_channel *channel) { armed = channel; }

_Noreturn static void escape(fgt_channel *channel) {
    uint32_t index = atomic_fetch_add(&channel->escaped, 1);
    if (index < FGT_MAX_ESCAPED) atomic_store(&channel->escaped_pid[index], getpid());
    _exit(70);
}

void fgt_channel_enter(fgt_channel *channel) {
    int32_t nobody = 0;
    armed = NULL;
    become_child(channel);
    // Not the runner's child: a process that a hook forked, and that came back from it and forked on.
    if (getppid() != channel->runner || !atomic_compare_exchange_strong(&channel->child, &nobody, getpid())) escape(channel);
}

static int32_t write_all(int descriptor, const void *bytes, size_t count, uint64_t offset) {
    const char *next = bytes;
    while (count > 0) {
        ssize_t written = pwrite(descriptor, next, count, (off_t)offset);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return written < 0 ? errno : EIO;
        next += written;
        count -= (size_t)written;
        offset += (uint64_t)written;
    }
    return 0;
}

int32_t fgt_channel_report(fgt_channel *channel, uint8_t tag, const void *bytes, size_t count) {
    struct stat file;
    if (fstat(channel->report, &file) != 0 || file.st_dev != channel->device || file.st_ino != channel->inode) {
        atomic_store(&channel->lost, true);
        return EBADF;
    }
    // A piece is its length, its tag, its bytes. The length is written last: a piece that a crash cut short reads as length 0.
    uint64_t length = count + 1;
    uint64_t at = atomic_fetch_add(&channel->length, sizeof length + length);
    int32_t error = write_all(channel->report, &tag, 1, at + sizeof length);
    if (error == 0 && count > 0) error = write_all(channel->report, bytes, count, at + sizeof length + 1);
    if (error == 0) error = write_all(channel->report, &length, sizeof length, at);
    return error;
}

void fgt_channel_check_child(fgt_channel *channel) {
    if (getpid() != atomic_load(&channel->child)) escape(channel);
}

void fgt_channel_check_runner(fgt_channel *channel) {
    if (getpid() != channel->runner) escape(channel);
}

bool fgt_channel_leaves_processes(int32_t grace_ms) {
    for (int32_t waited = 0;; waited++) {
        pid_t ended;
        while ((ended = waitpid(-1, NULL, WNOHANG)) > 0) continue;
        if (ended < 0 && errno != EINTR) return false;
        if (waited >= grace_ms) return true;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

void fgt_channel_stop(fgt_channel *channel) { atomic_store(&channel->stop, true); }
bool fgt_channel_stopped(const fgt_channel *channel) { return atomic_load_explicit(&channel->stop, memory_order_relaxed); }

// ---- what the runner asks ----

uint32_t fgt_channel_escaped(const fgt_channel *channel) { return atomic_load(&channel->escaped); }

void fgt_channel_reap_escaped(fgt_channel *channel, int32_t patience_ms) {
    uint32_t count = atomic_load(&channel->escaped);
    if (count > FGT_MAX_ESCAPED) count = FGT_MAX_ESCAPED;
    for (uint32_t i = 0; i < count; i++) {
        int32_t pid = atomic_exchange(&channel->escaped_pid[i], 0);
        while (pid > 0 && waitpid(pid, NULL, WNOHANG) == 0 && patience_ms-- > 0)
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

int32_t fgt_channel_runner(const fgt_channel *channel) { return channel->runner; }
int32_t fgt_channel_child(const fgt_channel *channel) { return atomic_load(&channel->child); }
bool fgt_channel_lost(const fgt_channel *channel) { return atomic_load(&channel->lost); }
uint64_t fgt_channel_length(const fgt_channel *channel) { return atomic_load(&channel->length); }

int64_t fgt_channel_read(const fgt_channel *channel, void *bytes, size_t count, uint64_t offset) {
    ssize_t got;
    do got = pread(channel->report, bytes, count, (off_t)offset);
    while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

size_t fgt_channel_output(fgt_channel *channel, int32_t stream, void *bytes, size_t count) {
    int *end = &channel->read_end[stream - 1];
    if (*end < 0) return 0;
    ssize_t got;
    do got = read(*end, bytes, count);
    while (got < 0 && errno == EINTR);
    if (got > 0) return (size_t)got;
    // At the end of file: never again, or the watch would spin.
    if (got == 0 || errno != EAGAIN) close_end(end);
    return 0;
}
