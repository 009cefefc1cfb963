// What every ForkGuard header needs: nothing but annotations.

#ifndef FORKGUARD_BASE_H
#define FORKGUARD_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#if defined(__cplusplus)
#define FORKGUARD_BEGIN extern "C" {
#define FORKGUARD_END }
#define FORKGUARD_THREAD_LOCAL thread_local
#else
#define FORKGUARD_BEGIN
#define FORKGUARD_END
#define FORKGUARD_THREAD_LOCAL _Thread_local
#endif

#if defined(__clang__)
#define FORKGUARD_NONNULL _Nonnull
#define FORKGUARD_NULLABLE _Nullable
#else
#define FORKGUARD_NONNULL
#define FORKGUARD_NULLABLE
#endif

#define FORKGUARD_INLINE static inline __attribute__((always_inline))
#define FORKGUARD_LIKELY(x) __builtin_expect(!!(x), 1)

#endif
