#include "descriptors.h"

#include "connection.h"
#include "goodbye.h"
#include "stack.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

shared_descriptor *audit_descriptors;
static int descriptors_end; // one past the last that was ever shared

bool descriptors_start(void) {
    void *memory = mmap(NULL, DESCRIPTORS * sizeof(shared_descriptor), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return false;
    audit_descriptors = memory;
    return true;
}

static void clear(shared_descriptor *descriptor) { memset(descriptor, 0, sizeof *descriptor); }

void descriptors_take_over(bool seen) {
    int last = audit_process.lineage.count;
    for (int fd = 0; fd < descriptors_end; fd++) {
        shared_descriptor *descriptor = &audit_descriptors[fd];
        if (!descriptor->first && !descriptor->ancestor) continue;
        // Later, where another thread was about to fork at the same time.
        if (!descriptor->ancestor && seen && descriptor->stamp >= audit_process.fork.number) descriptor->ancestor = (uint8_t)last;
        descriptor->first = descriptor->stamp = 0;
        descriptor->ancestor_told = 0;
        descriptor->said_goodbye = false;
        memset(descriptor->told, 0, sizeof descriptor->told);
    }
}

// ---- what they are ----

static char *put_address(char *at, const struct sockaddr_storage *address, socklen_t length) {
    const struct sockaddr_in *four = (const void *)address;
    const struct sockaddr_in6 *six = (const void *)address;
    const struct sockaddr_un *local = (const void *)address;
    if (address->ss_family == AF_INET) {
        const unsigned char *bytes = (const void *)&four->sin_addr;
        for (int i = 0; i < 4; i++) {
            at = text_number(at, bytes[i]);
            *at++ = i < 3 ? '.' : ':';
        }
        return text_number(at, ntohs(four->sin_port));
    }
    if (address->ss_family == AF_INET6) {
        char text[INET6_ADDRSTRLEN];
        inet_ntop(AF_INET6, &six->sin6_addr, text, sizeof text);
        at = text_copy(text_copy(text_copy(at, "["), text), "]:");
        return text_number(at, ntohs(six->sin6_port));
    }
    if (address->ss_family == AF_UNIX && length > offsetof(struct sockaddr_un, sun_path)) {
        size_t size = length - offsetof(struct sockaddr_un, sun_path);
        bool abstract = local->sun_path[0] == 0;
        if (abstract) *at++ = '@';
        for (size_t i = abstract; i < size && (abstract || local->sun_path[i]); i++) *at++ = local->sun_path[i];
    }
    *at = 0;
    return at;
}

static void list_socket(json *packet, int fd) {
    struct sockaddr_storage address;
    socklen_t length = sizeof(int);
    char text[160];
    int type = 0, listening = 0;
    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length);
    json_text(packet, "type", type == SOCK_STREAM ? "stream" : type == SOCK_DGRAM ? "dgram" : type == SOCK_SEQPACKET ? "seqpacket" : "raw");
    length = sizeof(int);
    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length);
    json_flag(packet, "listening", listening != 0);
    length = sizeof address;
    memset(&address, 0, sizeof address);
    if (getsockname(fd, (void *)&address, &length) == 0 && put_address(text, &address, length) != text) json_text(packet, "local", text);
    length = sizeof address;
    memset(&address, 0, sizeof address);
    if (getpeername(fd, (void *)&address, &length) == 0 && put_address(text, &address, length) != text) json_text(packet, "peer", text);
}

static void list_targets(json *packet, int fd) {
    static char text[8192]; // whoever has begun a packet is alone here
    char path[64];
    text_number(text_copy(path, "/proc/self/fdinfo/"), fd);
    if (connection_read_file(path, text, sizeof text) <= 0) return;
    json_open(packet, "targets", '[');
    for (char *at = text; (at = strstr(at, "tfd:"));) json_number(packet, NULL, strtol(at + 4, &at, 10));
    json_close(packet, ']');
}

static const char *kind_of(const struct stat *status, const char *path) {
    static const char *const anonymous[][2] = {
        {"anon_inode:[eventpoll]", "epoll"}, {"anon_inode:[eventfd]", "eventfd"}, {"anon_inode:[timerfd]", "timerfd"},
        {"anon_inode:[signalfd]", "signalfd"}, {"anon_inode:inotify", "inotify"},
    };
    if (S_ISSOCK(status->st_mode)) return "socket";
    if (S_ISFIFO(status->st_mode)) return "pipe";
    if (S_ISDIR(status->st_mode)) return "directory";
    if (S_ISREG(status->st_mode)) return "file";
    // By the name: isatty asks the driver.
    bool terminal = strncmp(path, "/dev/pts/", 9) == 0 || strncmp(path, "/dev/tty", 8) == 0 || strcmp(path, "/dev/console") == 0;
    if (S_ISCHR(status->st_mode)) return terminal ? "terminal" : "other";
    for (size_t i = 0; i < sizeof anonymous / sizeof *anonymous; i++) {
        if (strcmp(path, anonymous[i][0]) == 0) return anonymous[i][1];
    }
    return "other";
}

static void watch(int fd, const struct stat *status, const char *kind, unsigned number) {
    static const char *const unwatched[] = {"directory", "other", "terminal"};
    if (fd >= DESCRIPTORS) return;
    for (size_t i = 0; i < sizeof unwatched / sizeof *unwatched; i++) {
        if (strcmp(kind, unwatched[i]) == 0) return;
    }
    // The standard ones are meant to be shared, and so is the offset of a file that output goes to.
    if (fd <= 2 && (strcmp(kind, "pipe") == 0 || (fd != 0 && strcmp(kind, "file") == 0))) return;
    shared_descriptor *descriptor = &audit_descriptors[fd];
    if ((descriptor->first || descriptor->ancestor) && (descriptor->inode != status->st_ino || descriptor->device != status->st_dev)) clear(descriptor);
    if (!descriptor->first && !descriptor->ancestor) descriptor->number = fd;
    descriptor->inode = status->st_ino;
    descriptor->device = status->st_dev;
    descriptor->socket = S_ISSOCK(status->st_mode);
    descriptor->stamp = number;
    if (!descriptor->first) descriptor->first = number;
    int end = __atomic_load_n(&descriptors_end, __ATOMIC_RELAXED);
    while (end <= fd && !__atomic_compare_exchange_n(&descriptors_end, &end, fd + 1, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
}

static bool list_one(json *packet, int fd, unsigned number) {
    struct stat status;
    char link[64], path[512];
    if (connection_is(fd) || fstat(fd, &status) != 0) return true;
    text_number(text_copy(link, "/proc/self/fd/"), fd);
    long length = audit_real.syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    const char *kind = kind_of(&status, path);
    watch(fd, &status, kind, number);

    json_place place = json_mark(packet);
    json_open(packet, NULL, '{');
    json_number(packet, "fd", fd);
    json_text(packet, "kind", kind);
    json_text(packet, "path", path);
    json_number(packet, "inode", (int64_t)status.st_ino);
    if (S_ISSOCK(status.st_mode)) list_socket(packet, fd);
    if (S_ISREG(status.st_mode)) {
        json_number(packet, "offset", audit_real.syscall(SYS_lseek, fd, 0, SEEK_CUR));
        json_flag(packet, "append", (audit_real.syscall(SYS_fcntl, fd, F_GETFL) & O_APPEND) != 0);
    }
    if (strcmp(kind, "epoll") == 0) list_targets(packet, fd);
    json_close(packet, '}');
    if (!packet->full) return true;
    json_rewind(packet, place);
    return false;
}

typedef struct directory_entry {
    uint64_t inode;
    int64_t offset;
    unsigned short size;
    unsigned char type;
    char name[];
} directory_entry;

void descriptors_list(json *packet, unsigned number) {
    int directory = (int)audit_real.syscall(SYS_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC), left_off = 0;
    json_open(packet, "descriptors", '[');
    for (long size; directory >= 0 && (size = audit_real.syscall(SYS_getdents64, directory, connection_scratch, CONNECTION_SCRATCH)) > 0;) {
        for (long i = 0; i < size; i += ((directory_entry *)(connection_scratch + i))->size) {
            const char *name = ((directory_entry *)(connection_scratch + i))->name;
            int fd = (int)strtol(name, NULL, 10);
            if (name[0] != '.' && fd != directory && !list_one(packet, fd, number)) left_off++;
        }
    }
    json_close(packet, ']');
    if (left_off) json_number(packet, "descriptors_left_off", left_off);
    if (directory < 0) return;
    audit_real.syscall(SYS_close, directory);
    // Closed where no wrapper saw it.
    for (int fd = 0; fd < descriptors_end; fd++) {
        if (descriptor_shared(fd) && audit_descriptors[fd].stamp != number) clear(&audit_descriptors[fd]);
    }
}

// ---- who uses them ----

static const char *const names[USES] = {"read", "write", "lseek", "shutdown", "epoll_ctl", "epoll_wait"};

static void say_use(fork_name fork, const char *side, int fd, const char *how, void **frames, int count) {
    json *packet = connection_begin("use");
    if (!packet) return;
    connection_add_fork(packet, fork);
    json_text(packet, "side", side);
    json_number(packet, "fd", fd);
    json_text(packet, "how", how);
    json_stack(packet, "stack", frames, count);
    connection_end(packet);
}

// Whether it is still what it was at the fork: libc closes some by itself, where no wrapper sees it.
static bool is_same(int fd, shared_descriptor *descriptor) {
    struct stat status;
    if (fstat(fd, &status) == 0 && status.st_ino == descriptor->inode && status.st_dev == descriptor->device) return true;
    clear(descriptor);
    return false;
}

void descriptor_used(int fd, use use, void *caller) {
    shared_descriptor *descriptor = descriptor_shared(fd);
    if (!descriptor || !audit_enter()) return;
    int saved = errno;
    unsigned last = __atomic_load_n(&audit_process.last_fork, __ATOMIC_ACQUIRE), told = __atomic_load_n(&descriptor->told[use], __ATOMIC_RELAXED);
    bool by_child = descriptor->ancestor && !(__atomic_load_n(&descriptor->ancestor_told, __ATOMIC_RELAXED) & 1 << use)
        && !(descriptor->said_goodbye && use == USE_READ); // its answer
    bool by_parent = descriptor->first && descriptor->first <= last && told < last;
    if ((by_child || by_parent) && process_is_ours() && is_same(fd, descriptor)) {
        void *frames[STACK_DEEP];
        int count = stack_walk(caller, frames, STACK_DEEP, NULL);
        if (by_child) {
            __atomic_fetch_or(&descriptor->ancestor_told, (uint8_t)(1 << use), __ATOMIC_RELAXED);
            for (int i = descriptor->ancestor - 1; i < audit_process.lineage.count; i++)
                say_use(audit_process.lineage.forks[i], "child", descriptor->number, names[use], frames, count);
        }
        if (by_parent) {
            __atomic_store_n(&descriptor->told[use], last, __ATOMIC_RELAXED);
            unsigned from = told + 1 > descriptor->first ? told + 1 : descriptor->first;
            if (last - from >= 16) from = last - 15; // a server that forks for every request: the last few show it
            for (unsigned number = from; number <= last; number++)
                say_use((fork_name){audit_process.pid, number}, "parent", descriptor->number, names[use], frames, count);
        }
    }
    errno = saved;
    audit_leave();
}

static void say_goodbye(int fd, shared_descriptor *descriptor, const char *what, void *caller) {
    void *frames[STACK_DEEP];
    int count = stack_walk(caller, frames, STACK_DEEP, NULL);
    char detail[200], *at = text_copy(text_copy(detail, what), " on descriptor ");
    text_copy(text_number(at, fd), ", a connection that was open at the fork: the parent's ends with it");
    json *packet = connection_finding("goodbye-in-child", audit_process.lineage.forks[audit_process.lineage.count - 1], detail);
    if (!packet) return;
    json_number(packet, "fd", descriptor->number);
    json_stack(packet, "stack", frames, count);
    connection_end(packet);
}

void descriptor_written(int fd, const struct iovec *parts, size_t count, void *caller) {
    shared_descriptor *descriptor = descriptor_shared(fd);
    if (!descriptor) return;
    if (descriptor->ancestor && descriptor->socket) {
        unsigned char bytes[GOODBYE_SIZE];
        size_t size = 0, kept = 0;
        for (size_t i = 0; i < count; i++) {
            size_t room = GOODBYE_SIZE - kept, length = parts[i].iov_len;
            // The call itself fails where there is no such memory.
            if (!process_read_memory(bytes + kept, parts[i].iov_base, length < room ? length : room)) return;
            kept += length < room ? length : room;
            size += length;
        }
        const char *name = goodbye_name(bytes, size);
        if (name) {
            int saved = errno;
            if (!descriptor->said_goodbye && audit_enter()) {
                if (process_is_ours() && is_same(fd, descriptor)) {
                    descriptor->said_goodbye = true;
                    char what[64];
                    text_copy(text_copy(what, "says goodbye: "), name);
                    say_goodbye(fd, descriptor, what, caller);
                }
                audit_leave();
            }
            errno = saved;
            return;
        }
    }
    descriptor_used(fd, USE_WRITE, caller);
}

void descriptor_shut_down(int fd, void *caller) {
    shared_descriptor *descriptor = descriptor_shared(fd);
    if (!descriptor) return;
    if (!descriptor->ancestor) {
        descriptor_used(fd, USE_SHUTDOWN, caller);
        return;
    }
    struct sockaddr_storage peer;
    socklen_t length = sizeof peer;
    int saved = errno;
    if (!descriptor->said_goodbye && audit_enter()) {
        if (process_is_ours() && is_same(fd, descriptor) && getpeername(fd, (void *)&peer, &length) == 0) {
            descriptor->said_goodbye = true;
            say_goodbye(fd, descriptor, "calls shutdown", caller);
        }
        audit_leave();
    }
    errno = saved;
}

// ---- when they go, and when there are more ----

void descriptors_closed(int first, int last) {
    int saved = errno;
    for (int fd = first; fd <= last && fd < descriptors_end; fd++) {
        if (descriptor_shared(fd) && process_is_ours()) clear(&audit_descriptors[fd]);
    }
    errno = saved;
}

void descriptors_duplicated(int from, int to) {
    if (from == to || to < 0 || to >= DESCRIPTORS || !audit_on || (!descriptor_shared(from) && !descriptor_shared(to)) || !process_is_ours()) return;
    if (!descriptor_shared(from)) {
        clear(&audit_descriptors[to]);
        return;
    }
    audit_descriptors[to] = audit_descriptors[from];
    int end = __atomic_load_n(&descriptors_end, __ATOMIC_RELAXED);
    while (end <= to && !__atomic_compare_exchange_n(&descriptors_end, &end, to + 1, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
}
