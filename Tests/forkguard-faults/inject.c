// The core's calls of libc end here: its objects are linked with `close` renamed to `fault_close`, and so on (objcopy --redefine-syms).
// So the faults reach the core alone, and in one phase alone, which neither strace's injection nor a seccomp filter can tell apart; and
// they are the same in each run.
//
//     FORKGUARD_FAULT=membarrier=EPERM@prepare            each call in that phase
//     FORKGUARD_FAULT=membarrier=EPERM@prepare#1          the first call in each such phase
//     FORKGUARD_FAULT=madvise=EINVAL@start,kcmp=EPERM@child   both

#include "inject.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define CALLS(C)                                                                                                                    \
    C(atfork) C(calloc) C(close) C(close_range) C(dup3) C(fcntl) C(fflush) C(fstat) C(futex_wait) C(futex_wake) C(gettid) C(kcmp) C(kill) \
    C(lseek) C(madvise) C(malloc) C(membarrier) C(membarrier_query) C(membarrier_register) C(mincore) C(mmap) C(munmap) C(open)      \
    C(pidfd_open) C(pidfd_send_signal) C(poll) C(prctl) C(process_vm_readv) C(pthread_key) C(read) C(rt_sigprocmask) C(shutdown)     \
    C(tgkill) C(waitid) C(waitpid) C(write)

enum call {
#define CALL_NUMBER(name) CALL_##name,
    CALLS(CALL_NUMBER) CALL_COUNT
};
static const char *const call_names[] = {
#define CALL_NAME(name) #name,
    CALLS(CALL_NAME)
};
static const char *const phase_names[] = {"none", "start", "use", "prepare", "parent", "child"};
enum { PHASES = sizeof phase_names / sizeof *phase_names, MOST_FAULTS = 4, SHORT_RESULT = 1000 };

static struct fault {
    int error;
    bool once;
    enum call call;
    enum phase phase;
    unsigned seen; // calls in this phase
} faults[MOST_FAULTS];
static unsigned faults_count;

static enum phase phase = PHASE_START;
void (*before_copy)(void);

static struct counts {
    unsigned calls[CALL_COUNT][PHASES], failed[CALL_COUNT][PHASES];
} *counts; // shared with all children

static void refuse(const char *what, const char *of) {
    dprintf(2, "forkguard-faults: %s: %s\n", what, of);
    _exit(64);
}

int error_named(const char *name) {
    if (strcmp(name, "SHORT") == 0) return SHORT_RESULT;
    for (int error = 1; error < 140; error++) {
        const char *known = strerrorname_np(error);
        if (known && strcmp(known, name) == 0) return error;
    }
    return 0;
}

static unsigned index_of(const char *name, const char *const *names, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0) return i;
    refuse("no such name", name);
    return 0;
}

static void read_fault(const char *text) {
    char call[32], error[32], at[16];
    unsigned only = 0;
    if (faults_count == MOST_FAULTS || sscanf(text, "%31[a-z0-9_]=%31[A-Z0-9]@%15[a-z]#%u", call, error, at, &only) < 3)
        refuse("no fault", text);
    faults[faults_count++] = (struct fault){
        .error = error_named(error),
        .once = only != 0,
        .call = (enum call)index_of(call, call_names, CALL_COUNT),
        .phase = (enum phase)index_of(at, phase_names, PHASES),
    };
    if (faults[faults_count - 1].error == 0) refuse("no such error", error);
}

void enter_phase(enum phase next) {
    for (unsigned i = 0; i < faults_count; i++) __atomic_store_n(&faults[i].seen, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&phase, next, __ATOMIC_SEQ_CST);
}

void forget_faults(void) { faults_count = 0; }

static void copies(void) {
    if (before_copy) before_copy();
    enter_phase(PHASE_NONE);
}
static void in_parent(void) { enter_phase(PHASE_PARENT); }
static void in_child(void) { enter_phase(PHASE_CHILD); }

// Before the library's constructor: so these handlers run after its prepare, and before its other two.
__attribute__((constructor(101))) static void begin(void) {
    counts = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (counts == MAP_FAILED) refuse("no memory", "counts");
    char *text = getenv("FORKGUARD_FAULT"), *rest = text ? strdup(text) : NULL;
    for (char *one; rest && (one = strsep(&rest, ",")) != NULL;)
        if (*one) read_fault(one);
    if (pthread_atfork(copies, in_parent, in_child) != 0) refuse("no handlers", "pthread_atfork");
}

void print_calls(int descriptor) {
    for (unsigned call = 0; call < CALL_COUNT; call++)
        for (unsigned in = PHASE_START; in < PHASES; in++)
            if (counts->calls[call][in])
                dprintf(
                    descriptor, "calls %s %s %u %u\n", call_names[call], phase_names[in], counts->calls[call][in], counts->failed[call][in]
                );
}

// The error that this call is to fail with, or 0.
static int due(enum call call) {
    enum phase now = __atomic_load_n(&phase, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&counts->calls[call][now], 1, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < faults_count; i++) {
        struct fault *fault = &faults[i];
        if (fault->call != call || fault->phase != now) continue;
        if (__atomic_fetch_add(&fault->seen, 1, __ATOMIC_RELAXED) != 0 && fault->once) continue;
        __atomic_fetch_add(&counts->failed[call][now], 1, __ATOMIC_RELAXED);
        return fault->error;
    }
    return 0;
}

// What the core links with in place of libc's.
#define FAULT(name, result, parameters, arguments, failure)        \
    result fault_##name parameters;                                \
    result fault_##name parameters {                               \
        int error = due(CALL_##name);                              \
        if (error == 0) return name arguments;                     \
        errno = error;                                             \
        return failure;                                            \
    }

FAULT(calloc, void *, (size_t count, size_t size), (count, size), NULL)
FAULT(malloc, void *, (size_t size), (size), NULL)
FAULT(dup3, int, (int from, int to, int flags), (from, to, flags), -1)
FAULT(fcntl, int, (int number, int command), (number, command), -1)
FAULT(fflush, int, (FILE * stream), (stream), EOF)
FAULT(fstat, int, (int number, struct stat *status), (number, status), -1)
FAULT(kill, int, (pid_t pid, int signal), (pid, signal), -1)
FAULT(lseek, off_t, (int number, off_t offset, int whence), (number, offset, whence), -1)
FAULT(madvise, int, (void *at, size_t size, int advice), (at, size, advice), -1)
FAULT(mincore, int, (void *at, size_t size, unsigned char *pages), (at, size, pages), -1)
FAULT(
    mmap, void *, (void *at, size_t size, int allows, int flags, int number, off_t offset),
    (at, size, allows, flags, number, offset), MAP_FAILED
)
FAULT(munmap, int, (void *at, size_t size), (at, size), -1)
FAULT(open, int, (const char *path, int flags), (path, flags), -1)
FAULT(prctl, int, (int option, void *argument), (option, argument), -1)
FAULT(shutdown, int, (int number, int how), (number, how), -1)
FAULT(waitid, int, (idtype_t type, id_t id, siginfo_t *info, int options), (type, id, info, options), -1)
FAULT(waitpid, pid_t, (pid_t pid, int *status, int options), (pid, status, options), -1)

// Short results.
#define FAULT_SHORT(name, result, parameters, arguments, shortened) \
    result fault_##name parameters;                                 \
    result fault_##name parameters {                                \
        int error = due(CALL_##name);                               \
        if (error == 0) return name arguments;                      \
        if (error == SHORT_RESULT) return shortened;                \
        errno = error;                                              \
        return -1;                                                  \
    }

FAULT_SHORT(read, ssize_t, (int number, void *text, size_t size), (number, text, size), read(number, text, size != 0))
FAULT_SHORT(write, ssize_t, (int number, const void *text, size_t size), (number, text, size), write(number, text, size != 0))
FAULT_SHORT(poll, int, (struct pollfd *wanted, nfds_t count, int timeout), (wanted, count, timeout), 0)
FAULT_SHORT(
    process_vm_readv, ssize_t,
    (pid_t pid, const struct iovec *to, unsigned long to_count, const struct iovec *from, unsigned long from_count, unsigned long flags),
    (pid, to, to_count, from, from_count, flags), (ssize_t)from->iov_len - 1
)

// Whatever close(2) says but EBADF, on Linux the number is free.
int fault_close(int number);
int fault_close(int number) {
    int error = due(CALL_close);
    if (error == 0) return close(number);
    close(number);
    errno = error;
    return -1;
}

// These return their error.
int fault_pthread_key_create(pthread_key_t *key, void (*end)(void *));
int fault_pthread_key_create(pthread_key_t *key, void (*end)(void *)) {
    int error = due(CALL_pthread_key);
    return error ? error : pthread_key_create(key, end);
}
extern int __register_atfork(void (*)(void), void (*)(void), void (*)(void), void *);
int fault___register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *library);
int fault___register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *library) {
    int error = due(CALL_atfork);
    return error ? error : __register_atfork(prepare, parent, child, library);
}

static enum call call_of(long number, const long *arguments) {
    switch (number) {
    case SYS_futex: return (arguments[1] & FUTEX_CMD_MASK) == FUTEX_WAKE ? CALL_futex_wake : CALL_futex_wait;
    case SYS_membarrier:
        return arguments[0] == MEMBARRIER_CMD_QUERY ? CALL_membarrier_query
            : arguments[0] == MEMBARRIER_CMD_PRIVATE_EXPEDITED ? CALL_membarrier : CALL_membarrier_register;
    case SYS_close_range: return CALL_close_range;
    case SYS_gettid: return CALL_gettid;
    case SYS_kcmp: return CALL_kcmp;
    case SYS_pidfd_open: return CALL_pidfd_open;
    case SYS_pidfd_send_signal: return CALL_pidfd_send_signal;
    case SYS_rt_sigprocmask: return CALL_rt_sigprocmask;
    case SYS_tgkill: return CALL_tgkill;
    default:
        dprintf(2, "forkguard-faults: system call %ld is not known here\n", number);
        _exit(64);
    }
}

long fault_syscall(long number, ...);
long fault_syscall(long number, ...) {
    // As libc's own does it: all six are there to be taken, whatever they are.
    long arguments[6];
    va_list list;
    va_start(list, number);
    for (unsigned i = 0; i < 6; i++) arguments[i] = va_arg(list, long);
    va_end(list);
    int error = due(call_of(number, arguments));
    if (error == 0) return syscall(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
    errno = error;
    return -1;
}

void refuse_forks(int error) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
#ifdef SYS_fork
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fork, 2, 0),
#else
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 2, 0),
#endif
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ((unsigned)error & SECCOMP_RET_DATA)),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0)
        refuse("no filter", strerror(errno));
}
