// Inside the product: the kernel objects of event loops.

#ifndef FORKGUARD_LOOPS_H
#define FORKGUARD_LOOPS_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>

#include "forkguard/base.h"

FORKGUARD_PRIVATE_BEGIN

extern int (*real_eventfd)(unsigned count, int flags);
extern int (*real_signalfd)(int descriptor, const sigset_t *signals, int flags);
extern int (*real_timerfd_create)(int clock, int flags);
extern int (*real_epoll_create1)(int flags);
extern int (*real_close)(int descriptor);

/// eventfd(2), signalfd(2), timerfd_create(2), epoll_create1(2) and close(2) of libdispatch and of CoreFoundation.
int gated_eventfd(unsigned count, int flags);
int gated_signalfd(int descriptor, const sigset_t *signals, int flags);
int gated_timerfd_create(int clock, int flags);
int gated_epoll_create1(int flags);
int gated_close(int descriptor);

/// Where libdispatch's code is. At start.
void loops_know_dispatch(uintptr_t begin, uintptr_t end);

/// In the child, on its only thread, after the C phases: makes CoreFoundation's anew, under their numbers, with the timers that were set and what was registered, and closes libdispatch's, but for
/// `kept`, which is made anew (-1: none).
void loops_renew(int kept);

FORKGUARD_PRIVATE_END

#endif
