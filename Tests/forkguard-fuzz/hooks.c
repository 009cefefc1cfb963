#include "fuzz.h"

enum behaviour {
    NOTHING, LOCKS_ONE, REGISTERS, CANCELS, ASKS_WORKER, FORKS_RAW, FORKS_GUARDED, FAILS, SIGNALS,
    TRIES_MUTEX, REGISTERS_MUTEX, ENTERS, BEHAVIOURS,
};
enum phase { PREPARE, PARENT, CHILD };

// ---- the worker, which hooks wait for ----

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    unsigned asked, answered;
} mail = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0};

static void *work(void *unused) {
    pthread_mutex_lock(&mail.mutex);
    for (;;) {
        while (mail.asked == mail.answered) pthread_cond_wait(&mail.changed, &mail.mutex);
        unsigned question = mail.asked;
        pthread_mutex_unlock(&mail.mutex);
        CHECK(forkguard_lock(&fuzz.workers.lock) == FORKGUARD_LOCKED);
        change(&fuzz.workers.data, &fuzz.workers.changes);
        forkguard_unlock(&fuzz.workers.lock);
        pthread_mutex_lock(&mail.mutex);
        mail.answered = question;
        pthread_cond_broadcast(&mail.changed);
    }
    return unused;
}

void worker_start(void) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, work, NULL) == 0);
}

static void ask_worker(void) {
    pthread_mutex_lock(&mail.mutex);
    unsigned question = ++mail.asked;
    pthread_cond_broadcast(&mail.changed);
    while ((int)(mail.answered - question) < 0) pthread_cond_wait(&mail.changed, &mail.mutex);
    pthread_mutex_unlock(&mail.mutex);
}

// ---- what a hook does ----

static int behave(hook *hook, enum phase phase) {
    unsigned argument = hook->argument;
    // A child that forks has no worker, and all of its forks are the same.
    if (!(hook->behaviour == FAILS || argument >> phase & 1) || (is_child && phase != CHILD)) return 0;
    unsigned index = argument >> 2;
    switch ((enum behaviour)hook->behaviour) {
    case LOCKS_ONE:
        if (phase == CHILD) {
            if (!holds((int)(index % LOCKS))) child_take(&fuzz.locks[index % LOCKS], true);
        } else {
            unsigned before = self->held_count;
            take((int)(index % LOCKS), true);
            if (self->held_count == before) return 0;
            change(&fuzz.locks[index % LOCKS].data, &fuzz.locks[index % LOCKS].changes);
            leave((int)before);
        }
        return 0;
    case REGISTERS:
        if (phase != CHILD) hook_register(index % HOOKS, argument);
        return 0;
    case CANCELS:
        if (phase != CHILD) hook_cancel(index % HOOKS);
        return 0;
    case ASKS_WORKER:
        if (phase != CHILD) ask_worker();
        return 0;
    case FORKS_RAW:
        if (phase != CHILD) fork_by(FORK, index, true);
        return 0;
    case FORKS_GUARDED:
        if (phase != CHILD) fork_by(GUARDED_FORK, index, true);
        return 0;
    case FAILS: return 5;
    case SIGNALS:
        forkguard_condition_broadcast(&fuzz.conditions[index % CONDITIONS]);
        return 0;
    case TRIES_MUTEX: {
        // Nobody may wait here for a lock that is not ours: its holder may wait for its turn.
        unsigned before = self->held_count;
        if (phase != CHILD && !holds(LOCKS + (int)(index % MUTEXES))) take(LOCKS + (int)(index % MUTEXES), false);
        if (self->held_count != before) leave((int)before);
        return 0;
    }
    case REGISTERS_MUTEX:
        if (phase != CHILD) (index & 2 ? register_mutex : unregister_mutex)(index);
        return 0;
    case ENTERS: forkguard_section_end(forkguard_section_begin()); return 0;
    case NOTHING:
    case BEHAVIOURS: break;
    }
    return 0;
}

static void note(hook *hook, hook_list *list) {
    CHECK(list->count < INSTANCES);
    list->hooks[list->count++] = hook;
}

static int prepare(void *context) {
    frame *frame = self ? self->frame : NULL;
    CHECK(frame != NULL);
    // forkguard_fork that lets others go first ends what it has prepared, and prepares again.
    if (frame->after.count != 0) {
        hooks_check_parent(frame);
        frame->prepared.count = frame->after.count = 0;
        frame->began = frame->ended;
    }
    note(context, &frame->prepared);
    CHECK(((hook *)context)->during != frame->began); // it counts from the next fork
    return behave(context, PREPARE);
}

static int parent(void *context) {
    CHECK(self && self->frame);
    note(context, &self->frame->after);
    self->frame->ended = now();
    return behave(context, PARENT);
}

static int child_(void *context) {
    CHECK(self && self->frame && forkguard_current_hook() != NULL);
    note(context, &self->frame->after);
    return behave(context, CHILD);
}

static void release(void *context) { CHECK(atomic_fetch_add(&((hook *)context)->releases, 1) == 0); }

void hook_register(unsigned index, unsigned argument) {
    int expected = FREE;
    if (!atomic_compare_exchange_strong(&fuzz.hook_lives[index], &expected, CHANGING)) return;
    unsigned number = atomic_fetch_add(&fuzz.instances, 1);
    if (number >= INSTANCES) return atomic_store(&fuzz.hook_lives[index], FREE);
    hook *hook = &fuzz.instance[number];
    hook->behaviour = argument % BEHAVIOURS;
    hook->argument = argument / BEHAVIOURS + argument * 5;
    hook->first_use = argument % 7 == 3;
    hook->during = self->frame ? self->frame->began : 0;
    fuzz.hooks[index] = hook;
    atomic_store(&hook->began, now());
    hook->id = forkguard_register_resource(&(forkguard_resource){
        .name = "hook", .prepare = prepare, .parent = parent, .child = child_, .release = release, .context = hook,
        .flags = hook->first_use ? FORKGUARD_ON_FIRST_USE : 0,
    });
    CHECK(hook->id != 0);
    atomic_store(&hook->ended, now());
    atomic_store(&fuzz.hook_lives[index], LIVE);
}

void hook_cancel(unsigned index) {
    int expected = LIVE;
    if (!atomic_compare_exchange_strong(&fuzz.hook_lives[index], &expected, CHANGING)) return;
    hook *hook = fuzz.hooks[index];
    atomic_store(&hook->cancel_began, now());
    CHECK(forkguard_unregister(hook->id) == 0);
    CHECK(forkguard_unregister(hook->id) == ENOENT);
    atomic_store(&hook->cancel_ended, now());
    atomic_store(&fuzz.hook_lives[index], FREE);
}

// ---- whether each was called, once, in order ----

static bool contains(const hook_list *list, const hook *hook) {
    for (unsigned i = 0; i < list->count; i++)
        if (list->hooks[i] == hook) return true;
    return false;
}

// `newest_first`, as far as the order of two registrations that overlapped in time is not open.
static void check_order(const hook_list *list, bool newest_first) {
    for (unsigned i = 0; i < list->count; i++)
        for (unsigned j = i + 1; j < list->count; j++) {
            const hook *first = list->hooks[newest_first ? j : i], *second = list->hooks[newest_first ? i : j];
            CHECK(first != second);
            uint64_t second_ended = atomic_load(&second->ended);
            CHECK(second_ended == 0 || second_ended > atomic_load(&first->began));
        }
}

// All that were there from before the fork until now.
static void check_complete(const hook_list *list, const frame *frame) {
    unsigned count = atomic_load(&fuzz.instances);
    for (unsigned i = 0; i < count && i < INSTANCES; i++) {
        const hook *hook = &fuzz.instance[i];
        uint64_t ended = atomic_load(&hook->ended), cancelled = atomic_load(&hook->cancel_ended);
        if (ended != 0 && ended < frame->began && atomic_load(&hook->cancel_began) == 0) CHECK(contains(list, hook));
        if (cancelled != 0 && cancelled < frame->began) CHECK(!contains(list, hook));
    }
}

void hooks_check_parent(frame *frame) {
    const hook_list *prepared = &frame->prepared, *after = &frame->after;
    CHECK(prepared->count == after->count);
    for (unsigned i = 0; i < after->count; i++) CHECK(after->hooks[i] == prepared->hooks[prepared->count - 1 - i]);
    check_order(prepared, true);
    if (prepared->count != 0) check_complete(prepared, frame);
}

void hooks_check_child(frame *frame, bool prepared) {
    const hook_list *after = &frame->after;
    hook_list early = {0}, late = {0};
    for (unsigned i = 0; i < after->count; i++) note(after->hooks[i], after->hooks[i]->first_use ? &late : &early);
    // Those that wait for the first use come after the others, after a fork that libc saw; after another all wait for it.
    for (unsigned i = 0; prepared && i < early.count; i++) CHECK(after->hooks[i] == early.hooks[i]);
    check_order(&early, false);
    check_order(&late, false);
    if (prepared) {
        CHECK(after->count == frame->prepared.count);
        for (unsigned i = 0; i < after->count; i++) CHECK(contains(&frame->prepared, after->hooks[i]));
        check_order(&frame->prepared, true);
    }
    check_complete(after, frame);
}
