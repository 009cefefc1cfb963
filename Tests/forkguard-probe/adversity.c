// What happens at a bad moment: signals, cancellation, a survivor that nobody knows, handlers that ask early, forks that wait for each other.

#include "probe.h"

#include <sched.h>
#include <sys/wait.h>
#include <time.h>

static forkguard_lock_t first = FORKGUARD_LOCK_INITIALIZER("first"), second = FORKGUARD_LOCK_INITIALIZER("second");
static volatile int inside, stop, comes;

static void join(pthread_t thread) { CHECK(pthread_join(thread, NULL) == 0); }

static void yield(void) { usleep(100); }

static bool gate_is_closed(void) { return __atomic_load_n(&forkguard_page.word.gate, __ATOMIC_SEQ_CST) == FORKGUARD_GATE_CLOSED; }

static uint64_t milliseconds_since(uint64_t began) { return (forkguard_nanoseconds() - began) / 1000000; }

// ---- a survivor that nobody knows: another thread of the child looked first ----

static void *discover_and_wait(void *context) {
    (void)context;
    forkguard_generation();
    stop = 1;
    while (!inside) yield();
    comes = 1;
    CHECK(forkguard_lock(&first) == FORKGUARD_LOCKED);
    CHECK(!inside);
    forkguard_unlock(&first);
    return NULL;
}

static void *discover_and_hold(void *context) {
    *(forkguard_slot **)context = NULL;
    forkguard_lock(&first);
    *(forkguard_slot **)context = forkguard_thread_slot;
    inside = 1;
    while (!stop) yield();
    inside = 0;
    forkguard_unlock(&first);
    return NULL;
}

static void *stop_soon(void *context) {
    (void)context;
    usleep(2000);
    stop = 1;
    return NULL;
}

static void *discover_and_fork(void *context) {
    (void)context;
    forkguard_generation();
    stop = 1;
    while (!inside) yield();
    CHECK(forkguard_set_deadline_ms(200) == 0);
    pid_t child = forkguard_fork(0);
    if (child == 0) _exit(0);
    CHECK(child < 0 && errno == ETIMEDOUT);
    comes = 1;
    return NULL;
}

// forkguard_fork waits for a survivor that nobody knew when it began a section.
static void be_waited_for(void) {
    pid_t child = fork_by_underscore();
    if (child == 0) {
        alarm(20);
        pthread_t other = start(discover_and_fork, NULL);
        while (!stop) yield();
        forkguard_slot *slot = forkguard_section_begin();
        inside = 1;
        while (!comes) yield();
        forkguard_section_end(slot);
        join(other);
        _exit(0);
    }
    check_child(child);
}

/// What the survivor locks before it is known is its own; and its slot is nobody else's, in a grandchild neither.
int scenario_unknown_survivor(void) {
    forkguard_lock(&first);
    forkguard_unlock(&first);
    be_waited_for();
    for (int i = 0; i < 50; i++) {
        pid_t child = fork_by_underscore();
        if (child == 0) {
            alarm(20);
            pthread_t other = start(discover_and_wait, NULL);
            while (!stop) yield();
            forkguard_lock(&first);
            inside = 1;
            while (!comes) yield();
            usleep(2000);
            inside = 0;
            forkguard_unlock(&first);
            join(other);
            _exit(0);
        }
        check_child(child);
        child = fork();
        if (child == 0) {
            pid_t grandchild = fork_by_underscore();
            if (grandchild == 0) {
                alarm(20);
                static forkguard_slot *theirs;
                pthread_t other = start(discover_and_hold, &theirs);
                while (!inside) yield();
                CHECK(theirs != forkguard_thread_slot);
                pthread_t later = start(stop_soon, NULL);
                forkguard_lock(&first);
                CHECK(!inside);
                forkguard_unlock(&first);
                join(other);
                join(later);
                _exit(0);
            }
            check_child(grandchild);
            _exit(0);
        }
        check_child(child);
    }
    printf("101 unknown survivors ok\n");
    return 0;
}

// ---- a child handler that was registered before the library's asks which process this is ----

static uint64_t early_generation;
static bool asks_early;
static void ask_early(void) {
    if (asks_early) early_generation = forkguard_generation();
}

// ---- a prepare handler that was registered before the library's runs when the gate is closed, as what libc does itself in fork() ----

static pthread_mutex_t wanted_by_fork = PTHREAD_MUTEX_INITIALIZER;
static bool wants_mutex, is_cancellation_point, forks_itself;
static void want_mutex(void) {
    if (wants_mutex) {
        pthread_mutex_lock(&wanted_by_fork);
        pthread_mutex_unlock(&wanted_by_fork);
    }
    if (is_cancellation_point) pthread_testcancel();
    if (forks_itself) {
        forks_itself = false;
        pid_t child = fork();
        if (child == 0) _exit(0);
        check_child(child);
    }
}

__attribute__((constructor(101))) static void register_handlers_first(void) { atfork_for_good(want_mutex, NULL, ask_early); }

int scenario_early_handler(void) {
    asks_early = true;
    forkguard_lock(&first);
    for (int i = 0; i < 50; i++) {
        pid_t child = i % 2 ? fork() : forkguard_fork(FORKGUARD_FORK_HOLDING_LOCKS);
        if (child == 0) {
            alarm(20);
            CHECK(early_generation == 2 && forkguard_generation() == 2 && forkguard_is_current(early_generation));
            CHECK(forkguard_lock_is_mine(&first));
            forkguard_report report;
            CHECK(forkguard_last_report(&report) == 0 && report.seen == FORKGUARD_SEEN_HANDLERS && report.side == FORKGUARD_CHILD);
            forkguard_unlock(&first);
            _exit(0);
        }
        check_child(child);
    }
    printf("50 early questions ok\n");
    return 0;
}

// ---- patience under signals ----

static void ignore(int signal) { (void)signal; }

static void *hold_what_fork_wants(void *context) {
    (void)context;
    pthread_mutex_lock(&wanted_by_fork);
    inside = 1;
    while (!gate_is_closed()) yield();
    forkguard_lock(&first); // parks
    forkguard_unlock(&first);
    pthread_mutex_unlock(&wanted_by_fork);
    stop = 1;
    return NULL;
}

static void *keep_signalling(void *thread) {
    while (!stop) {
        usleep(10000);
        if (!stop) pthread_kill(*(pthread_t *)thread, SIGUSR1);
    }
    return NULL;
}

/// A parked thread that holds what fork() wants is let in after its patience, also when signals end each of its sleeps.
int scenario_signals(void) {
    wants_mutex = true;
    struct sigaction action = {.sa_handler = ignore, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    uint64_t longest = 0;
    for (int i = 0; i < 5; i++) {
        inside = stop = 0;
        pthread_t holder = start(hold_what_fork_wants, NULL);
        while (!inside) yield();
        pthread_t signaller = start(keep_signalling, &holder);
        uint64_t began = forkguard_nanoseconds();
        pid_t child = fork();
        if (child == 0) _exit(0);
        uint64_t took = milliseconds_since(began);
        if (took > longest) longest = took;
        check_child(child);
        join(signaller);
        join(holder);
    }
    CHECK(longest < 2000);
    printf("5 forks beside signals, longest %u ms\n", (unsigned)longest);
    return 0;
}

// ---- cancellation ----

static void *hold_for_a_while(void *context) {
    (void)context;
    forkguard_lock(&first);
    inside = 1;
    while (!gate_is_closed()) yield();
    usleep(20000);
    forkguard_unlock(&first);
    return NULL;
}

static pid_t fork_and_exit(void) {
    pid_t child = fork();
    if (child == 0) _exit(0);
    return child;
}

static void *fork_cancelled(void *made) {
    pthread_cancel(pthread_self());
    pid_t child = fork();
    if (child == 0) _exit(0);
    *(pid_t *)made = child;
    pthread_testcancel();
    return NULL;
}

/// A thread with a cancellation pending forks to the end, and is cancelled after it; nobody finds the gate closed.
int scenario_cancelled(void) {
    for (int i = 0; i < 20; i++) {
        inside = 0;
        pid_t child = 0;
        pthread_t holder = start(hold_for_a_while, NULL);
        while (!inside) yield();
        void *result;
        CHECK(pthread_join(start(fork_cancelled, &child), &result) == 0 && result == PTHREAD_CANCELED);
        check_child(child);
        forkguard_lock(&second);
        forkguard_unlock(&second);
        join(holder);
    }
    printf("20 cancelled forkers ok\n");
    return 0;
}

/// The same where nothing is registered and no other thread has taken a lock, with somebody's prepare handler that could be cancelled.
int scenario_cancelled_alone(void) {
    is_cancellation_point = true;
    pid_t child = 0;
    void *result;
    CHECK(pthread_join(start(fork_cancelled, &child), &result) == 0 && result == PTHREAD_CANCELED);
    check_child(child);
    is_cancellation_point = false;
    uint64_t began = forkguard_nanoseconds();
    check_child(fork_and_exit());
    forkguard_lock(&first);
    forkguard_unlock(&first);
    check_child(fork_and_exit());
    CHECK(milliseconds_since(began) < 2000);
    printf("cancelled alone ok\n");
    return 0;
}

// ---- a wake-up that goes to a thread which then parks ----

static void *hold_until_closed(void *context) {
    (void)context;
    forkguard_lock(&first);
    inside = 1;
    while (!gate_is_closed()) yield();
    forkguard_unlock(&first);
    return NULL;
}

static void *lock_first(void *context) {
    (void)context;
    forkguard_lock(&first);
    forkguard_unlock(&first);
    return NULL;
}

static void *lock_second_then_first(void *context) {
    forkguard_lock(&second);
    lock_first(context);
    forkguard_unlock(&second);
    return NULL;
}

static bool somebody_sleeps_on_first(void) { return __atomic_load_n(&first.word, __ATOMIC_SEQ_CST) & FORKGUARD_WORD_CONTENDED; }

/// The thread behind it, which is inside another lock and must come out, is woken in its place: no fork needs a window.
int scenario_carried_wake(void) {
    enum { FORKS = 40 };
    unsigned windows = 0;
    for (int i = 0; i < FORKS; i++) {
        inside = 0;
        pthread_t holder = start(hold_until_closed, NULL);
        while (!inside) yield();
        pthread_t outer = start(lock_first, NULL);
        while (!somebody_sleeps_on_first()) yield();
        pthread_t nested = start(lock_second_then_first, NULL);
        // There is no telling from outside that it sleeps; most of the rounds hit.
        usleep(2000);
        pid_t child = fork();
        if (child == 0) _exit(0);
        check_child(child);
        forkguard_report report;
        CHECK(forkguard_last_report(&report) == 0);
        windows += report.windows;
        join(holder);
        join(outer);
        join(nested);
    }
    CHECK(windows <= FORKS / 4);
    printf("%d forks, %u windows\n", FORKS, windows);
    return 0;
}

// ---- who only passes by when the deadline comes ----

static void *hold_for_ever(void *context) {
    forkguard_lock(&first);
    inside = 1;
    for (;;) pause();
    return context;
}

static void *burn(void *context) {
    for (volatile unsigned i = 0;; i++) {}
    return context;
}

/// A holder that never lets go, threads that come and go in another lock, a machine with too much to do: only the holder is late.
int scenario_bystanders(void) {
    enum { FORKS = 300 };
    // When the first window would end, if it were opened.
    CHECK(forkguard_set_deadline_ms(11) == 0);
    for (int i = 0; i < 2; i++) start(burn, NULL);
    hammer(&second, 1, 3);
    start(hold_for_ever, NULL);
    while (!inside) yield();
    unsigned others = 0;
    for (int i = 0; i < FORKS; i++) {
        pid_t child = fork();
        if (child == 0) _exit(0);
        check_child(child);
        forkguard_report report;
        CHECK(forkguard_last_report(&report) == 0 && report.torn_holders_count >= 1);
        // Who is let in by a window that ends at the deadline could not leave again.
        CHECK(report.windows == 0);
        others += report.torn_holders_count - 1;
    }
    // How many is up to the machine: one is torn that is without a processor, inside, for all of the last ten milliseconds. 3 to 5 where nothing else runs.
    printf("%d forks past the deadline, %u bystanders torn\n", FORKS, others);
    CHECK(others <= FORKS);
    return 0;
}

// ---- forkguard_fork: two that hold locks, and one that borrowed its turn ----

static forkguard_lock_t both[2] = {FORKGUARD_LOCK_INITIALIZER("one"), FORKGUARD_LOCK_INITIALIZER("other")};
static pthread_barrier_t together;
static int prepares, forked, refused;

static int count_prepare(void *context) {
    (void)context;
    __atomic_fetch_add(&prepares, 1, __ATOMIC_RELAXED);
    return 0;
}

static void *hold_and_fork(void *lock) {
    forkguard_lock(lock);
    pthread_barrier_wait(&together);
    pid_t child = forkguard_fork(FORKGUARD_FORK_HOLDING_LOCKS);
    if (child == 0) _exit(0);
    if (child > 0) check_child(child);
    else CHECK(errno == EPERM);
    __atomic_fetch_add(child > 0 ? &forked : &refused, 1, __ATOMIC_RELAXED);
    forkguard_unlock(lock);
    return NULL;
}

/// One of them is refused at once, the other forks: neither asks the other to go first for ever.
int scenario_both_hold(void) {
    enum { ROUNDS = 100 };
    forkguard_resource counter = {.name = "counter", .prepare = count_prepare};
    CHECK(forkguard_register_resource(&counter));
    pthread_barrier_init(&together, NULL, 2);
    for (int i = 0; i < ROUNDS; i++) {
        pthread_t threads[] = {start(hold_and_fork, &both[0]), start(hold_and_fork, &both[1])};
        join(threads[0]);
        join(threads[1]);
    }
    CHECK(forked >= ROUNDS && forked + refused == 2 * ROUNDS && prepares <= 8 * ROUNDS);
    printf("%d forked, %d refused, %d prepare hooks\n", forked, refused, prepares);
    return 0;
}

static pthread_t lender;

static int want_first(void *context) {
    (void)context;
    if (!pthread_equal(pthread_self(), lender)) return 0;
    inside = 1;
    forkguard_lock(&first);
    forkguard_unlock(&first);
    return 0;
}

static void *fork_with_second(void *context) {
    (void)context;
    lender = pthread_self();
    forkguard_lock(&second);
    pid_t child = fork();
    if (child == 0) _exit(0);
    check_child(child);
    forkguard_unlock(&second);
    return NULL;
}

/// Who borrows its turn from a thread that holds a lock cannot fork without tearing that: it is refused at once, lets go, and the lender's hook goes on.
int scenario_borrower(void) {
    forkguard_resource resource = {.name = "wants first", .prepare = want_first};
    CHECK(forkguard_register_resource(&resource));
    for (int i = 0; i < 50; i++) {
        inside = 0;
        forkguard_lock(&first);
        pthread_t thread = start(fork_with_second, NULL);
        while (!inside) yield();
        uint64_t began = forkguard_nanoseconds();
        pid_t child = forkguard_fork(FORKGUARD_FORK_HOLDING_LOCKS);
        CHECK(child == -1 && errno == EPERM && milliseconds_since(began) < 2000);
        forkguard_unlock(&first);
        join(thread);
    }
    printf("50 borrowers refused\n");
    return 0;
}

// ---- a raw fork in a prepare handler of somebody else's, while the gate is closed ----

static int hooked_children;

static int count_child(void *context) {
    (void)context;
    hooked_children++;
    return 0;
}

/// It is nobody's fork but its own: the one under way goes on, with its hooks and its locks.
int scenario_handler_fork(void) {
    forkguard_resource counter = {.name = "counter", .child = count_child};
    CHECK(forkguard_register_resource(&counter));
    hammer(&second, 1, 2);
    for (int i = 0; i < 50; i++) {
        forks_itself = true;
        pid_t child = i % 2 ? fork() : forkguard_fork(0);
        if (child == 0) {
            alarm(20);
            CHECK(hooked_children == 1 && forkguard_generation() == 2);
            CHECK(forkguard_lock(&second) == FORKGUARD_LOCKED);
            forkguard_unlock(&second);
            _exit(0);
        }
        check_child(child);
        CHECK(hooked_children == 0 && forkguard_generation() == 1 && !forks_itself);
        forkguard_lock(&second);
        forkguard_unlock(&second);
    }
    printf("50 forks in handlers ok\n");
    return 0;
}

// ---- hooks that are owed, one of which forks ----

static int first_ran, forked_inside;
static pid_t grandchild = -1;

static int note_run(void *context) {
    (void)context;
    first_ran++;
    return 0;
}

static int fork_once(void *context) {
    (void)context;
    if (forked_inside++ == 0) {
        grandchild = fork();
        if (grandchild == 0) first_ran = 0;
    }
    return 0;
}

/// A raw fork in a hook that runs late: everything is owed anew to the grandchild.
int scenario_owed_fork(void) {
    forkguard_resource one = {.name = "first", .child = note_run}, other = {.name = "forks", .child = fork_once};
    CHECK(forkguard_register_resource(&one) && forkguard_register_resource(&other));
    for (int i = 0; i < 20; i++) {
        pid_t child = fork_by_underscore();
        if (child == 0) {
            alarm(20);
            uint64_t generation = forkguard_generation();
            CHECK(first_ran == 1 && generation == (grandchild == 0 ? 3u : 2u));
            if (grandchild != 0) check_child(grandchild);
            _exit(0);
        }
        check_child(child);
    }
    printf("20 owed forks ok\n");
    return 0;
}

// ---- a hook that waits for the first use, and is cancelled during the fork ----

static int prepare_ran, use_ran;
static uint64_t waits_for_use;

static int note_prepare(void *context) {
    (void)context;
    prepare_ran++;
    return 0;
}

static int note_use(void *context) {
    (void)context;
    use_ran++;
    return 0;
}

static int cancel_it(void *context) {
    (void)context;
    CHECK(forkguard_unregister(waits_for_use) == 0);
    return 0;
}

/// A cancellation counts from the next fork: who was prepared is told, at the first use too.
int scenario_first_use_cancelled(void) {
    forkguard_resource one = {.name = "waits", .prepare = note_prepare, .child = note_use, .flags = FORKGUARD_ON_FIRST_USE};
    forkguard_resource other = {.name = "cancels", .prepare = cancel_it};
    for (int i = 0; i < 20; i++) {
        prepare_ran = 0;
        CHECK((waits_for_use = forkguard_register_resource(&one)) != 0);
        uint64_t cancels = forkguard_register_resource(&other);
        CHECK(cancels != 0);
        pid_t child = i & 1 ? fork() : forkguard_fork(0);
        if (child == 0) {
            alarm(20);
            forkguard_generation();
            CHECK(prepare_ran == 1 && use_ran == 1 && forkguard_registered_count() == 1);
            // The next one is not told any more.
            CHECK(forkguard_unregister(cancels) == 0);
            pid_t next = fork();
            if (next == 0) {
                forkguard_generation();
                _exit(prepare_ran == 1 && use_ran == 1 ? 0 : 1);
            }
            check_child(next);
            _exit(0);
        }
        check_child(child);
        CHECK(prepare_ran == 1 && use_ran == 0 && forkguard_unregister(cancels) == 0 && forkguard_registered_count() == 0);
    }
    printf("20 cancelled before their use ok\n");
    return 0;
}

// ---- a fork that does not get its turn, beside one that does ----

static _Thread_local bool comes_first;
static _Atomic bool is_known, in_handler;

// Runs after ForkGuard's: the fork has been prepared. Until the other one has given up its turn, after 5 ms, and waits in the C library, which nobody can see but by
// its stack.
static void let_other_come(void) {
    if (!comes_first) return;
    in_handler = true;
    usleep(100000);
}

__attribute__((constructor(102))) static void register_another_first(void) { atfork_for_good(let_other_come, NULL, NULL); }

static void *fork_behind(void *unused) {
    forkguard_lock(&second); // now there is somebody to prepare a fork for
    forkguard_unlock(&second);
    is_known = true;
    while (!in_handler) sched_yield();
    pid_t child = fork();
    if (child == 0) _exit(0);
    check_child(child);
    return unused;
}

/// Neither has what the other waits for: glibc's lock of its handlers, and that of its streams.
int scenario_without_turn(void) {
    static pthread_mutex_t registered = PTHREAD_MUTEX_INITIALIZER;
    CHECK(forkguard_register_mutex(&registered, NULL) != 0 && forkguard_set_deadline_ms(5) == 0);
    for (int i = 0; i < 10; i++) {
        is_known = in_handler = false;
        pthread_t other = start(fork_behind, NULL);
        while (!is_known) sched_yield();
        comes_first = true;
        pid_t child = fork();
        if (child == 0) _exit(0);
        comes_first = false;
        check_child(child);
        CHECK(pthread_join(other, NULL) == 0);
    }
    printf("10 forks without their turn ok\n");
    return 0;
}
