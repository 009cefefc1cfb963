#include "scenarios.h"

#include "oracle.h"

#include <stdio.h>
#include <string.h>

#define MILLISECOND INT64_C(1000000)

#define TURN (1u << FORKGUARD_MARK_TURN)
#define CHAIN (1u << FORKGUARD_MARK_CHAIN)
#define LATE (1u << FORKGUARD_MARK_LATE)
#define BREACH (1u << FORKGUARD_MARK_BREACH)
#define BYPASS (1u << FORKGUARD_MARK_BYPASS)
#define ENDED (1u << FORKGUARD_MARK_ENDED)

const scenario scenarios[] = {
    {.name = "opposite", .programs = {"F+A-A", "+A+B-B-A", "+B?A-A-B+A-A"}, .depth = 2},
    {.name = "turns", .programs = {"+AF-A", "+BF+A-A-B", "F+A?B-B-A"}, .depth = 2, .reaches = TURN | CHAIN},
    {.name = "chain", .programs = {"+AF-A+C-C", "+B+A-A-B", "+C+B-B-C", "+D+C-C-D"}, .depth = 1, .reaches = CHAIN},
    {.name = "chain-turn", .programs = {"F+B-B", "+AF-A", "+B+A-A-BF"}, .depth = 2, .reaches = TURN | CHAIN},
    {.name = "passes", .programs = {"F", "+C+B-B-C", "+B-BF"}, .depth = 1},
    {.name = "passes-twice", .programs = {"F", "+C+B-B+B-B-C", "+B-BF", "+B-BF"}, .depth = 1},
    {.name = "free", .programs = {"FFFF", "+B+C-C!C-B", "+A+C-C!C-A"}, .depth = 0},
    {.name = "exit", .programs = {"F+BF-B", "+A+B-B.", "+B-BF"}, .depth = 2, .reaches = ENDED},
    {.name = "window", .programs = {"F+B-B", "+A(1-A", "+B-B+B-B)1"}, .depth = 1, .allowed = MAY_WINDOW, .reaches_windows = true},
    {.name = "window-weak", .programs = {"F", "+A-A+B-B+A-A", "+B(1-B", "+A-A)1"}, .depth = 1, .allowed = MAY_WINDOW,
        .reaches_windows = true},
    {.name = "window-hasty", .programs = {"F", "+B(1-B", "+A-A+A-A+A-A+A-A+A-A+A-A+A-A+A-A", "+C-C)1+C-C+C-C+C-C+C-C+C-C+C-C"},
        .hasty = true, .depth = 1},
    {.name = "leaving", .programs = {"F", "+A-AZ", "+B?A-A-BZ"}, .depth = 1},
    {.name = "fenced-leaving", .programs = {"F", "+A-AZ", "+B?A-A-BZ"}, .depth = 1, .machine = {.no_barrier = true}},
    {.name = "deadline", .programs = {"F)1", "+A(1-A", "+B-BF"}, .depth = 1, .allowed = MAY_WINDOW | MAY_LATE | MAY_NO_TURN,
        .reaches = LATE},
    {.name = "refuse", .programs = {"g)1+A-A", "+A(1-A+B-B", "+B-B"}, .depth = 1, .allowed = MAY_WINDOW | MAY_REFUSE,
        .reaches_refusal = true},
    {.name = "refuse-waiter", .programs = {"g+B-B", "+AF-A", "+B+A-A-B"}, .depth = 1},
    {.name = "guarded", .programs = {"+AG-Ag", "g+B-B", "+B-B+A-A"}, .depth = 2},
    {.name = "lend", .programs = {"+BF-B", "+AF-A", "+B-BF"}, .hooks = {"+A-A"}, .has_hooks = true, .depth = 2, .reaches_lending = true},
    {.name = "lend-chain", .programs = {"F", "+AF-A", "+C+A-A-C"}, .hooks = {"+C-C"}, .has_hooks = true, .depth = 1,
        .reaches_lending = true},
    {.name = "lend-early", .programs = {"+BF-B", "+AF"}, .hooks = {"+A-A", "-A"}, .has_hooks = true, .depth = 1, .reaches_lending = true},
    {.name = "first", .programs = {"F", "(3)1F", "+A(4)2F-A"}, .hooks = {")3)4(1(2z"}, .has_hooks = true, .marks_nobody = 1, .depth = 1,
        .reaches = TURN},
    {.name = "breach", .programs = {"F+A-A", "H+Ah-A", "+B-BF"}, .after = "Hh", .depth = 1, .allowed = MAY_BREACH | MAY_WINDOW,
        .reaches = BREACH},
    {.name = "redrain", .programs = {"g+A-A", "Hz+Ah-A+A-A", "z+B-B", "z+C-C"}, .before = "Hh", .depth = 1, .allowed = MAY_WINDOW},
    {.name = "grandchild", .programs = {"+AFF-A+B-B", "+B+C+A-A-CF-B", "+C-C"}, .depth = 3, .has_hooks = true, .reaches = TURN | CHAIN},
    {.name = "unknown", .programs = {"+A-AB+B-B+A-A", "+B-B", "+C-C"}, .depth = 1, .has_hooks = true},
    {.name = "bypassed", .programs = {"+A-AB+B-BF", "+B+C-C-BB+A-A", "+C+D-D-CF"}, .depth = 2, .has_hooks = true, .reaches = BYPASS},
    // The survivor parks inside, when it becomes known beside a closed gate: it is let out by a window.
    {.name = "bypassed-inside", .programs = {"+EB+F-F+F+D-D-F-E+F-F", "+B-B"}, .depth = 2, .allowed = MAY_WINDOW, .reaches = BYPASS},
    {.name = "bypassed-outside", .programs = {"B+C+D-D-C+D+E-E-D", "+B-B"}, .depth = 2, .reaches = BYPASS},
    {.name = "bypassed-holding", .programs = {"+Ab-AF", "+Bb+C-C-BF", "+C+D-D-CF"}, .depth = 2, .has_hooks = true, .reaches = BYPASS},
    {.name = "early", .programs = {"+AF-A", "+B-BF"}, .depth = 2, .has_hooks = true, .early = true},
    {.name = "fenced", .programs = {"F+A-AF", "+A+B-B-A", "+B-B+A-A"}, .depth = 2, .machine = {.no_barrier = true}},
    {.name = "no-page", .programs = {"+AF-A", "+B+A-A-BB", "+A-A"}, .depth = 2, .has_hooks = true, .machine = {.no_page = true},
        .reaches = CHAIN | BYPASS},
    {.name = "condition", .programs = {"+Ac-A", "+ASs-A", "F+A-A"}, .depth = 1},
    {.name = "condition-later", .programs = {"+Ac-A", "+AS-As", "F+A-A"}, .depth = 1},
    {.name = "foreign", .programs = {"+BF-B", "M+A-Am", "+A-AMm+A-A"}, .depth = 1, .registers_mutex = true, .allowed = MAY_WINDOW,
        .reaches_windows = true},
    {.name = "foreign-stuck", .programs = {"+AF-A", "M+A-Am", "MFm"}, .depth = 1, .registers_mutex = true, .allowed = MAY_WINDOW},
    {.name = "sections", .programs = {"KFkF", "Kk+AKk-A", "+AKk-AF"}, .depth = 1},
    {.name = "handed", .programs = {"FF", "KkKk", "KkKk"}, .depth = 1},
    {.name = "kept", .programs = {"FFF)1", "K(1k"}, .depth = 1, .allowed = MAY_WINDOW_ONCE | MAY_LATE},
    {.name = "kept-again", .programs = {"F)1|(2F", "K(1kK)2zk"}, .depth = 1, .allowed = MAY_WINDOW_ONCE | MAY_LATE_ONCE},
    {.name = "kept-inside", .programs = {"F)2|F)1", "K(2+A-A+A-A(1k"}, .depth = 1, .allowed = MAY_WINDOW_ONCE | MAY_LATE},
    {.name = "woken", .programs = {"zF", "+Az-A", "+A-A", "+B+A-A-B"}, .depth = 1},
    {.name = "any", .any = true, .depth = 2, .has_hooks = true, .allowed = MAY_REFUSE},
    {.name = "any-hasty", .any = true, .depth = 2, .has_hooks = true, .hasty = true},
    {.name = NULL},
};

static const scenario *running;
static char made[4][40];
static uint32_t semaphores[8];
static forkguard_condition_t condition;
static bool was_signalled;
static unsigned users[MOST_BOXES]; // who will still take the lock, of those that free it

static void raise_semaphore(uint32_t *semaphore) {
    ++*semaphore;
    scheduler_wake(semaphore, 1);
}

static void await_semaphore(uint32_t *semaphore) {
    while (*semaphore == 0) scheduler_sleep(semaphore, 0, -1);
    --*semaphore;
}

static void sleep_for(int64_t nanoseconds) {
    static const uint32_t never;
    scheduler_sleep(&never, 0, nanoseconds);
}

static void end_here(void) { scheduler_end_thread(); }

static void interpret(const char *program) {
    for (const char *at = program; *at; at++) {
        box *box = &boxes[at[1] >= 'A' && at[1] <= 'F' ? at[1] - 'A' : 0];
        scheduler_point(__func__, (int)(at - program), NULL);
        switch (*at) {
        case '+': box_take(box), at++; break;
        case '-': box_leave(box), at++; break;
        case '?':
            if (!box_try(box)) at += 3;
            else at++;
            break;
        case '!':
            if (--users[at[1] - 'A'] == 0) process_free(box, sizeof *box);
            at++;
            break;
        case 'M': mutex_box_take(MUTEX_FOREIGN); break;
        case 'm': mutex_box_leave(MUTEX_FOREIGN); break;
        case 'K': mutex_box_take(MUTEX_GATED); break;
        case 'k': mutex_box_leave(MUTEX_GATED); break;
        case 'H': mutex_box_take(MUTEX_OTHERS); break;
        case 'h': mutex_box_leave(MUTEX_OTHERS); break;
        case 'F': oracle_fork(); break;
        case 'G': oracle_guarded_fork(FORKGUARD_FORK_HOLDING_LOCKS); break;
        case 'g': oracle_guarded_fork(0); break;
        case 'B':
        case 'b': oracle_bypassing_fork(*at == 'b'); break;
        case '(': await_semaphore(&semaphores[at[1] - '0']), at++; break;
        case ')': raise_semaphore(&semaphores[at[1] - '0']), at++; break;
        case 'z': sleep_for(2 * MILLISECOND); break;
        case 'Z': sleep_for(30 * MILLISECOND); break;
        case 'L': sleep_for(7000 * MILLISECOND); break;
        case 'c':
            while (!was_signalled) {
                boxes[0].b++;
                boxes[0].inside = NULL;
                forkguard_condition_wait(&condition, &boxes[0].lock, UINT64_MAX);
                boxes[0].inside = current;
                boxes[0].a++;
            }
            break;
        case 'S': was_signalled = true; break;
        case 's': forkguard_condition_signal(&condition); break;
        case '|':
            if (oracle_depth() != 0) return;
            break;
        case '.': end_here(); break;
        default: scheduler_fail("program '%s' has a letter that means nothing", program);
        }
    }
}

static void run_program(void) { interpret(running->any ? made[current->number] : running->programs[current->number]); }
static void run_hook(void) {
    if (current->number < 2 && running->hooks[current->number]) interpret(running->hooks[current->number]);
}
static void run_before(void) { interpret(running->before); }
static void run_after(void) { interpret(running->after); }
static void run_early(void) { forkguard_generation(); }

static void run_in_child(void) {
    for (unsigned i = 0; i < 4; i++) {
        if (running->any && scheduler_random(4) == 0) oracle_fork();
        if (process_is_freed(&boxes[i])) continue;
        box_take(&boxes[i]);
        box_leave(&boxes[i]);
    }
    if (running->registers_mutex) mutex_box_check_in_child(MUTEX_FOREIGN);
    mutex_box_check_in_child(MUTEX_GATED);
    if (running->depth > 1) oracle_fork();
}

// A program in which locks nest in the order of the alphabet, or are tried.
static void make_program(char *program) {
    char held[8];
    unsigned depth = 0, forks = 0;
    for (unsigned steps = 0; steps < 7; steps++) {
        unsigned choice = (unsigned)scheduler_random(8);
        if (choice < 4 && depth < 3) {
            char next = (char)('A' + scheduler_random(4));
            if (depth != 0 && next <= held[depth - 1]) continue;
            *program++ = '+';
            *program++ = held[depth++] = next;
        } else if (choice == 4 && forks < 2) {
            *program++ = depth == 0 || scheduler_random(2) ? 'F' : 'G';
            forks++;
        } else if (depth != 0) {
            *program++ = '-';
            *program++ = held[--depth];
        }
    }
    while (depth != 0) {
        *program++ = '-';
        *program++ = held[--depth];
    }
    *program = 0;
}

static void begin(void) {
    process_start(&running->machine);
    forkguard_start();
    oracle_start(running->allowed, running->depth, running->marks_nobody, running->has_hooks);
    oracle_in_child = run_in_child;
    oracle_hook = run_hook;
    oracle_before = running->before ? run_before : NULL;
    oracle_after = running->after ? run_after : NULL;
    oracle_early = running->early ? run_early : NULL;
    const forkguard_resource hooks = {.name = "hooks", .prepare = oracle_prepare_hook, .parent = oracle_parent_hook,
        .child = oracle_child_hook};
    if (running->has_hooks && !forkguard_register_resource(&hooks)) scheduler_fail("hooks cannot be registered");
    forkguard_foreign_lock foreign = {.name = "M", .context = &mutexes[MUTEX_FOREIGN], .torn = oracle_torn};
    if (running->registers_mutex && !forkguard_register_mutex(&mutexes[MUTEX_FOREIGN].mutex,
        &foreign)) scheduler_fail("M cannot be registered");
    scheduler_free_slot(forkguard_thread_slot);
    unsigned threads = running->any ? 2 + (unsigned)scheduler_random(3) : 0;
    for (unsigned i = 0; i < threads; i++) make_program(made[i]);
    while (!running->any && running->programs[threads]) threads++;
    for (unsigned i = 0; i < threads; i++) {
        const char *program = running->any ? made[i] : running->programs[i];
        for (const char *at = program; (at = strchr(at, '!')); at++) users[at[1] - 'A']++;
        scheduler_spawn(i, run_program);
    }
}

void scenario_run(const scenario *scenario, uint64_t seed) {
    running = scenario;
    oracle_hasty = scenario->hasty;
    settings settings = {.seed = seed, .store_buffers = true, .hasty = scenario->hasty, .spurious = seed % 4 == 0};
    scheduler_run(&settings, begin);
    oracle_end();
}

bool scenario_reached(const scenario *scenario) {
    bool reached = (!scenario->reaches_windows || counted->windows) && (!scenario->reaches_lending || counted->lent)
        && (!scenario->reaches_refusal || counted->refused);
    for (unsigned mark = 0; mark < 8; mark++) reached = reached && (!(scenario->reaches & 1u << mark) || counted->torn[mark]);
    if (!reached) printf("FAILED %s: it did not come to what it is there for\n", scenario->name);
    return reached;
}
