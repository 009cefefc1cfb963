#if defined(__APPLE__)

// Compiled and linked against Apple's headers and list of symbols (Scripts/portability), run by nobody yet: UNTESTED until someone runs it on a Mac.

#include "platform.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mach/mach.h>
#include <pthread.h>
#include <string.h>
#include <sys/param.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

// Apple's kernel calls under os_unfair_lock; the public os_sync_wait_on_address (macOS 14.4) stands on them.
extern int __ulock_wait(uint32_t operation, void *address, uint64_t value, uint32_t microseconds);
extern int __ulock_wake(uint32_t operation, void *address, uint64_t value);
#define COMPARE_AND_WAIT 1
#define WAKE_ALL 0x100

bool platform_wait(const uint32_t *word, uint32_t expected, int64_t nanoseconds) {
    int saved = errno;
    uint32_t microseconds = 0; // for ever
    if (nanoseconds >= 0) {
        int64_t wanted = nanoseconds / 1000 + 1;
        microseconds = wanted > UINT32_MAX ? UINT32_MAX : (uint32_t)wanted;
    }
    bool in_time = !(__ulock_wait(COMPARE_AND_WAIT, (void *)word, expected, microseconds) < 0 && errno == ETIMEDOUT);
    errno = saved;
    return in_time;
}

void platform_wake(const uint32_t *word, int count) {
    int saved = errno;
    __ulock_wake(COMPARE_AND_WAIT | (count > 1 ? WAKE_ALL : 0), (void *)word, 0);
    errno = saved;
}

// No membarrier here: every thread fences for itself.
bool platform_barrier_start(void) { return false; }
bool platform_barrier(void) { return false; }

// minherit(2) knows pages that a child shares, copies or lacks, and none that it gets as zeros: every question asks for the process id.
bool platform_wipe_on_fork(void *page, size_t size) {
    (void)page;
    (void)size;
    return false;
}

bool platform_shares_memory_with(int32_t pid) {
    (void)pid;
    return false;
}

uint64_t platform_nanoseconds(void) { return clock_gettime_nsec_np(CLOCK_UPTIME_RAW); }

int32_t platform_thread_id(void) {
    uint64_t id = 0;
    pthread_threadid_np(NULL, &id);
    return (int32_t)id;
}

void platform_own_name(char name[16]) {
    if (pthread_getname_np(pthread_self(), name, 16) != 0) name[0] = 0;
}

void platform_thread_name(int32_t thread_id, char name[16]) {
    (void)thread_id;
    name[0] = 0;
}

bool platform_thread_sleeps(int32_t thread_id) {
    (void)thread_id;
    return true; // cannot be told: the patience alone decides
}

bool platform_thread_is_ours(int32_t thread_id) {
    (void)thread_id;
    return false;
}

bool platform_thread_is_gone(int32_t thread_id) {
    (void)thread_id;
    return false;
}

bool platform_read(void *to, const void *from, size_t size) {
    vm_size_t length = 0;
    return vm_read_overwrite(mach_task_self(), (vm_address_t)from, size, (vm_address_t)to, &length) == KERN_SUCCESS && length == size;
}

bool platform_lock_streams(void) { return false; }
void platform_unlock_streams(void) {}
void platform_reset_streams(void) {}

int platform_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void)) { return pthread_atfork(prepare, parent, child); }

// There is no O_PATH. A socket that is connected to nothing refuses reads, writes and lseek alike.
int platform_open_tombstone(void) { return socket(AF_UNIX, SOCK_STREAM, 0); }

bool platform_is_tombstone(int number) {
    struct stat status;
    return fstat(number, &status) == 0 && S_ISSOCK(status.st_mode);
}

bool platform_replace(int from, int number, bool closes_on_exec) {
    return dup2(from, number) >= 0 && fcntl(number, F_SETFD, closes_on_exec ? FD_CLOEXEC : 0) == 0;
}

int platform_reopen(int number, int flags) {
    char path[MAXPATHLEN];
    if (fcntl(number, F_GETPATH, path) != 0) return -1;
    return open(path, (flags & ~(O_CREAT | O_EXCL | O_TRUNC)) | O_NOCTTY | O_CLOEXEC);
}

void platform_close_range(int first, int last) {
    int most = getdtablesize();
    for (int number = first; number <= last && number < most; number++) close(number);
}

void platform_pin(const void *address) {
    Dl_info info;
    if (dladdr(address, &info) && info.dli_fname) (void)dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

#endif
