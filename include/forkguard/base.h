// What every ForkGuard header needs: nothing but annotations.

#ifndef FORKGUARD_BASE_H
#define FORKGUARD_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// FORKGUARD_BUILDS is defined where the library itself is compiled. A process may have several copies of it, one in each object that was linked with it; each calls its own
// functions and reads its own variables, whatever the dynamic linker finds first by the same names: else it would be half one copy, half the other. (copy.h has what they do
// about each other.) Darwin's two-level names do that by themselves.
#if defined(FORKGUARD_BUILDS) && defined(__ELF__)
#if defined(FORKGUARD_PRELOAD)
#define FORKGUARD_VISIBLE _Pragma("GCC visibility push(hidden)") // its copy is for nobody else
#else
#define FORKGUARD_VISIBLE _Pragma("GCC visibility push(protected)")
#endif
#define FORKGUARD_PRIVATE_BEGIN _Pragma("GCC visibility push(hidden)")
#define FORKGUARD_VISIBILITY_END _Pragma("GCC visibility pop")
#else
#define FORKGUARD_VISIBLE
#define FORKGUARD_PRIVATE_BEGIN
#define FORKGUARD_VISIBILITY_END
#endif
#define FORKGUARD_PRIVATE_END FORKGUARD_VISIBILITY_END

#if defined(__cplusplus)
#define FORKGUARD_BEGIN FORKGUARD_VISIBLE extern "C" {
#define FORKGUARD_END } FORKGUARD_VISIBILITY_END
#define FORKGUARD_THREAD_LOCAL thread_local
#else
#define FORKGUARD_BEGIN FORKGUARD_VISIBLE
#define FORKGUARD_END FORKGUARD_VISIBILITY_END
#define FORKGUARD_THREAD_LOCAL _Thread_local
#endif

// FreeBSD's pthread_mutex_t is itself a pointer, for which there is no place to say it.
#if defined(__clang__) && !defined(__FreeBSD__)
#define FORKGUARD_NONNULL _Nonnull
#define FORKGUARD_NULLABLE _Nullable
#else
#define FORKGUARD_NONNULL
#define FORKGUARD_NULLABLE
#endif

// Who links the shared library, with FORKGUARD_SHARED defined (its pkg-config file and its CMake package do), calls functions where others have them inline: what those know of the
// library's variables would bind a program to one version of it. The library has these functions from inlines.c.
#if defined(FORKGUARD_SHARED) && !defined(FORKGUARD_BUILDS)
#define FORKGUARD_INLINE extern
#define FORKGUARD_BODY(...) ;
#elif defined(FORKGUARD_EMITS_INLINES)
#define FORKGUARD_INLINE extern
#define FORKGUARD_BODY(...) __VA_ARGS__
#else
#define FORKGUARD_INLINE static inline __attribute__((always_inline))
#define FORKGUARD_BODY(...) __VA_ARGS__
#endif
#define FORKGUARD_LIKELY(x) __builtin_expect(!!(x), 1)

#endif
