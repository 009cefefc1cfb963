// Gate, lock, condition, registry and foreign locks with the fork left out: the handlers are called, prepare and then parent. For ThreadSanitizer, which switches
// itself off in a forked child, and which sees here that whoever looks while the gate is closed looks after everybody who was inside.

#include "probe.h"

void atfork_prepare(void);
void atfork_parent(void);

#ifndef STUBBED_FORKS // fewer under valgrind
#define STUBBED_FORKS 1500
#endif

enum { ACCOUNTS = 4, WORKERS = 4, FORKERS = 2, FORKS = STUBBED_FORKS };

// No atomics: only the locks keep threads apart, and only the gate keeps them from the forker.
static struct {
    forkguard_lock_t lock;
    unsigned long a, b;
} accounts[ACCOUNTS];

static struct {
    pthread_mutex_t lock;
    unsigned long a, b;
} foreign = {.lock = PTHREAD_MUTEX_INITIALIZER};

static forkguard_lock_t box_lock = FORKGUARD_LOCK_INITIALIZER("box");
static forkguard_condition_t box_changed = FORKGUARD_CONDITION_INITIALIZER("box changed");
static unsigned long box_put, box_taken;
static bool over; // atomic

static bool is_over(void) { return __atomic_load_n(&over, __ATOMIC_ACQUIRE); }

static void *work(void *number) {
    for (unsigned long i = (unsigned long)number; !is_over(); i++) {
        unsigned outer = i % ACCOUNTS, inner = (i / ACCOUNTS) % ACCOUNTS;
        if (i % 5 == 0) {
            if (forkguard_trylock(&accounts[outer].lock) == FORKGUARD_BUSY) continue;
        } else {
            forkguard_lock(&accounts[outer].lock);
        }
        accounts[outer].a++;
        // Only in the order of the numbers, or the threads would deadlock among themselves.
        if (inner > outer) {
            forkguard_lock(&accounts[inner].lock);
            accounts[inner].a++;
            accounts[inner].b++;
            forkguard_unlock(&accounts[inner].lock);
        }
        accounts[outer].b++;
        forkguard_unlock(&accounts[outer].lock);
    }
    return NULL;
}

static void *work_foreign(void *context) {
    while (!is_over()) {
        pthread_mutex_lock(&foreign.lock);
        foreign.a++;
        foreign.b++;
        pthread_mutex_unlock(&foreign.lock);
    }
    return context;
}

static void *put(void *context) {
    while (!is_over()) {
        forkguard_lock(&box_lock);
        box_put++;
        forkguard_unlock(&box_lock);
        forkguard_condition_signal(&box_changed);
    }
    forkguard_condition_broadcast(&box_changed);
    return context;
}

static void *take(void *context) {
    forkguard_lock(&box_lock);
    while (!is_over()) {
        while (box_taken == box_put && !is_over()) forkguard_condition_wait(&box_changed, &box_lock, forkguard_nanoseconds() + 1000000);
        box_taken = box_put;
        forkguard_unlock(&box_lock);
        forkguard_lock(&box_lock);
    }
    forkguard_unlock(&box_lock);
    return context;
}

static int count(void *context) {
    ++*(unsigned long *)context;
    return 0;
}

static void *come_and_go(void *context) {
    static unsigned long hooks; // hooks of two forks do not interleave
    pthread_mutex_t passing = PTHREAD_MUTEX_INITIALIZER;
    forkguard_resource resource = {.name = "passing", .prepare = count, .parent = count, .context = &hooks};
    while (!is_over()) {
        uint64_t ids[] = {forkguard_register_resource(&resource), forkguard_register_mutex(&passing, &FORKGUARD_NAMED("passing"))};
        for (unsigned i = 0; i < 2; i++) CHECK(ids[i] && forkguard_unregister(ids[i]) == 0);
        forkguard_report report;
        if (forkguard_last_report(&report) == 0) CHECK(report.side == FORKGUARD_PARENT);
    }
    return context;
}

static void *fork_without_forking(void *context) {
    for (int i = 0; i < FORKS; i++) {
        atfork_prepare();
        for (unsigned account = 0; account < ACCOUNTS; account++) CHECK(accounts[account].a == accounts[account].b);
        CHECK(foreign.a == foreign.b && box_taken <= box_put);
        atfork_parent();
    }
    return context;
}

int scenario_stubbed(void) {
    CHECK(forkguard_register_mutex(&foreign.lock, &FORKGUARD_NAMED("foreign")));
    pthread_t workers[WORKERS + 4], forkers[FORKERS];
    for (unsigned long i = 0; i < WORKERS; i++) pthread_create(&workers[i], NULL, work, (void *)i);
    void *(*others[])(void *) = {work_foreign, put, take, come_and_go};
    for (unsigned i = 0; i < 4; i++) pthread_create(&workers[WORKERS + i], NULL, others[i], NULL);
    for (unsigned i = 0; i < FORKERS; i++) pthread_create(&forkers[i], NULL, fork_without_forking, NULL);
    for (unsigned i = 0; i < FORKERS; i++) pthread_join(forkers[i], NULL);
    __atomic_store_n(&over, true, __ATOMIC_RELEASE);
    for (unsigned i = 0; i < WORKERS + 4; i++) pthread_join(workers[i], NULL);
    unsigned long booked = 0;
    for (unsigned account = 0; account < ACCOUNTS; account++) booked += accounts[account].a;
    CHECK(booked > 0 && foreign.a > 0 && box_taken > 0);
    printf("%d forks left out, %lu bookings\n", FORKERS * FORKS, booked);
    return 0;
}
