// Locks whose holder is gone: the gate could not wait for it (the deadline was over), or was not asked (an inlined lock, or a fork that ran no handlers).

#include "ghosts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "forkguard.h"

static bool torn_waits;

void torn_start(void) {
    const char *asked = getenv("FORKGUARD_TORN");
    torn_waits = asked && strcmp(asked, "wait") == 0;
    if (asked && *asked && !torn_waits && strcmp(asked, "refuse") != 0)
        fprintf(stderr, "ForkGuard: FORKGUARD_TORN is '%s', which is neither 'refuse' nor 'wait'; it is ignored\n", asked);
}

bool torn_is_refused(void) { return !torn_waits; }

enum holder holder_of(int32_t thread_id, int32_t *now) {
    int32_t ids[FORKGUARD_SURVIVOR_IDS];
    if (!forkguard_thread_vanished(thread_id)) return HOLDER_LIVES;
    size_t count = forkguard_survivor_ids(ids, FORKGUARD_SURVIVOR_IDS, now);
    for (size_t i = 0; i < count; i++)
        if (ids[i] == thread_id) return HOLDER_SURVIVED;
    return HOLDER_VANISHED;
}

static char *add(char *to, const char *text) {
    while (*text) *to++ = *text++;
    return to;
}

static char *add_number(char *to, uint64_t number, unsigned base) {
    char digits[24];
    unsigned count = 0;
    do digits[count++] = "0123456789abcdef"[number % base];
    while ((number /= base) != 0);
    while (count) *to++ = digits[--count];
    return to;
}

void refuse_torn(const char *kind, const void *lock, int32_t thread_id) {
    char text[256], *end = add(text, kind);
    end = add(end, " at 0x");
    end = add_number(end, (uintptr_t)lock, 16);
    end = add(end, " was held by thread ");
    end = add_number(end, (uint32_t)thread_id, 10);
    end = add(end, " of the parent, which did not survive the fork: what it protects may be half changed");
    *end = 0;
    forkguard_trap_misuse(NULL, text, "protect what a child uses with ForkMutex, whose holders a fork waits for, or do not touch it in a child");
}
