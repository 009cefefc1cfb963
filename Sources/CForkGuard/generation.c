// Which process is this?
//
// Three ways to know, and each works alone.
//
// Handlers. pthread_atfork's child handler runs in every child that libc's fork() makes. It counts the generation up.
//
// A wiped page. `_Fork`, `syscall(SYS_fork)`, `clone` and `clone3` run no handler. But the kernel can hand a child a page of zeros in
// place of the parent's (madvise(2) MADV_WIPEONFORK, Linux 4.14; minherit(2) INHERIT_ZERO, FreeBSD 12; Darwin has none), whichever call made it. We keep
// on it everything whose loss is the news: the generation, the gate's word, and how far this discovery has come. A question finds 0 and takes
// the slow way here. The page is static, so its address is a constant and a question is one load; vfork and CLONE_VM children share
// memory with their parent, so nothing is wiped and nothing changes, which is right: they *are* the parent as far as memory goes.
//
// The process id. Where there is no such page the generation on it stays 0 for ever: every question comes here and compares getpid().
// That costs a system call (about 115 ns) and is wrong in one case: a child that gets its grandparent's id, across a pid namespace or
// after the ids have gone around. There a vfork child does have another id in the same memory: it is asked for with kcmp(2).
//
// The discovery has a state of its own on the wiped page, so that threads of the child which look at once agree: one does the child's C
// phases, the others wait for it. If that thread vanishes in yet another fork, the page is wiped again and the state with it. Without the page the
// state carries the process id instead, and one that belongs to another process counts as none.

#include "generation.h"

#include "copy.h"

#include "atfork.h"
#include "forkguard/atfork.h"
#include "platform/platform.h"

#include <limits.h>
#include <unistd.h>

forkguard_process_page forkguard_page __attribute__((aligned(FORKGUARD_PAGE_SIZE)));

enum { DISCOVERY_UNKNOWN = 0, DISCOVERY_UNDERWAY = 1, DISCOVERY_DONE = 2, DISCOVERY_MASK = 3, DISCOVERY_PID_SHIFT = 2 };

static struct {
    uint64_t generation; // the last one that this memory has seen: ordinary memory, so a child finds its parent's
    int32_t pid;         // whose it was
    unsigned detection;
} known;

unsigned forkguard_detection(void) {
    FOLLOW(detection);
    forkguard_start();
    return known.detection;
}

bool generation_has_page(void) { return known.detection & FORKGUARD_DETECTS_PAGE; }

// With the page a state needs no owner: another process's would have been wiped.
static uint32_t discovery_tag(void) { return generation_has_page() ? 0 : (uint32_t)getpid() << DISCOVERY_PID_SHIFT; }

void generation_start(bool handlers) {
    known.detection = handlers ? FORKGUARD_DETECTS_HANDLERS : 0;
    known.detection |= platform_wipe_on_fork(&forkguard_page, sizeof forkguard_page) ? FORKGUARD_DETECTS_PAGE : FORKGUARD_DETECTS_PID;
    known.generation = 1;
    known.pid = getpid();
    __atomic_store_n(&forkguard_page.word.discovery, discovery_tag() | DISCOVERY_DONE, __ATOMIC_RELEASE);
    generation_publish();
}

void generation_publish(void) {
    if (generation_has_page()) __atomic_store_n(&forkguard_page.word.generation, __atomic_load_n(&known.generation, __ATOMIC_RELAXED), __ATOMIC_RELEASE);
}

int32_t generation_process(void) { return known.pid; }

uint64_t generation_known(void) { return __atomic_load_n(&known.generation, __ATOMIC_RELAXED); }

void generation_child(bool owed) {
    __atomic_store_n(&known.generation, generation_known() + 1, __ATOMIC_RELEASE);
    known.pid = getpid();
    __atomic_store_n(&forkguard_page.word.discovery, discovery_tag() | DISCOVERY_DONE, __ATOMIC_RELEASE);
    if (!owed) generation_publish();
}

bool generation_is_known(void) {
    return __atomic_load_n(&forkguard_page.word.discovery, __ATOMIC_ACQUIRE) == (discovery_tag() | DISCOVERY_DONE);
}

void generation_discover(void) {
    if (!generation_has_page()) {
        int32_t pid = getpid();
        if (pid == __atomic_load_n(&known.pid, __ATOMIC_ACQUIRE) || platform_shares_memory_with(known.pid)) return;
    }
    uint32_t *state = &forkguard_page.word.discovery;
    uint32_t tag = discovery_tag();
    for (;;) {
        uint32_t seen = __atomic_load_n(state, __ATOMIC_ACQUIRE);
        if (seen == (tag | DISCOVERY_DONE)) return;
        if (seen == (tag | DISCOVERY_UNDERWAY)) {
            platform_wait(state, seen, PLATFORM_FOREVER);
        } else if (__atomic_compare_exchange_n(state, &seen, tag | DISCOVERY_UNDERWAY, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
            atfork_discovered(); // ends with generation_child, which sets the state to done
            platform_wake(state, INT_MAX);
            return;
        }
    }
}

uint64_t forkguard_generation_slow(void) {
    FOLLOW(generation_slow);
    forkguard_start();
    generation_discover();
    atfork_run_owed_hooks();
    return __atomic_load_n(&known.generation, __ATOMIC_ACQUIRE);
}
