// Locks that are not ours: behaviours 20, 21, 22, 24 for every kind of pthread lock, and what their users do wrong.

#include "probe.h"

#include <sys/mman.h>
#include <sys/wait.h>

// ---- the kinds ----

typedef struct kind {
    const char *name;
    int type; // pthread_mutexattr_settype(3p), or -1: a read-write lock
    bool inherit;
} kind;

static const kind kinds[] = {
    {"plain", PTHREAD_MUTEX_NORMAL, false},
    {"recursive", PTHREAD_MUTEX_RECURSIVE, false},
    {"error-checking", PTHREAD_MUTEX_ERRORCHECK, false},
#if defined(__GLIBC__)
    {"adaptive", PTHREAD_MUTEX_ADAPTIVE_NP, false},
    {"priority-inheriting", PTHREAD_MUTEX_RECURSIVE, true},
#endif
    {"read-write", -1, false},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

typedef struct subject {
    const kind *kind;
    union {
        pthread_mutex_t mutex;
        pthread_rwlock_t rwlock;
    } lock;
    volatile uint64_t a, b; // equal whenever nobody is inside
    uint64_t id;
} subject;

static void make(subject *subject, const kind *kind) {
    subject->kind = kind;
    subject->a = subject->b = 0;
    subject->id = 0;
    if (kind->type < 0) {
        CHECK(pthread_rwlock_init(&subject->lock.rwlock, NULL) == 0);
        return;
    }
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    CHECK(pthread_mutexattr_settype(&attributes, kind->type) == 0);
    if (kind->inherit) CHECK(pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT) == 0);
    CHECK(pthread_mutex_init(&subject->lock.mutex, &attributes) == 0);
    pthread_mutexattr_destroy(&attributes);
}

static void enroll(subject *subject) {
    subject->id = subject->kind->type < 0 ? forkguard_register_rwlock(&subject->lock.rwlock, &FORKGUARD_NAMED(subject->kind->name))
                                          : forkguard_register_mutex(&subject->lock.mutex, &FORKGUARD_NAMED(subject->kind->name));
    CHECK(subject->id != 0);
}

static int lock(subject *subject) {
    return subject->kind->type < 0 ? pthread_rwlock_wrlock(&subject->lock.rwlock) : pthread_mutex_lock(&subject->lock.mutex);
}
static int trylock(subject *subject) {
    return subject->kind->type < 0 ? pthread_rwlock_trywrlock(&subject->lock.rwlock) : pthread_mutex_trylock(&subject->lock.mutex);
}
static int unlock(subject *subject) {
    return subject->kind->type < 0 ? pthread_rwlock_unlock(&subject->lock.rwlock) : pthread_mutex_unlock(&subject->lock.mutex);
}

static unsigned begun;

static void *use_for_ever(void *context) {
    subject *subject = context;
    __atomic_fetch_add(&begun, 1, __ATOMIC_RELAXED);
    for (;;) {
        CHECK(lock(subject) == 0);
        subject->a++;
        for (volatile int i = 0; i < 500; i++) {}
        subject->b++;
        CHECK(unlock(subject) == 0);
    }
    return NULL;
}

// Three of them. Returns when all are under way: AddressSanitizer has locks of its own around the making of a thread, which a child would find taken.
static void start_users(subject *subject) {
    begun = 0;
    for (int i = 0; i < 3; i++) start(use_for_ever, subject);
    while (__atomic_load_n(&begun, __ATOMIC_RELAXED) < 3) usleep(100);
}

static void *try_it(void *context) { return (void *)(intptr_t)trylock(context); }

static int try_on_another_thread(subject *subject) {
    pthread_t thread;
    void *result;
    CHECK(pthread_create(&thread, NULL, try_it, subject) == 0 && pthread_join(thread, &result) == 0);
    return (int)(intptr_t)result;
}

// ---- 20, 21: free and whole in the child, not unlocked twice in the parent ----

/// Three threads hold and wait for one lock of each kind nearly all the time.
int scenario_foreign(void) {
    enum { FORKS = 200 };
    unsigned torn = 0;
    static subject subjects[KINDS];
    for (unsigned k = 0; k < KINDS; k++) {
        make(&subjects[k], &kinds[k]);
        enroll(&subjects[k]);
        start_users(&subjects[k]);
        for (unsigned i = 0; i < FORKS; i++) {
            pid_t child = i % 2 ? fork() : forkguard_fork(0);
            if (child == 0) {
                alarm(20);
                CHECK(subjects[k].a == subjects[k].b);
                CHECK(lock(&subjects[k]) == 0);
                CHECK(try_on_another_thread(&subjects[k]) == EBUSY);
                CHECK(unlock(&subjects[k]) == 0);
                CHECK(try_on_another_thread(&subjects[k]) == 0);
                forkguard_report report;
                CHECK(forkguard_last_report(&report) == 0);
                CHECK(report.foreign_locks == 1 && report.foreign_reinitialized == 1 && report.foreign_own == 0);
                _exit(report.torn_holders_count ? 3 : 0);
            }
            CHECK(child > 0);
            int status = wait_for(child);
            if (WIFEXITED(status) && WEXITSTATUS(status) == 3) torn++;
            else if (status != 0) {
                dprintf(2, "%s, fork %u: the child ended with status 0x%x\n", kinds[k].name, i, status);
                return 1;
            }
        }
        CHECK(forkguard_unregister(subjects[k].id) == 0 && forkguard_unregister(subjects[k].id) == ENOENT);
        CHECK(lock(&subjects[k]) == 0); // the threads stay where they are: one lock is hammered at a time
    }
    CHECK(torn == 0);
    printf("%d kinds, %d forks each ok\n", KINDS, FORKS);
    return 0;
}

/// The control: the same without a registration.
int scenario_foreign_control(void) {
    unsigned hung = 0, forks = 0;
    static subject subjects[KINDS];
    for (unsigned k = 0; k < KINDS; k++) {
        make(&subjects[k], &kinds[k]);
        start_users(&subjects[k]);
        unsigned before = hung;
        for (unsigned i = 0; i < 200 && hung == before; i++, forks++) {
            pid_t child = fork();
            if (child == 0) {
                alarm(1);
                // A priority-inheriting one of a thread that is gone is refused at once (ESRCH) or waited for.
                _exit(lock(&subjects[k]) == 0 && subjects[k].a == subjects[k].b ? 0 : 4);
            }
            CHECK(child > 0);
            if (wait_for(child) != 0) hung++;
        }
        CHECK(lock(&subjects[k]) == 0);
        CHECK(hung == before + 1);
    }
    printf("control: one of each of %d kinds failed, of %u forks\n", KINDS, forks);
    return 0;
}

// ---- the forking thread's own ----

/// What the forking thread has stays its own: on both sides, through grandchildren, however it forks.
int scenario_foreign_own(void) {
    static subject subjects[KINDS];
    unsigned own = 0;
    for (unsigned k = 0; k < KINDS; k++) {
#if !defined(__GLIBC__)
        // musl notes the owner of recursive and error-checking mutexes only.
        if (kinds[k].type != PTHREAD_MUTEX_RECURSIVE && kinds[k].type != PTHREAD_MUTEX_ERRORCHECK) continue;
#endif
        make(&subjects[own], &kinds[k]);
        enroll(&subjects[own++]);
    }
    static forkguard_lock_t others[4];
    hammer(others, 4, 3);
    for (int i = 0; i < 60; i++) {
        for (unsigned k = 0; k < own; k++) {
            CHECK(lock(&subjects[k]) == 0);
            if (subjects[k].kind->type == PTHREAD_MUTEX_RECURSIVE) CHECK(lock(&subjects[k]) == 0);
        }
        errno = 0;
        CHECK(forkguard_fork(0) == -1 && errno == EBUSY);
        forkguard_report report;
        CHECK(forkguard_last_report(&report) == 0 && report.error == EBUSY && report.torn_holders[0].mark == FORKGUARD_MARK_OWN);
        pid_t child = i % 3 == 0 ? forkguard_fork(FORKGUARD_FORK_HOLDING_LOCKS) : i % 3 == 1 ? fork() : fork_by_underscore();
        if (child == 0) {
            alarm(20);
            forkguard_generation();
            CHECK(forkguard_last_report(&report) == 0 && report.foreign_own == own);
            // Those that hammer are inside when nobody waits for them.
            CHECK(i % 3 == 2 || report.torn_holders_count == 0);
            pid_t grandchild = fork();
            if (grandchild == 0) {
                alarm(20);
                for (unsigned k = 0; k < own; k++) {
                    CHECK(try_on_another_thread(&subjects[k]) == EBUSY);
                    if (subjects[k].kind->type == PTHREAD_MUTEX_RECURSIVE) CHECK(lock(&subjects[k]) == 0 && unlock(&subjects[k]) == 0 && unlock(&subjects[k]) == 0);
                    CHECK(unlock(&subjects[k]) == 0);
                    CHECK(try_on_another_thread(&subjects[k]) == 0);
                }
                _exit(0);
            }
            check_child(grandchild);
            for (unsigned k = 0; k < own; k++) {
                if (subjects[k].kind->type == PTHREAD_MUTEX_RECURSIVE) CHECK(unlock(&subjects[k]) == 0);
                CHECK(unlock(&subjects[k]) == 0 && lock(&subjects[k]) == 0 && unlock(&subjects[k]) == 0);
            }
            _exit(0);
        }
        check_child(child);
        for (unsigned k = 0; k < own; k++) {
            if (subjects[k].kind->type == PTHREAD_MUTEX_RECURSIVE) CHECK(unlock(&subjects[k]) == 0);
            CHECK(unlock(&subjects[k]) == 0);
        }
    }
    printf("60 forks that hold %u kinds ok\n", own);
    return 0;
}

// ---- holders that do not let go ----

static pthread_barrier_t held;

static void *hold_for_ever(void *context) {
    lock(context);
    pthread_barrier_wait(&held);
    for (;;) pause();
    return NULL;
}

static void *read_for_ever(void *context) {
    pthread_rwlock_rdlock(context);
    pthread_barrier_wait(&held);
    for (;;) pause();
    return NULL;
}

static int rebuilt;
static int rebuild(void *context) {
    (void)context;
    rebuilt++;
    return 0;
}

/// A holder that never lets go, and a read-write lock that the forking thread itself has for reading: the deadline, names, torn in the child, told once.
int scenario_foreign_torn(void) {
    CHECK(forkguard_set_deadline_ms(200) == 0);
    pthread_barrier_init(&held, NULL, 2);
    static subject subject;
    make(&subject, &kinds[0]);
    forkguard_foreign_lock made = FORKGUARD_NAMED("ledger");
    made.torn = rebuild;
    subject.id = forkguard_register_mutex(&subject.lock.mutex, &made);
    CHECK(subject.id != 0);
    start(hold_for_ever, &subject);
    pthread_barrier_wait(&held);
    errno = 0;
    CHECK(forkguard_fork(0) == -1 && errno == ETIMEDOUT);
    forkguard_report report;
    CHECK(forkguard_last_report(&report) == 0 && strcmp(report.blocker.lock_name, "ledger") == 0);
    CHECK(strstr(report.blocker.lock_place, "foreign.c:") && report.windows > 0);
#if defined(__GLIBC__)
    CHECK(report.blocker.thread_id != 0);
#endif
    for (int i = 0; i < 3; i++) {
        uint64_t began = forkguard_nanoseconds();
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            CHECK(rebuilt == 1);
            CHECK(forkguard_last_report(&report) == 0 && report.torn_holders_count == 1 && report.timed_out);
            CHECK(report.torn_holders[0].mark == FORKGUARD_MARK_LATE && strcmp(report.torn_holders[0].lock_name, "ledger") == 0);
            CHECK(lock(&subject) == 0 && unlock(&subject) == 0);
            pid_t grandchild = forkguard_fork(0);
            if (grandchild == 0) _exit(rebuilt == 1 ? 0 : 1);
            check_child(grandchild);
            _exit(0);
        }
        uint64_t took = forkguard_nanoseconds() - began;
        CHECK(took > 150000000 && took < 2000000000);
        check_child(child);
        CHECK(trylock(&subject) == EBUSY && rebuilt == 0);
    }
    CHECK(forkguard_unregister(subject.id) == 0);

    static pthread_rwlock_t readers = PTHREAD_RWLOCK_INITIALIZER;
    uint64_t id = forkguard_register_rwlock(&readers, &FORKGUARD_NAMED("readers"));
    CHECK(id != 0 && pthread_rwlock_rdlock(&readers) == 0);
    CHECK(forkguard_fork(FORKGUARD_FORK_HOLDING_LOCKS) == -1 && errno == ETIMEDOUT);
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        CHECK(forkguard_last_report(&report) == 0 && strcmp(report.torn_holders[0].lock_name, "readers") == 0);
        CHECK(pthread_rwlock_trywrlock(&readers) == 0 && pthread_rwlock_unlock(&readers) == 0);
        _exit(0);
    }
    check_child(child);
    CHECK(pthread_rwlock_unlock(&readers) == 0);
    start(read_for_ever, &readers);
    pthread_barrier_wait(&held);
    child = fork_by_underscore();
    if (child == 0) {
        alarm(20);
        // Nobody who only reads tears anything.
        CHECK(forkguard_last_report(&report) == 0 && report.seen == FORKGUARD_SEEN_LATE && report.torn_holders_count == 0);
        CHECK(pthread_rwlock_trywrlock(&readers) == 0);
        _exit(0);
    }
    check_child(child);
    printf("late, named, torn, told\n");
    return 0;
}

// ---- holders that cannot let go: they wait to fork, or for the forker ----

static forkguard_lock_t forkers_own = FORKGUARD_LOCK_INITIALIZER("forker's own");

static void *hold_and_wait_for_forker(void *context) {
    lock(context);
    pthread_barrier_wait(&held);
    forkguard_lock(&forkers_own);
    forkguard_unlock(&forkers_own);
    unlock(context);
    pthread_barrier_wait(&held);
    return NULL;
}

static void *hold_and_fork(void *context) {
    lock(context);
    pthread_barrier_wait(&held);
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        CHECK(unlock(context) == 0);
        _exit(0);
    }
    check_child(child);
    CHECK(unlock(context) == 0);
    pthread_barrier_wait(&held);
    return NULL;
}

/// No fork near the deadline, also when two threads that have foreign locks fork at once, or when one is blocked on the forker.
int scenario_foreign_chain(void) {
#if !defined(__GLIBC__)
    const kind *kind = &kinds[1]; // one that tells its owner
#else
    const struct kind *kind = &kinds[0];
#endif
    pthread_barrier_init(&held, NULL, 2);
    static subject theirs, ours;
    make(&theirs, kind);
    make(&ours, kind);
    enroll(&theirs);
    enroll(&ours);
    uint64_t longest = 0;
    unsigned torn = 0;
    for (int i = 0; i < 200; i++) {
        bool chain = i % 2;
        if (chain) forkguard_lock(&forkers_own);
        else lock(&ours);
        pthread_detach(start(chain ? hold_and_wait_for_forker : hold_and_fork, &theirs));
        pthread_barrier_wait(&held);
        uint64_t began = forkguard_nanoseconds();
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            forkguard_report report;
            CHECK(forkguard_last_report(&report) == 0);
            // The other thread's, if it was not done yet.
            CHECK(report.torn_holders_count <= 1);
            CHECK(lock(&theirs) == 0 && unlock(&theirs) == 0);
            _exit(report.torn_holders_count ? 3 : 0);
        }
        uint64_t took = forkguard_nanoseconds() - began;
        if (took > longest) longest = took;
        CHECK(child > 0);
        int status = wait_for(child);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 3) torn++;
        else CHECK(status == 0);
        if (chain) forkguard_unlock(&forkers_own);
        else unlock(&ours);
        pthread_barrier_wait(&held);
    }
    CHECK(longest < UINT64_C(1000000000));
    printf("200 forks beside holders that could not let go: longest %u ms, %u torn\n", (unsigned)(longest / 1000000), torn);
    return 0;
}

// A lock whose holder lets go of it while the forker asks whose it is, and waits for its turn to fork before the forker sees what it does.
static struct {
    int32_t holder;
    int asked;
    forkguard_slot *slot;
    int torn;
} passing;

static int take_let_go(int32_t holder) {
    int32_t nobody = 0;
    return __atomic_compare_exchange_n(&passing.holder, &nobody, holder, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST) ? 0 : EBUSY;
}
static int try_let_go(void *lock) {
    (void)lock;
    return take_let_go(forkguard_thread_slot->mutex_id);
}
static int unlock_let_go(void *lock) {
    (void)lock;
    __atomic_store_n(&passing.holder, 0, __ATOMIC_SEQ_CST);
    return 0;
}
static int32_t owner_of_let_go(void *lock) {
    (void)lock;
    int32_t owner = __atomic_load_n(&passing.holder, __ATOMIC_SEQ_CST);
    if (__atomic_exchange_n(&passing.asked, 1, __ATOMIC_SEQ_CST) == 0)
        while (!__atomic_load_n(&passing.slot->waits_for_turn, __ATOMIC_SEQ_CST)) usleep(100);
    return owner;
}
static int count_torn_let_go(void *context) {
    (void)context;
    passing.torn++;
    return 0;
}

static void *let_go_and_fork(void *context) {
    forkguard_lock(&forkers_own);
    forkguard_unlock(&forkers_own);
    passing.slot = forkguard_thread_slot;
    CHECK(try_let_go(NULL) == 0);
    pthread_barrier_wait(context);
    while (!__atomic_load_n(&passing.asked, __ATOMIC_SEQ_CST)) usleep(100);
    unlock_let_go(NULL);
    pid_t child = fork();
    if (child == 0) _exit(0);
    check_child(child);
    return NULL;
}

/// What a thread has let go of by the time that it is seen waiting for its turn is not torn.
int scenario_foreign_let_go(void) {
    static const forkguard_lock_operations operations = {
        .try_lock = try_let_go, .unlock = unlock_let_go, .reinitialize = unlock_let_go, .owner = owner_of_let_go,
    };
    forkguard_foreign_lock lock = {.lock = &passing, .operations = &operations, .name = "let go", .torn = count_torn_let_go};
    CHECK(forkguard_register_lock(&lock));
    pthread_barrier_t has_it;
    pthread_barrier_init(&has_it, NULL, 2);
    pthread_t other = start(let_go_and_fork, &has_it);
    pthread_barrier_wait(&has_it);
    pid_t child = fork();
    if (child == 0) {
        forkguard_report report;
        CHECK(forkguard_last_report(&report) == 0 && report.torn_holders_count == 0);
        CHECK(passing.torn == 0);
        _exit(0);
    }
    check_child(child);
    CHECK(pthread_join(other, NULL) == 0);
    CHECK(passing.asked);
    printf("not torn\n");
    return 0;
}

static pthread_barrier_t together;
static int prepared;

static int count_prepare(void *context) {
    (void)context;
    __atomic_fetch_add(&prepared, 1, __ATOMIC_RELAXED);
    return 0;
}

static void *hold_and_ask_to_fork(void *context) {
    lock(context);
    pthread_barrier_wait(&together);
    pid_t child = forkguard_fork(FORKGUARD_FORK_HOLDING_LOCKS);
    if (child == 0) _exit(0);
    if (child < 0) CHECK(errno == EPERM);
    else check_child(child);
    unlock(context);
    return NULL;
}

/// Two forkguard_fork that hold foreign locks: one is refused at once.
int scenario_foreign_both_hold(void) {
    enum { ROUNDS = 100 };
    static subject subjects[2];
    forkguard_resource counter = {.name = "counter", .prepare = count_prepare};
    CHECK(forkguard_register_resource(&counter));
    pthread_barrier_init(&together, NULL, 2);
    for (int i = 0; i < 2; i++) {
        make(&subjects[i], &kinds[1]);
        enroll(&subjects[i]);
    }
    for (int i = 0; i < ROUNDS; i++) {
        pthread_t threads[2];
        for (int k = 0; k < 2; k++) CHECK(pthread_create(&threads[k], NULL, hold_and_ask_to_fork, &subjects[k]) == 0);
        for (int k = 0; k < 2; k++) pthread_join(threads[k], NULL);
    }
    CHECK(prepared <= 8 * ROUNDS);
    printf("%d rounds, %d prepare hooks\n", ROUNDS, prepared);
    return 0;
}

// ---- registered again while a fork uses it ----

static struct {
    pthread_mutex_t mutex;
    bool held;     // by `hold`: what is tried must be held
    int users;     // threads in `hold` or `let_go`
    bool stop;
} keeper = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static int keep(void *context) {
    (void)context;
    CHECK(__atomic_add_fetch(&keeper.users, 1, __ATOMIC_SEQ_CST) == 1 && !keeper.held);
    keeper.held = true;
    __atomic_sub_fetch(&keeper.users, 1, __ATOMIC_SEQ_CST);
    return 0;
}

static int let_go(void *context) {
    (void)context;
    CHECK(__atomic_add_fetch(&keeper.users, 1, __ATOMIC_SEQ_CST) == 1 && keeper.held);
    keeper.held = false;
    __atomic_sub_fetch(&keeper.users, 1, __ATOMIC_SEQ_CST);
    return 0;
}

static int is_there(void *context) {
    (void)context;
    return 0;
}

static int try_kept(void *context) {
    (void)context;
    CHECK(keeper.held);
    return pthread_mutex_trylock(&keeper.mutex);
}

static int unlock_kept(void *context) {
    (void)context;
    return pthread_mutex_unlock(&keeper.mutex);
}

static int renew_kept(void *context) {
    (void)context;
    return pthread_mutex_init(&keeper.mutex, NULL);
}

static uint64_t register_kept(void) {
    static const forkguard_lock_operations operations = {.try_lock = try_kept, .unlock = unlock_kept, .reinitialize = renew_kept};
    return forkguard_register_lock(&(forkguard_foreign_lock){
        .lock = &keeper, .operations = &operations, .name = "kept", .hold = keep, .let_go = let_go, .probe = is_there, .flags = FORKGUARD_AFTER_C_PHASES,
    });
}

static void *register_again(void *context) {
    while (!__atomic_load_n(&keeper.stop, __ATOMIC_RELAXED)) CHECK(register_kept() == 0 && errno == EEXIST);
    return context;
}

static void *use_kept(void *context) {
    while (!__atomic_load_n(&keeper.stop, __ATOMIC_RELAXED)) {
        pthread_mutex_lock(&keeper.mutex);
        usleep(2000);
        pthread_mutex_unlock(&keeper.mutex);
        usleep(500);
    }
    return context;
}

/// The hold that a fork has on the lock's owner is its own, through its windows.
int scenario_foreign_again(void) {
    CHECK(register_kept());
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) CHECK(pthread_create(&threads[i], NULL, i == 0 ? use_kept : register_again, NULL) == 0);
    for (int i = 0; i < 100; i++) {
        pid_t child = i % 2 ? fork() : forkguard_fork(0);
        if (child == 0) _exit(0);
        check_child(child);
    }
    __atomic_store_n(&keeper.stop, true, __ATOMIC_RELAXED);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    CHECK(forkguard_registered_count() == 1 && !keeper.held);
    printf("100 forks beside registrations ok\n");
    return 0;
}

// ---- what libc's fork wants is held by a thread that waits for a foreign lock ----

static FILE *stream;
static pthread_mutex_t printed = PTHREAD_MUTEX_INITIALIZER;

static void *print_what_a_lock_protects(void *context) {
    (void)context;
    for (;;) {
        flockfile(stream); // as Swift's print does while it runs a user's description
        pthread_mutex_lock(&printed);
        fputc('x', stream);
        pthread_mutex_unlock(&printed);
        funlockfile(stream);
    }
    return NULL;
}

/// The forker never has the lock while it waits for the streams.
int scenario_foreign_stream(void) {
    enum { FORKS = 300 };
    CHECK((stream = fopen("/dev/null", "w")) != NULL);
    CHECK(forkguard_register_mutex(&printed, &FORKGUARD_NAMED("printed")));
    for (int i = 0; i < 3; i++) start(print_what_a_lock_protects, NULL);
    start(flush_all, NULL);
    uint64_t longest = 0;
    for (int i = 0; i < FORKS; i++) {
        uint64_t began = forkguard_nanoseconds();
        pid_t child = i % 2 ? fork() : forkguard_fork(FORKGUARD_FORK_NO_FLUSH);
        if (child == 0) {
            alarm(20);
            CHECK(pthread_mutex_lock(&printed) == 0 && pthread_mutex_unlock(&printed) == 0);
            CHECK(fflush(NULL) == 0);
            FILE *other = fopen("/dev/null", "w");
            CHECK(other && fclose(other) == 0);
            _exit(0);
        }
        uint64_t took = forkguard_nanoseconds() - began;
        if (took > longest) longest = took;
        check_child(child);
    }
    CHECK(longest < UINT64_C(2500000000));
    dprintf(1, "%d forks beside streams that wait for a lock, longest %u ms\n", FORKS, (unsigned)(longest / 1000000));
    _exit(0);
}

// ---- what users do wrong ----

static int lying_reinitialized, lying_unlocked, lying_taken;
static int always(void *lock) {
    (void)lock;
    lying_taken++;
    return 0;
}
static int never(void *lock) {
    (void)lock;
    return EBUSY;
}
static int broken(void *lock) {
    (void)lock;
    return EIO;
}
static int undo(void *lock) {
    (void)lock;
    lying_unlocked++;
    return 0;
}
static int anew(void *lock) {
    (void)lock;
    lying_reinitialized++;
    return 0;
}

static int refused(uint64_t id) { return id == 0 ? errno : 0; }

static int scenario_refusals(void) {
    pthread_mutexattr_t attributes;
    pthread_mutex_t mutex;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    CHECK(pthread_mutex_init(&mutex, &attributes) == 0);
    CHECK(refused(forkguard_register_mutex(&mutex, NULL)) == ENOTSUP);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_PRIVATE);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    CHECK(pthread_mutex_init(&mutex, &attributes) == 0);
    CHECK(refused(forkguard_register_mutex(&mutex, NULL)) == ENOTSUP);
    pthread_rwlockattr_t shared;
    pthread_rwlock_t rwlock;
    pthread_rwlockattr_init(&shared);
    pthread_rwlockattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
    CHECK(pthread_rwlock_init(&rwlock, &shared) == 0);
    CHECK(refused(forkguard_register_rwlock(&rwlock, NULL)) == ENOTSUP);
    pthread_condattr_t conditions;
    pthread_cond_t condition;
    pthread_condattr_init(&conditions);
    pthread_condattr_setpshared(&conditions, PTHREAD_PROCESS_SHARED);
    CHECK(pthread_cond_init(&condition, &conditions) == 0);
    CHECK(refused(forkguard_register_condition(&condition, NULL)) == ENOTSUP);
    CHECK(refused(forkguard_register_lock(&(forkguard_foreign_lock){.lock = NULL})) == EINVAL);
    CHECK(refused(forkguard_register_lock(&(forkguard_foreign_lock){.lock = &mutex})) == EINVAL);
#if defined(__GLIBC__)
    pthread_mutex_t destroyed = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_destroy(&destroyed);
    CHECK(refused(forkguard_register_mutex(&destroyed, NULL)) == EINVAL);
#endif
    CHECK(forkguard_registered_count() == 0);
    pthread_mutex_t twice = PTHREAD_MUTEX_INITIALIZER;
    uint64_t id = forkguard_register_mutex(&twice, &FORKGUARD_NAMED("twice"));
    CHECK(id != 0 && forkguard_registration_of(&twice) == id);
    CHECK(refused(forkguard_register_mutex(&twice, &FORKGUARD_NAMED("twice"))) == EEXIST && forkguard_registered_count() == 1);
    CHECK(forkguard_unregister(id) == 0 && forkguard_registration_of(&twice) == 0);
    id = forkguard_register_mutex(&twice, NULL);
    CHECK(id != 0 && forkguard_unregister(id) == 0);
    return 0;
}

/// Refused registrations, and locks that lie, fail, or are freed while registered.
int scenario_foreign_wrong(void) {
    scenario_refusals();
    CHECK(forkguard_set_deadline_ms(100) == 0);
    forkguard_report report;

    // Freed while registered: unmapped, and overwritten.
    pthread_mutex_t *gone = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_mutex_t overwritten = PTHREAD_MUTEX_INITIALIZER;
    CHECK(gone != MAP_FAILED && pthread_mutex_init(gone, NULL) == 0);
    CHECK(forkguard_register_mutex(gone, &FORKGUARD_NAMED("unmapped")) && forkguard_register_mutex(&overwritten, &FORKGUARD_NAMED("overwritten")));
    munmap(gone, 4096);
    memset(&overwritten, 0x5a, sizeof overwritten);
    for (int i = 0; i < 3; i++) {
        pid_t child = fork();
        if (child == 0) _exit(0);
        check_child(child);
        CHECK(forkguard_last_report(&report) == 0 && report.hook_failures_count == (i == 0 ? 2u : 0u));
    }
    CHECK(forkguard_registered_count() == 0);

    // Says that it was taken although somebody has it: believed, undone once for each time, made anew in the child.
    const forkguard_lock_operations liar = {.try_lock = always, .unlock = undo, .reinitialize = anew};
    int something;
    uint64_t id = forkguard_register_lock(&(forkguard_foreign_lock){.lock = &something, .operations = &liar, .name = "liar"});
    for (int i = 0; i < 10; i++) {
        pid_t child = i % 2 ? fork() : forkguard_fork(0);
        if (child == 0) _exit(lying_reinitialized == 1 ? 0 : 1);
        check_child(child);
        CHECK(lying_reinitialized == 0 && lying_unlocked == lying_taken);
    }
    CHECK(id && forkguard_unregister(id) == 0);

    // Says that it is never to be had: the deadline, and its name.
    const forkguard_lock_operations miser = {.try_lock = never, .unlock = undo, .reinitialize = anew};
    id = forkguard_register_lock(&(forkguard_foreign_lock){.lock = &something, .operations = &miser, .name = "miser"});
    CHECK(forkguard_fork(0) == -1 && errno == ETIMEDOUT);
    CHECK(forkguard_last_report(&report) == 0 && strcmp(report.blocker.lock_name, "miser") == 0);
    pid_t child = fork();
    if (child == 0) {
        CHECK(forkguard_last_report(&report) == 0 && report.torn_holders[0].mark == FORKGUARD_MARK_LATE);
        _exit(0);
    }
    check_child(child);
    CHECK(id && forkguard_unregister(id) == 0);

    // Fails: reported, dropped.
    const forkguard_lock_operations wreck = {.try_lock = broken, .unlock = undo, .reinitialize = anew};
    CHECK(forkguard_register_lock(&(forkguard_foreign_lock){.lock = &something, .operations = &wreck, .name = "wreck"}));
    child = forkguard_fork(0);
    if (child == 0) _exit(0);
    check_child(child);
    CHECK(forkguard_last_report(&report) == 0 && report.hook_failures[0].code == EIO && strcmp(report.hook_failures[0].name, "wreck") == 0);
    CHECK(forkguard_registered_count() == 0);
    printf("refused, dropped, named\n");
    return 0;
}

// ---- late discovery ----

static void *lock_and_unlock(void *context) {
    CHECK(lock(context) == 0 && unlock(context) == 0);
    return NULL;
}

// Whether somebody sleeps for it, where that can be seen.
static bool looks_contended(subject *subject) {
#if defined(__GLIBC__)
    return __atomic_load_n(&subject->lock.mutex.__data.__lock, __ATOMIC_SEQ_CST) == 2;
#else
    (void)subject;
    return true;
#endif
}

/// Locks after forks that ran no handlers: those of vanished threads are made anew and torn, the forker's and the child's own are left alone.
int scenario_foreign_late(void) {
    pid_t (*ways[])(void) = {fork_by_underscore, fork_by_system_call, fork_by_clone, fork_by_clone3};
    pthread_barrier_init(&held, NULL, 2);
    static subject theirs, mine, unused;
    make(&theirs, &kinds[1]);
    make(&mine, &kinds[2]);
    make(&unused, &kinds[1]);
    forkguard_foreign_lock made = FORKGUARD_NAMED("theirs");
    made.torn = rebuild;
    CHECK(forkguard_register_mutex(&theirs.lock.mutex, &made));
    enroll(&mine);
    enroll(&unused);
    start(hold_for_ever, &theirs);
    pthread_barrier_wait(&held);
    CHECK(lock(&mine) == 0);
    for (int i = 0; i < 200; i++) {
        pid_t child = ways[i % 4]();
        if (child == 0) {
            alarm(20);
            if (i % 8 >= 4) {
                // A bypassed fork in a child that does not know yet.
                pid_t grandchild = ways[i % 4]();
                if (grandchild != 0) {
                    check_child(grandchild);
                    _exit(0);
                }
                alarm(20);
            }
            // Before anybody asks ForkGuard: used by the child already when it finds out.
            CHECK(lock(&unused) == 0);
            CHECK(forkguard_generation() == 2);
            CHECK(rebuilt == 1);
            CHECK(lock(&theirs) == 0 && unlock(&theirs) == 0);
            CHECK(try_on_another_thread(&unused) == EBUSY && unlock(&unused) == 0);
            CHECK(try_on_another_thread(&unused) == 0);
            CHECK(try_on_another_thread(&mine) == EBUSY && unlock(&mine) == 0);
            forkguard_report report;
            CHECK(forkguard_last_report(&report) == 0 && report.seen == FORKGUARD_SEEN_LATE && report.generation == 2);
            // A bare system call leaves the C library with the parent's thread id: then what the child locked looks as if the parent had.
            CHECK(report.foreign_own == 1 || report.foreign_own == 2);
            CHECK(report.torn_holders_count >= 1 && report.torn_holders[0].mark == FORKGUARD_MARK_BYPASS);
            _exit(0);
        }
        check_child(child);
        CHECK(rebuilt == 0);
    }
    CHECK(unlock(&mine) == 0);
    // A thread of the child's that waited for a vanished holder before anybody asked is woken.
    pid_t child = fork_by_underscore();
    if (child == 0) {
        alarm(20);
        pthread_t waiter;
        CHECK(pthread_create(&waiter, NULL, lock_and_unlock, &theirs) == 0);
        while (!looks_contended(&theirs)) usleep(100);
        usleep(1000);
        forkguard_generation();
        pthread_join(waiter, NULL);
        _exit(0);
    }
    check_child(child);
    printf("200 late discoveries ok\n");
    return 0;
}

// ---- 22: conditions ----

typedef struct gathering {
    forkguard_lock_t lock;
    forkguard_condition_t changed;
    unsigned waiting, tickets;
    pthread_mutex_t mutex;
    pthread_cond_t condition;
    unsigned plain_waiting, plain_tickets;
} gathering;

static gathering room = {
    .lock = FORKGUARD_LOCK_INITIALIZER("room"),
    .changed = FORKGUARD_CONDITION_INITIALIZER("room changed"),
    .mutex = PTHREAD_MUTEX_INITIALIZER,
    .condition = PTHREAD_COND_INITIALIZER,
};

static void *wait_for_ticket(void *context) {
    (void)context;
    forkguard_lock(&room.lock);
    room.waiting++;
    uint64_t deadline = forkguard_nanoseconds() + UINT64_C(15000000000);
    while (room.tickets == 0) CHECK(forkguard_condition_wait(&room.changed, &room.lock, deadline) == 0);
    room.tickets--;
    room.waiting--;
    forkguard_unlock(&room.lock);
    return NULL;
}

static void *wait_plainly(void *context) {
    (void)context;
    pthread_mutex_lock(&room.mutex);
    room.plain_waiting++;
    while (room.plain_tickets == 0) pthread_cond_wait(&room.condition, &room.mutex);
    room.plain_tickets--;
    room.plain_waiting--;
    pthread_mutex_unlock(&room.mutex);
    return NULL;
}

static void await_waiting(unsigned *count, unsigned wanted) {
    for (;;) {
        forkguard_lock(&room.lock);
        pthread_mutex_lock(&room.mutex);
        bool there = *count == wanted;
        pthread_mutex_unlock(&room.mutex);
        forkguard_unlock(&room.lock);
        if (there) return;
        usleep(200);
    }
}

/// In a child with vanished waiters: signals reach the child's own threads, broadcasts return, time runs out.
static void use_conditions(void) {
    room.waiting = room.plain_waiting = 0;
    pthread_t threads[4];
    for (int i = 0; i < 2; i++) CHECK(pthread_create(&threads[i], NULL, wait_for_ticket, NULL) == 0);
    for (int i = 2; i < 4; i++) CHECK(pthread_create(&threads[i], NULL, wait_plainly, NULL) == 0);
    await_waiting(&room.waiting, 2);
    await_waiting(&room.plain_waiting, 2);
    for (int i = 0; i < 2; i++) {
        forkguard_lock(&room.lock);
        room.tickets++;
        forkguard_unlock(&room.lock);
        if (i == 0) forkguard_condition_signal(&room.changed);
        else forkguard_condition_broadcast(&room.changed);
        pthread_mutex_lock(&room.mutex);
        room.plain_tickets++;
        pthread_mutex_unlock(&room.mutex);
        if (i == 0) pthread_cond_signal(&room.condition);
        else pthread_cond_broadcast(&room.condition);
    }
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    forkguard_lock(&room.lock);
    uint64_t began = forkguard_nanoseconds();
    while (forkguard_condition_wait(&room.changed, &room.lock, began + 20000000) == 0) {}
    uint64_t took = forkguard_nanoseconds() - began;
    CHECK(took >= 20000000 && took < UINT64_C(5000000000));
    forkguard_unlock(&room.lock);
}

int scenario_condition(void) {
    enum { WAITERS = 4, FORKS = 100 };
    CHECK(forkguard_register_mutex(&room.mutex, &FORKGUARD_NAMED("room's mutex")));
    CHECK(forkguard_register_condition(&room.condition, &FORKGUARD_NAMED("room's condition")));
    for (int i = 0; i < WAITERS; i++) {
        start(wait_for_ticket, NULL);
        start(wait_plainly, NULL);
    }
    await_waiting(&room.waiting, WAITERS);
    await_waiting(&room.plain_waiting, WAITERS);
    for (int i = 0; i < FORKS; i++) {
        pid_t child = i % 3 == 0 ? forkguard_fork(0) : i % 3 == 1 ? fork() : fork_by_underscore();
        if (child == 0) {
            alarm(20);
            forkguard_generation();
            use_conditions();
            _exit(0);
        }
        check_child(child);
    }
    // The parent's own still wait, and are woken.
    for (int i = 0; i < WAITERS; i++) {
        forkguard_lock(&room.lock);
        room.tickets++;
        forkguard_unlock(&room.lock);
        forkguard_condition_signal(&room.changed);
    }
    await_waiting(&room.waiting, 0);
    printf("%d children of %d waiters ok\n", FORKS, 2 * WAITERS);
    return 0;
}

/// The control: a pthread condition variable that is not registered.
int scenario_condition_control(void) {
    for (int i = 0; i < 2; i++) start(wait_plainly, NULL);
    await_waiting(&room.plain_waiting, 2);
    pid_t child = fork();
    if (child == 0) {
        alarm(2);
        room.plain_waiting = 0;
        start(wait_plainly, NULL);
        await_waiting(&room.plain_waiting, 1);
        for (int i = 0; i < 3; i++) {
            pthread_mutex_lock(&room.mutex);
            room.plain_tickets = 1;
            pthread_mutex_unlock(&room.mutex);
            pthread_cond_broadcast(&room.condition);
            await_waiting(&room.plain_waiting, 0);
            start(wait_plainly, NULL);
            await_waiting(&room.plain_waiting, 1);
        }
        _exit(0);
    }
    int status = wait_for(child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM);
    printf("control: the child hung\n");
    return 0;
}

int scenario_condition_unlocked(void) {
    forkguard_condition_wait(&room.changed, &room.lock, 0);
    return 0;
}
