#include "process.h"

#include "connection.h"
#include "descriptors.h"
#include "exits.h"
#include "mutexes.h"
#include "threads.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

process audit_process;
bool audit_on;
__thread bool audit_inside __attribute__((tls_model("initial-exec")));
__thread fork_name audit_fork_under_way __attribute__((tls_model("initial-exec")));
__thread bool audit_daemon_under_way __attribute__((tls_model("initial-exec")));
audit_page *audit_process_page;

char *fork_name_text(fork_name name, char text[FORK_NAME_SIZE]) {
    char *at = text_number(text, name.process);
    *at++ = '.';
    text_number(at, name.number);
    return text;
}

bool process_start(void) {
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED || madvise(page, 4096, MADV_WIPEONFORK) != 0) return false;
    audit_process_page = page;
    audit_process.pid = audit_process_page->pid = getpid();
    return true;
}

// The calling thread is the first to be here after a fork: the one that forked, but for a child that no wrapper saw being made. All is async-signal-safe.
void process_take_over(void) {
    int nobody = 0, saved = errno;
    if (!__atomic_compare_exchange_n(&audit_process_page->taking_over, &nobody, 1, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return;
    bool seen = audit_fork_under_way.process != 0;
    audit_process.pid = getpid();
    audit_process.origin = seen ? ORIGIN_FORK : ORIGIN_BYPASS;
    audit_process.fork = audit_fork_under_way;
    audit_process.forked = true;
    audit_process.by_daemon = audit_daemon_under_way;
    lineage *lineage = &audit_process.lineage;
    if (seen && lineage->count < LINEAGE) lineage->forks[lineage->count++] = audit_fork_under_way;
    audit_process.last_fork = 0;
    audit_fork_under_way = (fork_name){0};
    audit_daemon_under_way = false;

    connection_take_over();
    threads_take_over();
    descriptors_take_over(seen);
    exits_take_over();
    __atomic_store_n(&audit_process_page->pid, audit_process.pid, __ATOMIC_RELEASE);
    mutexes_take_over();
    errno = saved;
}

bool process_read_memory(void *into, const void *from, size_t size) {
    struct iovec here = {into, size}, there = {(void *)(uintptr_t)from, size};
    int saved = errno;
    bool read = size == 0 || audit_real.syscall(SYS_process_vm_readv, audit_process.pid, &here, 1, &there, 1, 0) == (long)size;
    errno = saved;
    return read;
}
