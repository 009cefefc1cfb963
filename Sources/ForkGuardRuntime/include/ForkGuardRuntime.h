// ForkGuardRuntime: what a Swift process has locked and half done without its programmer's knowing, inside the gate.
//
// Linking the product is all there is to do: a constructor checks what it finds, switches on what it knows, and tells ForkGuard.runtimeSupport
// (forkguard_cures in C). `FORKGUARD_RUNTIME=off` in the environment keeps everything off, `FORKGUARD_RUNTIME=untested` takes a Swift runtime that it does not know.
//
// How: the calls by which the loaded objects reach the C library's locks, once-initialisations and futexes go through their tables of imports (the
// global offset table, ELF gABI, chapter 5). There each is led to a wrapper here that counts the section. See Sources/ForkGuardRuntime/imports.c for why there and not
// by a symbol of the same name, and Docs/decisions/runtime-imports.md.

#ifndef FORKGUARD_RUNTIME_H
#define FORKGUARD_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif

/// The cures, as a set.
enum forkguard_runtime_cures {
    FORKGUARD_RUNTIME_SWIFT = 1,   // the Swift runtime's locks and every once-initialisation
    FORKGUARD_RUNTIME_IDS = 2,     // cached thread ids, and futexes whose holder vanished
    FORKGUARD_RUNTIME_LIBC = 4,    // functions of the C library that take locks which fork() does not repair
    FORKGUARD_RUNTIME_FOUNDATION = 16, // CoreFoundation's spinlocks
    FORKGUARD_RUNTIME_DISPATCH = 32, // libdispatch, and with it Swift's executors and what Foundation does there
    FORKGUARD_RUNTIME_CONCURRENCY = 64, // tasks and actors of the parent that a child comes to
    FORKGUARD_RUNTIME_LOCKS = 8,   // all pthread mutexes, read-write locks and conditions of the process
};

/// Which cures are on.
uint32_t forkguard_runtime_cures(void);

/// Switches on FORKGUARD_RUNTIME_LOCKS; true if it is on now. Before there are other threads: a mutex that somebody holds meanwhile is not counted. The product
/// ForkGuardProcessLocks does it at start.
bool forkguard_runtime_guard_process_locks(void);

/// Looks for objects that were loaded since, which happens by itself after dlopen(3) with a path; returns how many imports were led through the gate. Any thread, not in
/// hooks.
size_t forkguard_runtime_rescan(void);

/// How many imports are led through the gate, and how long the start took, in nanoseconds of the processor's time.
size_t forkguard_runtime_imports(void);
uint64_t forkguard_runtime_start_nanoseconds(void);

/// Visits each function that a loaded object imports: the object's path ("" for the executable), the function's name, whether the object belongs to the Swift
/// runtime, and whether the import is led through the gate. Any thread, not in hooks; `visit` must not load or unload objects.
void forkguard_runtime_visit_imports(
    void (*visit)(const char *object, const char *name, bool runtime, bool led, void *context), void *context
);

/// A sum over the names of the functions that the Swift runtime exports, by which its version is told. 0 where it is linked statically, or not there.
uint64_t forkguard_runtime_fingerprint(void);

#if defined(__cplusplus)
}
#endif

#endif
