#include "probe.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static int number_of(const char *name) {
    static const struct {
        const char *name;
        int number;
    } calls[] = {
        {"madvise", SYS_madvise}, {"membarrier", SYS_membarrier}, {"mmap", SYS_mmap}, {"clone", SYS_clone},
        {"close_range", SYS_close_range}, {"dup3", SYS_dup3}, {"openat", SYS_openat},
        {"clone3", SYS_clone3},   {"kcmp", SYS_kcmp},             {"process_vm_readv", SYS_process_vm_readv},
#ifdef SYS_open
        {"open", SYS_open},
#endif
#ifdef SYS_fork
        {"fork", SYS_fork},
#endif
    };
    for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++)
        if (strcmp(calls[i].name, name) == 0) return calls[i].number;
    return -1;
}

static void install(const char *system_call, int error, unsigned flags) {
    int number = number_of(system_call);
    CHECK(number >= 0);
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ((unsigned)error & SECCOMP_RET_DATA)),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) == 0);
}

void deny(const char *system_call, int error) { install(system_call, error, 0); }
void deny_everywhere(const char *system_call, int error) { install(system_call, error, SECCOMP_FILTER_FLAG_TSYNC); }
