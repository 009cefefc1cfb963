// The calls that read, write or otherwise use a descriptor.

#include "descriptors.h"

#include <errno.h>
#include <linux/close_range.h>

// A farewell counts before it is said: the peer may close, and the process end, before anything can be said after it.
static void written(int fd, const void *bytes, size_t size, void *caller) {
    if (UNLIKELY(descriptor_shared(fd) != NULL)) descriptor_written(fd, &(struct iovec){(void *)(uintptr_t)bytes, size}, 1, caller);
}

static void written_message(int fd, const struct msghdr *message, void *caller) {
    if (UNLIKELY(descriptor_shared(fd) != NULL)) descriptor_written(fd, message->msg_iov, message->msg_iovlen, caller);
}

EXPORT ssize_t read(int fd, void *buffer, size_t size) {
    USED(fd, USE_READ, CALLER);
    return REAL(read)(fd, buffer, size);
}

EXPORT ssize_t __read_chk(int fd, void *buffer, size_t size, size_t room) {
    USED(fd, USE_READ, CALLER);
    return REAL(__read_chk)(fd, buffer, size, room);
}

EXPORT ssize_t readv(int fd, const struct iovec *parts, int count) {
    USED(fd, USE_READ, CALLER);
    return REAL(readv)(fd, parts, count);
}

EXPORT ssize_t recv(int fd, void *buffer, size_t size, int flags) {
    USED(fd, USE_READ, CALLER);
    return REAL(recv)(fd, buffer, size, flags);
}

EXPORT ssize_t __recv_chk(int fd, void *buffer, size_t size, size_t room, int flags) {
    USED(fd, USE_READ, CALLER);
    return REAL(__recv_chk)(fd, buffer, size, room, flags);
}

EXPORT ssize_t recvfrom(int fd, void *restrict buffer, size_t size, int flags, struct sockaddr *restrict from, socklen_t *restrict length) {
    USED(fd, USE_READ, CALLER);
    return REAL(recvfrom)(fd, buffer, size, flags, from, length);
}

EXPORT ssize_t __recvfrom_chk(int fd, void *buffer, size_t size, size_t room, int flags, struct sockaddr *from, socklen_t *length) {
    USED(fd, USE_READ, CALLER);
    return REAL(__recvfrom_chk)(fd, buffer, size, room, flags, from, length);
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
    USED(fd, USE_READ, CALLER);
    return REAL(recvmsg)(fd, message, flags);
}

EXPORT int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *timeout) {
    USED(fd, USE_READ, CALLER);
    return REAL(recvmmsg)(fd, messages, count, flags, timeout);
}

EXPORT ssize_t write(int fd, const void *buffer, size_t size) {
    written(fd, buffer, size, CALLER);
    return REAL(write)(fd, buffer, size);
}

EXPORT ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (UNLIKELY(descriptor_shared(fd) != NULL) && count > 0) descriptor_written(fd, parts, (size_t)count, CALLER);
    return REAL(writev)(fd, parts, count);
}

EXPORT ssize_t send(int fd, const void *buffer, size_t size, int flags) {
    written(fd, buffer, size, CALLER);
    return REAL(send)(fd, buffer, size, flags);
}

EXPORT ssize_t sendto(int fd, const void *buffer, size_t size, int flags, const struct sockaddr *to, socklen_t length) {
    written(fd, buffer, size, CALLER);
    return REAL(sendto)(fd, buffer, size, flags, to, length);
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    written_message(fd, message, CALLER);
    return REAL(sendmsg)(fd, message, flags);
}

EXPORT int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags) {
    if (count > 0) written_message(fd, &messages[0].msg_hdr, CALLER);
    return REAL(sendmmsg)(fd, messages, count, flags);
}

EXPORT ssize_t sendfile(int to, int from, off_t *offset, size_t count) {
    USED(to, USE_WRITE, CALLER);
    if (!offset) USED(from, USE_READ, CALLER);
    return REAL(sendfile)(to, from, offset, count);
}

EXPORT ssize_t sendfile64(int to, int from, off64_t *offset, size_t count) {
    USED(to, USE_WRITE, CALLER);
    if (!offset) USED(from, USE_READ, CALLER);
    return REAL(sendfile64)(to, from, offset, count);
}

// Asking where it stands moves nothing.
static void sought(int fd, int64_t offset, int whence, void *caller) {
    if (offset != 0 || whence != SEEK_CUR) USED(fd, USE_SEEK, caller);
}

EXPORT off_t lseek(int fd, off_t offset, int whence) {
    sought(fd, offset, whence, CALLER);
    return REAL(lseek)(fd, offset, whence);
}

EXPORT off64_t lseek64(int fd, off64_t offset, int whence) {
    sought(fd, offset, whence, CALLER);
    return REAL(lseek64)(fd, offset, whence);
}

EXPORT int shutdown(int fd, int how) {
    if (UNLIKELY(descriptor_shared(fd) != NULL)) descriptor_shut_down(fd, CALLER);
    return REAL(shutdown)(fd, how);
}

EXPORT int epoll_ctl(int set, int operation, int fd, struct epoll_event *event) {
    USED(set, USE_EPOLL_CTL, CALLER);
    return REAL(epoll_ctl)(set, operation, fd, event);
}

EXPORT int epoll_wait(int set, struct epoll_event *events, int count, int timeout) {
    USED(set, USE_EPOLL_WAIT, CALLER);
    return REAL(epoll_wait)(set, events, count, timeout);
}

EXPORT int epoll_pwait(int set, struct epoll_event *events, int count, int timeout, const sigset_t *mask) {
    USED(set, USE_EPOLL_WAIT, CALLER);
    return REAL(epoll_pwait)(set, events, count, timeout, mask);
}

EXPORT int epoll_pwait2(int set, struct epoll_event *events, int count, const struct timespec *timeout, const sigset_t *mask) {
    USED(set, USE_EPOLL_WAIT, CALLER);
    return REAL(epoll_pwait2)(set, events, count, timeout, mask);
}

// Forgotten before it is closed: right after, another thread may have the number.
EXPORT int close(int fd) {
    if (UNLIKELY(descriptor_shared(fd) != NULL)) descriptors_closed(fd, fd);
    return REAL(close)(fd);
}

EXPORT int close_range(unsigned first, unsigned last, int flags) {
    bool now = !(flags & (int)CLOSE_RANGE_CLOEXEC);
    if (audit_on && now && first < DESCRIPTORS) descriptors_closed((int)first, last < DESCRIPTORS ? (int)last : DESCRIPTORS - 1);
    return REAL(close_range)(first, last, flags);
}

EXPORT void closefrom(int first) {
    if (audit_on) descriptors_closed(first < 0 ? 0 : first, DESCRIPTORS - 1);
    REAL(closefrom)(first);
}

static int duplicated(int from, int to) {
    int saved = errno;
    if (to >= 0) descriptors_duplicated(from, to);
    errno = saved;
    return to;
}

EXPORT int dup(int fd) { return duplicated(fd, REAL(dup)(fd)); }
EXPORT int dup2(int fd, int to) { return duplicated(fd, REAL(dup2)(fd, to)); }
EXPORT int dup3(int fd, int to, int flags) { return duplicated(fd, REAL(dup3)(fd, to, flags)); }

// Whatever its third argument is, it comes in a register.
#define FCNTL(name) \
    EXPORT int name(int fd, int command, ...) { \
        va_list arguments; \
        va_start(arguments, command); \
        void *argument = va_arg(arguments, void *); \
        va_end(arguments); \
        int result = REAL(name)(fd, command, argument); \
        return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? duplicated(fd, result) : result; \
    }
FCNTL(fcntl)
FCNTL(fcntl64)
