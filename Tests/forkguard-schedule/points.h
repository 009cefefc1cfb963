// Included before every source of the library (gcc -include): each atomic access becomes a point at which the scheduler may let another
// thread go on, and
// what the library asks of the system goes to the scheduler. The sources themselves are compiled as they are.

#ifndef POINTS_H
#define POINTS_H

// First whatever the sources include, which is not to see the macros below.
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "scheduler.h"

// The threads are the scheduler's; so it copies what is local to one, by section, in and out.
#define _Thread_local __attribute__((section("thread_locals")))
#define tls_model(model) unused

// Each schedule starts the library anew.
#define constructor unused

// A count may stay in its thread's store buffer; who takes what last is a hint that nothing depends on.
#define IS_COUNT(expression) (__builtin_strstr(expression, "->held") != NULL)
#define IS_HINT(expression) (__builtin_strstr(expression, "->locks[") != NULL)
// A walk over the slots would be a long row of points at which nothing can change: slots that are nobody's are passed by.
#define IS_SLOT(expression) (__builtin_strstr(expression, "slots[i].serial") != NULL)
#define POINT(address) scheduler_point(__func__, __LINE__, address)

#define __atomic_load_n(address, order)                                                                                   \
    ({                                                                                                                    \
        __typeof__(address) at_ = (address);                                                                              \
        if (!IS_SLOT(#address) || *at_ != 0) POINT(at_);                                                                  \
        __auto_type loaded_ = __atomic_load_n(at_, order);                                                                \
        IS_COUNT(#address) ? (__typeof__(loaded_))scheduler_visible_count(at_, (uintptr_t)loaded_) : loaded_;             \
    })
#define __atomic_store_n(address, value, order)                                                                           \
    do {                                                                                                                  \
        __typeof__(address) at_ = (address);                                                                              \
        __typeof__(*at_) stored_ = (value);                                                                               \
        POINT(at_);                                                                                                       \
        if (IS_COUNT(#address) && (order) != __ATOMIC_SEQ_CST) scheduler_delay((uint32_t *)(uintptr_t)at_);               \
        else if (!IS_HINT(#address)) scheduler_flush();                                                                   \
        __atomic_store_n(at_, stored_, order);                                                                            \
    } while (0)
#define __atomic_compare_exchange_n(address, expected, wanted, weak, success, failure)                                    \
    ({                                                                                                                    \
        __typeof__(address) at_ = (address);                                                                              \
        __typeof__(*at_) wanted_ = (wanted);                                                                              \
        __typeof__(expected) expected_ = (expected);                                                                      \
        POINT(at_);                                                                                                       \
        scheduler_flush();                                                                                                \
        __atomic_compare_exchange_n(at_, expected_, wanted_, weak, success, failure);                                     \
    })
#define CHANGE_(operation, address, value, order)                                                                         \
    ({                                                                                                                    \
        __typeof__(address) at_ = (address);                                                                              \
        __typeof__(*at_) value_ = (value);                                                                                \
        POINT(at_);                                                                                                       \
        scheduler_flush();                                                                                                \
        operation(at_, value_, order);                                                                                    \
    })
#define __atomic_exchange_n(address, value, order) CHANGE_(__atomic_exchange_n, address, value, order)
#define __atomic_fetch_add(address, value, order) CHANGE_(__atomic_fetch_add, address, value, order)
#define __atomic_fetch_sub(address, value, order) CHANGE_(__atomic_fetch_sub, address, value, order)
#define __atomic_add_fetch(address, value, order) CHANGE_(__atomic_add_fetch, address, value, order)
#define __atomic_and_fetch(address, value, order) CHANGE_(__atomic_and_fetch, address, value, order)
#define __atomic_or_fetch(address, value, order) CHANGE_(__atomic_or_fetch, address, value, order)
#define __atomic_thread_fence(order)                                                                                      \
    do {                                                                                                                  \
        POINT(NULL);                                                                                                      \
        if ((order) == __ATOMIC_SEQ_CST) scheduler_flush();                                                               \
        __atomic_thread_fence(order);                                                                                     \
    } while (0)

#define __builtin_ia32_pause() scheduler_pause()

#define fork process_fork
#define getpid() process_id()
#define getppid() 1
#define write(descriptor, text, size) process_write(text, size)
#define malloc(size) process_allocate(size)
#define calloc(count, size) process_allocate((count) * (size))
#define realloc(memory, size) process_reallocate(memory, size)
#define free(memory) ((void)(memory))
#define clock_gettime(clock, time) process_clock(time)
#define pthread_key_create(key, destroy) thread_key_create(key, destroy)
#define pthread_setspecific(key, value) thread_set_specific(value)
#define pthread_setcancelstate(state, before) ((void)(state), *(before) = 0)
#define pthread_mutex_trylock mutex_try
#define pthread_mutex_timedlock mutex_wait_until
#define pthread_mutex_unlock mutex_unlock

#endif
