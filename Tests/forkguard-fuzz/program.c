#include "fuzz.h"

static const char *const names[OPERATIONS] = {
    "lock", "trylock", "unlock", "section begin", "section end", "change", "wait", "signal", "mutex lock", "mutex unlock", "mutex register",
    "mutex unregister", "hook register", "hook cancel", "fork", "forkguard_fork", "fork beside libc", "adopt", "use", "close",
    "pause", "meet",
    "hold", "lock the worker's", "end inside",
};

void program_decode(program *program, const uint8_t *bytes, size_t count) {
    static const unsigned deadlines[] = {10, 20, 50, 200};
    memset(program, 0, sizeof *program);
    uint8_t head = count ? bytes[0] : 0;
    program->threads = 2 + head % (THREADS - 1);
    program->denied = head & 0x10;
    program->deadline_ms = deadlines[head >> 6];
    unsigned steps = 0;
    for (size_t at = 1; at + 1 < count && steps < STEPS; at += 2, steps++) {
        unsigned thread = (bytes[at] >> 6) % program->threads;
        program->steps[thread][program->counts[thread]++] = (step){(bytes[at] & 63) % OPERATIONS, bytes[at + 1]};
    }
}

void program_print(const program *program) {
    say("%u threads, deadline %u ms%s\n", program->threads, program->deadline_ms, program->denied ? ", the last one's forks fail" : "");
    for (unsigned thread = 0; thread < program->threads; thread++)
        for (unsigned i = 0; i < program->counts[thread]; i++)
            say("  thread %u: %s %u\n", thread, names[program->steps[thread][i].operation], program->steps[thread][i].argument);
}
