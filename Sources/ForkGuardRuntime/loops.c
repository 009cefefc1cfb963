// The kernel objects of event loops: epoll instances, eventfds and timerfds that libdispatch and CoreFoundation keep to themselves.
//
// After a fork both processes have the same ones. A child that sets "its" timer sets the parent's; one that reads "its" wake-up takes the parent's away; what it adds to an epoll
// instance wakes the parent up (epoll(7), "Questions and answers", 6). So a child makes them anew, under the same numbers, which are in memory that nobody
// else understands. The parent's are not touched: closing a descriptor takes nothing out of an epoll instance that another process still has open.

#include "loops.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

int (*real_eventfd)(unsigned, int);
int (*real_signalfd)(int, const sigset_t *, int);
int (*real_timerfd_create)(int, int);
int (*real_epoll_create1)(int);
int (*real_close)(int);

enum kind { NOTHING, EVENT, TIMER_MONOTONIC, TIMER_REALTIME, TIMER_BOOTTIME, SIGNAL, EPOLL, OF_DISPATCH = 0x80 };

static uintptr_t dispatch, dispatch_end;

// By number. Those beyond are not known, and stay shared.
#define MOST 65536
static struct {
    uint8_t kind[MOST];
    int last;
} made = {.last = -1};

void loops_know_dispatch(uintptr_t begin, uintptr_t end) {
    dispatch = begin;
    dispatch_end = end;
}

static int note(int descriptor, unsigned kind, const void *maker) {
    if (descriptor < 0 || descriptor >= MOST) return descriptor;
    if ((uintptr_t)maker >= dispatch && (uintptr_t)maker < dispatch_end) kind |= OF_DISPATCH;
    __atomic_store_n(&made.kind[descriptor], (uint8_t)kind, __ATOMIC_RELAXED);
    int last = __atomic_load_n(&made.last, __ATOMIC_RELAXED);
    while (descriptor > last && !__atomic_compare_exchange_n(&made.last, &last, descriptor, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
    return descriptor;
}

int gated_eventfd(unsigned count, int flags) { return note(real_eventfd(count, flags), EVENT, __builtin_return_address(0)); }

int gated_signalfd(int descriptor, const sigset_t *signals, int flags) { return note(real_signalfd(descriptor, signals, flags), SIGNAL, __builtin_return_address(0)); }

int gated_timerfd_create(int clock, int flags) {
    enum kind kind = clock == CLOCK_MONOTONIC ? TIMER_MONOTONIC : clock == CLOCK_REALTIME ? TIMER_REALTIME : TIMER_BOOTTIME;
    return note(real_timerfd_create(clock, flags), kind, __builtin_return_address(0));
}

int gated_epoll_create1(int flags) { return note(real_epoll_create1(flags), EPOLL, __builtin_return_address(0)); }

int gated_close(int descriptor) {
    // Before it is closed: after it the number may be another thread's already.
    if (descriptor >= 0 && descriptor < MOST) __atomic_store_n(&made.kind[descriptor], NOTHING, __ATOMIC_RELAXED);
    return real_close(descriptor);
}

// Whether the number still is what was noted: somebody else may have closed it, and opened another thing.
static bool is_still(int descriptor, enum kind kind) {
    char path[64], text[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(path, text, sizeof text - 1);
    if (length < 0) return false;
    text[length] = 0;
    return strcmp(text, kind == EPOLL ? "anon_inode:[eventpoll]" : kind == EVENT ? "anon_inode:[eventfd]" : kind == SIGNAL ? "anon_inode:[signalfd]" : "anon_inode:[timerfd]") == 0;
}

// The copy is closed before there is another: with no number free it would stay, and be the parent's. With none, its place is empty, and the loop deaf.
static int closing(int number) {
    int flags = fcntl(number, F_GETFD) & FD_CLOEXEC ? O_CLOEXEC : 0;
    close(number);
    return flags;
}

static void put_under(int fresh, int number, int flags) {
    if (fresh < 0) return;
    if (fresh == number) {
        fcntl(number, F_SETFD, flags ? FD_CLOEXEC : 0);
        return;
    }
    dup3(fresh, number, flags);
    close(fresh);
}

// Expired or written to, and not read yet.
static bool is_pending(int number) { return poll(&(struct pollfd){.fd = number, .events = POLLIN}, 1, 0) > 0; }

// One wake-up too many does no harm to a run loop.
static void renew_event(int number) {
    bool pending = is_pending(number), blocks = !(fcntl(number, F_GETFL) & O_NONBLOCK);
    int flags = closing(number);
    put_under(real_eventfd(pending, blocks ? 0 : EFD_NONBLOCK), number, flags);
}

static void renew_timer(int number, enum kind kind) {
    struct itimerspec left = {0};
    int clock = kind == TIMER_MONOTONIC ? CLOCK_MONOTONIC : kind == TIMER_REALTIME ? CLOCK_REALTIME : CLOCK_BOOTTIME;
    bool blocks = !(fcntl(number, F_GETFL) & O_NONBLOCK);
    timerfd_gettime(number, &left);
    // It has expired, and was read or not. Who set it counts on what follows, and may be gone: a new thread may have its pthread_t, and by that its run loop, which would not set it
    // again. One expiry too many does no harm: a run loop looks which of its timers are due, and sets it for the next.
    if (left.it_value.tv_sec == 0 && left.it_value.tv_nsec == 0) left.it_value.tv_nsec = 1;
    int flags = closing(number);
    int fresh = real_timerfd_create(clock, blocks ? 0 : TFD_NONBLOCK);
    timerfd_settime(fresh, 0, &left, NULL);
    put_under(fresh, number, flags);
}

// proc_pid_fdinfo(5): a line "tfd: %d events: %x data: %llx" for each descriptor that is registered. Run loops register a handful.
static void renew_epoll(int number) {
    static char text[16384];
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", number);
    int registered = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = registered < 0 ? 0 : read(registered, text, sizeof text - 1);
    if (registered >= 0) close(registered);
    text[length > 0 ? length : 0] = 0;
    int flags = closing(number);
    int fresh = real_epoll_create1(0), descriptor;
    unsigned events;
    unsigned long long data;
    for (const char *line = strstr(text, "tfd:"); line; line = strstr(line + 1, "tfd:"))
        if (sscanf(line, "tfd: %d events: %x data: %llx", &descriptor, &events, &data) == 3)
            epoll_ctl(fresh, EPOLL_CTL_ADD, descriptor, &(struct epoll_event){.events = events, .data.u64 = data}); // may be closed by now
    put_under(fresh, number, flags);
}

// A child that clone(2) made with CLONE_FILES has no copies: whatever it closes the parent has no more. A pipe of its own is in the parent's table, too, then. Where that cannot be looked at
// nothing is known, and nothing is closed.
static bool shares_descriptors(void) {
    int ends[2];
    char path[64], own[64] = "", parents[64] = "";
    if (pipe2(ends, O_CLOEXEC) != 0) return false; // with no number free, a fork(2) that ran its handlers
    snprintf(path, sizeof path, "/proc/self/fd/%d", ends[0]);
    ssize_t length = readlink(path, own, sizeof own - 1);
    snprintf(path, sizeof path, "/proc/%d/fd/%d", getppid(), ends[0]);
    ssize_t other = readlink(path, parents, sizeof parents - 1);
    bool unknown = length < 0 || (other < 0 && errno != ENOENT);
    close(ends[0]);
    close(ends[1]);
    return unknown || strcmp(own, parents) == 0;
}

void loops_renew(int kept) {
    if (made.last < 0 || shares_descriptors()) return;
    // What is registered in an epoll instance comes before the instance.
    for (unsigned pass = 0; pass < 2; pass++)
        for (int i = 0; i <= made.last; i++) {
            enum kind kind = made.kind[i] & ~OF_DISPATCH;
            if (kind == NOTHING || (kind == EPOLL) != (pass == 1)) continue;
            bool forgotten = (made.kind[i] & OF_DISPATCH) && i != kept;
            bool still = is_still(i, kind);
            if (!still || forgotten) made.kind[i] = NOTHING;
            if (!still) continue;
            if (forgotten) close(i);
            else if (kind == EPOLL) renew_epoll(i);
            else if (kind == EVENT) renew_event(i);
            else renew_timer(i, kind);
        }
}
