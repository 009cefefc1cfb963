// Descriptors: tokens among threads that close and reuse numbers, and what children find.

#include "probe.h"

#include <fcntl.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

enum { SHELF = 8, USERS = 3, CHANGERS = 2, FORKS = 200 };

// What is on a shelf is one of two ends of a pipe each time: the token's, and what it is a number of.
static struct {
    forkguard_lock_t lock;
    forkguard_descriptor_t token;
    ino_t inode;
} shelf[SHELF];

static bool over; // atomic
static unsigned long uses, refusals, changes, strangers; // atomic

static bool is_over(void) { return __atomic_load_n(&over, __ATOMIC_ACQUIRE); }
static void count(unsigned long *counter) { __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED); }

static ino_t inode_of(int number) {
    struct stat status;
    return fstat(number, &status) == 0 ? status.st_ino : 0;
}

// A section around it, so that no child inherits a number that nobody knows.
static int open_one(forkguard_descriptor_t *token, uint32_t policy) {
    forkguard_lock_t section = FORKGUARD_LOCK_INITIALIZER("opening");
    forkguard_lock(&section);
    int number = policy == FORKGUARD_TOMBSTONE ? socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) : open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    int error = number < 0 ? errno : forkguard_descriptor_adopt(number, policy, token);
    forkguard_unlock(&section);
    return error;
}

static bool is_tombstone(int number) {
    int flags = fcntl(number, F_GETFL);
    return flags >= 0 && flags & O_PATH;
}

static void *use(void *context) {
    for (unsigned long i = (unsigned long)context; !is_over(); i++) {
        unsigned at = i % SHELF;
        forkguard_lock(&shelf[at].lock);
        forkguard_descriptor_t token = shelf[at].token;
        ino_t wanted = shelf[at].inode;
        forkguard_unlock(&shelf[at].lock);
        int error = forkguard_descriptor_enter(&token);
        if (error == 0) {
            if (inode_of(token.number) != wanted) count(&strangers);
            forkguard_descriptor_leave(&token);
            count(&uses);
        } else {
            CHECK(error == EBADF);
            count(&refusals);
        }
    }
    return NULL;
}

static void *change(void *context) {
    for (unsigned long i = (unsigned long)context; !is_over(); i++) {
        unsigned at = i % SHELF;
        forkguard_descriptor_t fresh;
        CHECK(open_one(&fresh, FORKGUARD_TOMBSTONE) == 0);
        forkguard_lock(&shelf[at].lock);
        forkguard_descriptor_t old = shelf[at].token;
        shelf[at].token = fresh;
        shelf[at].inode = inode_of(fresh.number);
        forkguard_unlock(&shelf[at].lock);
        CHECK(forkguard_descriptor_close(&old) == 0);
        CHECK(forkguard_descriptor_close(&old) == EBADF);
        count(&changes);
    }
    return NULL;
}

static void run(unsigned forks, unsigned least) {
    for (unsigned at = 0; at < SHELF; at++) {
        CHECK(open_one(&shelf[at].token, FORKGUARD_TOMBSTONE) == 0);
        shelf[at].inode = inode_of(shelf[at].token.number);
    }
    pthread_t threads[USERS + CHANGERS];
    for (unsigned long i = 0; i < USERS + CHANGERS; i++) threads[i] = start(i < USERS ? use : change, (void *)i);
    for (unsigned i = 0; i < forks; i++) {
        pid_t child = i % 2 ? fork() : forkguard_fork(0);
        if (child == 0) {
            alarm(20);
            // The table and the numbers agree, whatever the others were doing: what is adopted has a tombstone, and nothing else is open but what was before.
            for (unsigned at = 0; at < SHELF; at++) {
                forkguard_descriptor_t token = shelf[at].token;
                CHECK(forkguard_descriptor_enter(&token) == ESTALE);
                CHECK(is_tombstone(token.number));
                CHECK(forkguard_descriptor_close(&token) == 0 && fcntl(token.number, F_GETFD) < 0);
            }
            unsigned open = 0, buried = 0;
            for (int number = 3; number < 256; number++) {
                if (is_tombstone(number)) buried++;
                else if (fcntl(number, F_GETFD) >= 0) open++;
            }
            CHECK(open == 0 && buried <= USERS + CHANGERS); // closed on the shelf, and still in use at the fork
            CHECK(forkguard_descriptor_count() == 0);
            _exit(0);
        }
        check_child(child);
    }
    while (__atomic_load_n(&changes, __ATOMIC_RELAXED) < least) usleep(1000);
    __atomic_store_n(&over, true, __ATOMIC_RELEASE);
    for (unsigned i = 0; i < USERS + CHANGERS; i++) pthread_join(threads[i], NULL);
    CHECK(strangers == 0 && uses > 1000);
    CHECK(forkguard_descriptor_count() == SHELF);
    for (unsigned at = 0; at < SHELF; at++) CHECK(forkguard_descriptor_close(&shelf[at].token) == 0);
    for (int number = 3; number < 256; number++) CHECK(fcntl(number, F_GETFD) < 0);
    printf("%u forks, %lu uses, %lu refused, %lu numbers reused, 0 strangers\n", forks, uses, refusals, changes);
}

int scenario_descriptors(void) {
    // What the caller had open is not the scenario's.
    for (int number = 3; number < 256; number++) close(number);
    run(FORKS, 5000);
    return 0;
}

// For ThreadSanitizer, without a fork.
int scenario_descriptors_stubbed(void) {
    for (int number = 3; number < 256; number++) close(number);
    run(0, 5000);
    return 0;
}

// A stale token and a use make no system call, in a filter that kills for any (seccomp(2), strict mode).
static int without_system_calls(void) {
    forkguard_descriptor_t token, closed;
    CHECK(open_one(&token, FORKGUARD_TOMBSTONE) == 0 && open_one(&closed, FORKGUARD_TOMBSTONE) == 0);
    CHECK(forkguard_descriptor_close(&closed) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    // Both processes: the parent's is current, the child's is stale.
    pid_t grandchild = fork();
    if (grandchild == 0) {
        uint64_t generation = forkguard_generation() - 1;
        CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
        bool right = forkguard_descriptor_enter(&token) == ESTALE && forkguard_descriptor_enter(&closed) != 0 && !forkguard_is_current(generation);
        syscall(SYS_exit, right ? 0 : 1); // exit_group(2), which _exit calls, is not allowed
    }
    check_child(grandchild);
    if (child == 0) _exit(0);
    check_child(child);
    return 0;
}

int scenario_descriptors_quiet(void) {
    without_system_calls();
    printf("no system call\n");
    return 0;
}

static bool deny_opening;

static void fork_and_look(void) {
    forkguard_descriptor_t connections[4], file;
    for (unsigned i = 0; i < 4; i++) CHECK(open_one(&connections[i], FORKGUARD_TOMBSTONE) == 0);
    CHECK(open_one(&file, FORKGUARD_REOPEN) == 0);
    int stray = dup(0), kept = dup(0);
    if (deny_opening) {
        deny("openat", EMFILE);
#ifdef SYS_open
        deny("open", EMFILE); // musl's
#endif
    }
    pid_t child = forkguard_fork_closing(0, &kept, 1);
    if (child == 0) {
        for (unsigned i = 0; i < 4; i++) {
            CHECK(forkguard_descriptor_enter(&connections[i]) == ESTALE || forkguard_descriptor_enter(&connections[i]) == EBADF);
            CHECK(write(connections[i].number, "x", 1) == -1 && errno == EBADF);
        }
        int error = forkguard_descriptor_enter(&file);
        char byte;
        CHECK(error == 0 ? read(file.number, &byte, 1) == 1 : read(file.number, &byte, 1) == -1);
        CHECK(fcntl(stray, F_GETFD) < 0 && fcntl(kept, F_GETFD) >= 0);
        forkguard_report report;
        CHECK(forkguard_last_report(&report) == 0);
        printf("tombstoned %u, reopened %u, failed %u\n", report.descriptors_tombstoned, report.descriptors_reopened, report.descriptors_failed);
        fflush(stdout);
        _exit(0);
    }
    check_child(child);
    close(stray);
    close(kept);
    CHECK(forkguard_descriptor_close(&file) == 0);
    for (unsigned i = 0; i < 4; i++) CHECK(forkguard_descriptor_close(&connections[i]) == 0);
}

// What cannot be buried is closed, and tokens refuse all the same: whatever --deny makes fail, and then when nothing can be opened in the child's handler.
int scenario_descriptors_denied(void) {
    fork_and_look();
    deny_opening = true;
    fork_and_look();
    return 0;
}

// What users do with numbers that they should leave to their tokens, and files with flags that open(2) would take amiss.

static forkguard_descriptor_t adopted(int number, uint32_t policy) {
    forkguard_descriptor_t token;
    CHECK(number >= 0 && forkguard_descriptor_adopt(number, policy, &token) == 0);
    return token;
}

static void reopened_whatever_the_flags(void) {
    char path[64];
    snprintf(path, sizeof path, "/tmp/forkguard-probe-%d", (int)getpid());
    forkguard_descriptor_t files[] = {
        adopted(open(path, O_RDWR | O_CREAT | O_EXCL, 0600), FORKGUARD_REOPEN),
        adopted(open(path, O_RDWR | O_NOFOLLOW), FORKGUARD_REOPEN),
        adopted(open("/tmp", O_RDWR | O_TMPFILE, 0600), FORKGUARD_REOPEN),
    };
    unlink(path);
    pid_t child = fork();
    if (child == 0) {
        for (unsigned i = 0; i < 3; i++) CHECK(forkguard_descriptor_enter(&files[i]) == 0 && write(files[i].number, "x", 1) == 1);
        _exit(0);
    }
    check_child(child);
    for (unsigned i = 0; i < 3; i++) CHECK(lseek(files[i].number, 0, SEEK_CUR) == 0 && forkguard_descriptor_close(&files[i]) == 0);
}

static void tombstone_on_a_number_closed_behind_its_token(void) {
    forkguard_descriptor_t tokens[4];
    for (unsigned i = 0; i < 4; i++) tokens[i] = adopted(socket(AF_UNIX, SOCK_STREAM, 0), FORKGUARD_TOMBSTONE);
    close(tokens[0].number);
    pid_t child = fork();
    if (child == 0) {
        for (unsigned i = 0; i < 4; i++) CHECK(is_tombstone(tokens[i].number));
        _exit(0);
    }
    check_child(child);
    CHECK(forkguard_descriptor_close(&tokens[0]) == EBADF); // what close(2) says
    for (unsigned i = 1; i < 4; i++) CHECK(forkguard_descriptor_close(&tokens[i]) == 0);
}

// As daemons do.
static void child_that_closes_everything(void) {
    forkguard_descriptor_t token = adopted(socket(AF_UNIX, SOCK_STREAM, 0), FORKGUARD_TOMBSTONE);
    pid_t child = fork();
    if (child == 0) {
        close(token.number);
        int own = dup(0);
        CHECK(own == token.number && forkguard_descriptor_close(&token) == 0 && fcntl(own, F_GETFD) >= 0);
        _exit(0);
    }
    check_child(child);
    CHECK(forkguard_descriptor_close(&token) == 0);
}

static int stray = -1;
static unsigned handler_forks;

static void fork_in_a_handler(void) {
    if (stray < 0 || handler_forks++ != 0) return;
    pid_t child = fork();
    if (child == 0) _exit(0);
    check_child(child);
}

// A handler of somebody's, which forks itself, and then the fork that closes: it is the one.
static void closes_what_it_was_asked_to(void) {
    CHECK(pthread_atfork(fork_in_a_handler, NULL, NULL) == 0);
    // So that no fork takes the short way.
    forkguard_descriptor_t kept = adopted(dup(0), FORKGUARD_KEEP);
    stray = dup(0);
    for (unsigned i = 0; i < 2; i++) {
        pid_t child = forkguard_fork_closing(0, NULL, 0);
        if (child == 0) _exit(fcntl(stray, F_GETFD) < 0 ? 0 : 1);
        check_child(child);
        // And not a later one.
        child = fork();
        if (child == 0) _exit(fcntl(stray, F_GETFD) >= 0 ? 0 : 1);
        check_child(child);
    }
    close(stray);
    stray = -1;
    CHECK(forkguard_descriptor_close(&kept) == 0);
}

static void no_use_begins_once_it_is_closed(void) {
    forkguard_descriptor_t token = adopted(dup(0), FORKGUARD_TOMBSTONE);
    CHECK(forkguard_descriptor_enter(&token) == 0 && forkguard_descriptor_enter(&token) == 0);
    CHECK(forkguard_descriptor_release(&token) == EBUSY);
    CHECK(forkguard_descriptor_close(&token) == 0);
    for (unsigned uses = 2; uses != 0; uses--) {
        CHECK(forkguard_descriptor_enter(&token) == EBADF && forkguard_descriptor_close(&token) == EBADF);
        CHECK(fcntl(token.number, F_GETFD) >= 0);
        forkguard_descriptor_leave(&token);
    }
    CHECK(fcntl(token.number, F_GETFD) < 0);
}

int scenario_descriptors_odd(void) {
    no_use_begins_once_it_is_closed();
    reopened_whatever_the_flags();
    tombstone_on_a_number_closed_behind_its_token();
    child_that_closes_everything();
    closes_what_it_was_asked_to();
    printf("each descriptor as it was told\n");
    return 0;
}
