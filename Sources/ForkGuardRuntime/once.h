// Inside the product: initialisations that happen once.

#ifndef FORKGUARD_RUNTIME_ONCE_H
#define FORKGUARD_RUNTIME_ONCE_H

#include <stdint.h>

#include "forkguard/base.h"

FORKGUARD_PRIVATE_BEGIN

typedef struct real_onces {
    void (*swift_once)(long *, void (*)(void *), void *);
    void (*dispatch_once_f)(long *, void *, void (*)(void *));
    void (*dispatch_once)(long *, void *);
    int (*cxa_guard_acquire)(int64_t *);
    void (*cxa_guard_release)(int64_t *);
    void (*cxa_guard_abort)(int64_t *);
} real_onces;

extern real_onces real_once;

void gated_swift_once(long *token, void (*initialize)(void *), void *context);
void gated_dispatch_once_f(long *token, void *context, void (*initialize)(void *));
void gated_dispatch_once(long *token, void *block);
int gated_cxa_guard_acquire(int64_t *guard);
void gated_cxa_guard_release(int64_t *guard);
void gated_cxa_guard_abort(int64_t *guard);

/// The guard that the calling thread is acquiring, or NULL.
const void *once_guard(void);

/// The lock word of the innermost swift_once that the calling thread is in, or NULL.
const int32_t *once_word(void);

FORKGUARD_PRIVATE_END

#endif
