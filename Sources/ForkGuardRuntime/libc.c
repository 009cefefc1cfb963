// Functions of the C library as gated sections.
//
// What they hold inside cannot be seen from here, so the whole call is the section. A look-up that waits for a name server holds up a fork until it is answered, or until the
// deadline; then the child goes without, and is told.

#include "libc.h"

#include <dlfcn.h>
#include <string.h>

#include "ForkGuardRuntime.h"
#include "forkguard.h"

// All six words that a call may have in registers are passed on, and the one that comes back (System V ABI for x86-64, 3.2.3; AAPCS64, 6.8).
#define GATED(NAME) \
    static void *real_##NAME; \
    static word gated_##NAME(word a, word b, word c, word d, word e, word f) { \
        forkguard_slot *slot = forkguard_section_begin(); \
        word result = ((word(*)(word, word, word, word, word, word))real_##NAME)(a, b, c, d, e, f); \
        if (slot) forkguard_section_end(slot); \
        return result; \
    }
LIBC_CALLS(GATED)

// One word more than the others.
static int (*real_getnameinfo)(const void *, unsigned, char *, unsigned, char *, unsigned, int);

static int gated_getnameinfo(const void *address, unsigned size, char *host, unsigned host_size, char *service, unsigned service_size, int flags) {
    forkguard_slot *slot = forkguard_section_begin();
    int result = real_getnameinfo(address, size, host, host_size, service, service_size, flags);
    if (slot) forkguard_section_end(slot);
    return result;
}

static void *(*real_dlopen)(const char *, int);
static int (*real_dlclose)(void *);

// A jump, not a call. Compilers without the attribute make it one when they optimise.
#if __has_attribute(musttail)
#define TAIL __attribute__((musttail))
#else
#define TAIL
#endif

// Loads, then leads what was loaded through the gate. Without a path the dynamic linker looks where the caller's object says (DT_RUNPATH), and finds out who the caller is by where
// it returns to: so that call may not be made from here.
static void *gated_dlopen(const char *path, int flags) {
    if (path && (!strchr(path, '/') || strchr(path, '$'))) TAIL return real_dlopen(path, flags);
    forkguard_slot *slot = forkguard_section_begin();
    void *library = real_dlopen(path, flags);
    if (slot) forkguard_section_end(slot);
    if (path && library && !(flags & RTLD_NOLOAD)) forkguard_runtime_rescan();
    return library;
}

static int gated_dlclose(void *library) {
    forkguard_slot *slot = forkguard_section_begin();
    int result = real_dlclose(library);
    if (slot) forkguard_section_end(slot);
    return result;
}

#define IMPORT(NAME) {#NAME, FROM_LIBC, (void *)gated_##NAME, &real_##NAME, FORKGUARD_RUNTIME_LIBC, 0, false},
const import libc_imports[] = {
    LIBC_CALLS(IMPORT)
    {"getnameinfo", FROM_LIBC, (void *)gated_getnameinfo, (void **)&real_getnameinfo, FORKGUARD_RUNTIME_LIBC, 0, false},
    {"dlopen", FROM_LIBC, (void *)gated_dlopen, (void **)&real_dlopen, FORKGUARD_RUNTIME_LIBC, 0, false},
    {"dlclose", FROM_LIBC, (void *)gated_dlclose, (void **)&real_dlclose, FORKGUARD_RUNTIME_LIBC, 0, false},
};
const size_t libc_imports_count = sizeof libc_imports / sizeof *libc_imports;
