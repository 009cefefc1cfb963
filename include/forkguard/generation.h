// Which process is this?
//
// A generation is a number that a process can compare with the one it remembered: if they differ, it is a forked child
// of the process that remembered, and what that process had open is not its own. It is one more than the parent's after
// a fork that libc saw, and different from every generation in inherited memory after any other fork. It is never 0.

#ifndef FORKGUARD_GENERATION_H
#define FORKGUARD_GENERATION_H

#include "base.h"

FORKGUARD_BEGIN

#if defined(__aarch64__) || defined(__powerpc64__) || defined(__loongarch__)
#define FORKGUARD_PAGE_SIZE 65536 // the largest page these kernels are built with
#else
#define FORKGUARD_PAGE_SIZE 4096
#endif

/// The page that the kernel wipes in a child (madvise(2), MADV_WIPEONFORK, Linux 4.14). Everything in it is 0 in a child that has not
/// looked yet, whichever system call made it. It has a fixed address, so that a question costs one load.
///
/// Where no such page can be had, `generation` stays 0, every question takes the slow way and compares process ids there.
typedef union forkguard_process_page {
    struct {
        uint64_t generation; // 0: not known here, ask forkguard_generation_slow
        uint32_t gate;       // enum forkguard_gate; 0: not known here
        uint32_t discovery;  // how far the late discovery is (generation.c)
        uint32_t gate_event; // counts what the forker waits for while the gate is closed
    } word;
    unsigned char whole[FORKGUARD_PAGE_SIZE];
} forkguard_process_page;

extern forkguard_process_page forkguard_page;

/// The slow way of `forkguard_generation`: starts the library, discovers a fork that ran no handlers, runs hooks that are owed.
/// Any thread, any side of a fork, also inside hooks. Not async-signal-safe when hooks are owed.
uint64_t forkguard_generation_slow(void);

/// The generation of this process. One load and one compare. Any thread, any side of a fork.
FORKGUARD_INLINE uint64_t forkguard_generation(void) FORKGUARD_BODY({
    uint64_t generation = __atomic_load_n(&forkguard_page.word.generation, __ATOMIC_ACQUIRE);
    return FORKGUARD_LIKELY(generation != 0) ? generation : forkguard_generation_slow();
})

/// Whether `generation`, which forkguard_generation returned here or in an ancestor, is this process's. One load and one compare when it is. Never ask about 0: in a
/// child that does not know yet that it is one it would seem to be.
FORKGUARD_INLINE bool forkguard_is_current(uint64_t generation) FORKGUARD_BODY({
    return FORKGUARD_LIKELY(__atomic_load_n(&forkguard_page.word.generation, __ATOMIC_ACQUIRE) == generation)
        || forkguard_generation_slow() == generation;
})

/// How this process learns that it was forked, as a set.
enum forkguard_detection {
    FORKGUARD_DETECTS_HANDLERS = 1, // pthread_atfork: forks that libc sees
    FORKGUARD_DETECTS_PAGE = 2,     // a wiped page: every fork that copies memory
    FORKGUARD_DETECTS_PID = 4,      // getpid() at each question, about 115 ns: where there is no such page
};

/// Which ways are on here. Any thread.
unsigned forkguard_detection(void);

FORKGUARD_END

#endif
