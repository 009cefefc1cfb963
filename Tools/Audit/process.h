#ifndef AUDIT_PROCESS_H
#define AUDIT_PROCESS_H

// Which process is this: told by a page that the kernel wipes at each fork, also at one that no wrapper saw.

#include "real.h"

// The fork number `number` of process `process`.
typedef struct fork_name {
    int process;
    unsigned number;
} fork_name;

#define FORK_NAME_SIZE 40
char *fork_name_text(fork_name name, char text[FORK_NAME_SIZE]);

// The forks that made this process and its ancestors, eldest first; those beyond the last few are forgotten.
#define LINEAGE 8
typedef struct lineage {
    int count;
    fork_name forks[LINEAGE];
} lineage;

typedef enum origin { ORIGIN_START, ORIGIN_FORK, ORIGIN_BYPASS } origin;

typedef struct process {
    int pid;
    origin origin;
    fork_name fork;   // that made it; process 0 if none that is known
    bool forked;      // no exec since
    bool by_daemon;
    lineage lineage;
    unsigned last_fork; // of this process's own, that returned
} process;

extern process audit_process;
extern bool audit_on;

// Set while this thread is in our code: what it calls there is not the program's.
extern __thread bool audit_inside __attribute__((tls_model("initial-exec")));
// The fork that this thread is calling.
extern __thread fork_name audit_fork_under_way __attribute__((tls_model("initial-exec")));
extern __thread bool audit_daemon_under_way __attribute__((tls_model("initial-exec")));

typedef struct audit_page {
    int pid; // 0: wiped
    int taking_over;
} audit_page;
extern audit_page *audit_process_page;

// False where a child cannot be told from its parent: then nothing is said at all.
bool process_start(void);
void process_take_over(void);

// Whether the caller may look and note; if so audit_inside is set, and the caller clears it.
static inline bool audit_enter(void) {
    if (!audit_on || audit_inside) return false;
    audit_inside = true;
    if (UNLIKELY(__atomic_load_n(&audit_process_page->pid, __ATOMIC_RELAXED) == 0)) process_take_over();
    return true;
}

static inline void audit_leave(void) { audit_inside = false; }

// False in a child of vfork: it runs in its parent's memory, and nothing that it does is the parent's.
static inline bool process_is_ours(void) { return getpid() == audit_process_page->pid; }

// False where there is no such memory.
bool process_read_memory(void *into, const void *from, size_t size);

#endif
