// What the last fork did: kept in a struct of fixed size, printed with write(2).
//
// The forker fills `report_current` while it has its turn. Readers copy the last one, which is written under a sequence count: odd while it changes. A child
// begins without one.

#include "report.h"

#include "copy.h"

#include "generation.h"
#include "platform/platform.h"
#include "process.h"
#include "registry.h"
#include "support.h"


#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

forkguard_report report_current;

#define last process.last

static bool wanted; // FORKGUARD_REPORT=1

void text_add(text_buffer *buffer, const char *string) {
    while (*string && buffer->length + 1 < buffer->size) buffer->text[buffer->length++] = *string++;
    if (buffer->size) buffer->text[buffer->length] = 0;
}

void text_add_number(text_buffer *buffer, uint64_t number) {
    char digits[21];
    char *digit = digits + sizeof digits - 1;
    *digit = 0;
    do *--digit = (char)('0' + number % 10);
    while (number /= 10);
    text_add(buffer, digit);
}

void text_add_address(text_buffer *buffer, const void *address) {
    text_add(buffer, "0x");
    unsigned shift = sizeof address * 8;
    while (shift > 4 && (uintptr_t)address >> (shift - 4) == 0) shift -= 4;
    while (shift != 0) text_add(buffer, (char[]){"0123456789abcdef"[(uintptr_t)address >> (shift -= 4) & 15], 0});
}

void text_add_symbol(text_buffer *buffer, const void *address) {
    Dl_info info;
    if (!dladdr(address, &info) || !info.dli_fname || !*info.dli_fname) return;
    const char *slash = strrchr(info.dli_fname, '/');
    if (info.dli_sname) text_add(buffer, info.dli_sname);
    text_add(buffer, info.dli_sname ? " in " : "in ");
    text_add(buffer, slash ? slash + 1 : info.dli_fname);
}

void text_add_signed(text_buffer *buffer, int64_t number) {
    if (number < 0) text_add(buffer, "-");
    text_add_number(buffer, number < 0 ? -(uint64_t)number : (uint64_t)number);
}

void text_add_duration(text_buffer *buffer, uint64_t nanoseconds) {
    uint64_t microseconds = nanoseconds / 1000;
    if (microseconds < 10000) {
        text_add_number(buffer, microseconds);
        text_add(buffer, " us");
    } else {
        text_add_number(buffer, microseconds / 1000);
        text_add(buffer, " ms");
    }
}

void text_copy(char *field, size_t size, const char *string) {
    text_buffer buffer = {field, size, 0};
    field[0] = 0;
    if (string) text_add(&buffer, string);
}

void text_write_error(const text_buffer *buffer) {
    int saved = errno, cancel_state;
#ifdef FORKGUARD_PRELOAD
    if (!preload_may_write()) return;
#endif
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state); // write(2) is a cancellation point
    size_t written = 0;
    while (written < buffer->length) {
        ssize_t now = write(STDERR_FILENO, buffer->text + written, buffer->length - written);
        if (now < 0 && errno == EINTR) continue;
        if (now <= 0) break; // standard error is closed or full: there is nobody to tell
        written += (size_t)now;
    }
    pthread_setcancelstate(cancel_state, &(int){0});
    errno = saved;
}

void report_say(const char *const *parts) {
    char text[512];
    text_buffer buffer = {text, sizeof text, 0};
    text_add(&buffer, "ForkGuard: ");
    for (; *parts; parts++) text_add(&buffer, *parts);
    text_add(&buffer, "\n");
    text_write_error(&buffer);
}

void report_start(void) {
    const char *value = getenv("FORKGUARD_REPORT");
    if (!value || !*value || strcmp(value, "0") == 0) return;
    if (strcmp(value, "1") == 0) {
        wanted = true;
    } else {
        report_say((const char *const[]){"FORKGUARD_REPORT is '", value, "', which is neither 0 nor 1; no reports are printed", NULL});
    }
}

static uint32_t used(uint32_t count, uint32_t size) { return count < size ? count : size; }

// Fewer pages to copy after each fork than with the whole of it.
static void copy_used(forkguard_report *to, const forkguard_report *from) {
    memcpy(to, from, offsetof(forkguard_report, torn_holders));
    memcpy(to->torn_holders, from->torn_holders, used(from->torn_holders_count, FORKGUARD_REPORT_ENTRIES) * sizeof *from->torn_holders);
    memcpy(to->hook_failures, from->hook_failures, used(from->hook_failures_count, FORKGUARD_REPORT_ENTRIES) * sizeof *from->hook_failures);
    memcpy(to->hooks, from->hooks, used(from->hooks_count, FORKGUARD_REPORT_HOOKS) * sizeof *from->hooks);
    memcpy(to->vanished, from->vanished, used(from->vanished_count, FORKGUARD_REPORT_THREADS) * sizeof *from->vanished);
}

void report_clear(void) { memset(&report_current, 0, offsetof(forkguard_report, torn_holders)); }

void report_resume(void) { copy_used(&report_current, &last.report); }

// Not inlined: its text would make every fork touch more pages of the stack.
static __attribute__((noinline)) void print_current(void) {
    char text[8192];
    text_buffer buffer = {text, sizeof text, 0};
    buffer.length = forkguard_report_format(&report_current, text, sizeof text);
    text_write_error(&buffer);
}

// Around writing the last report.
static void begin_writing(void) {
    __atomic_store_n(&last.sequence, last.sequence + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
static void end_writing(void) { __atomic_store_n(&last.sequence, last.sequence + 1, __ATOMIC_RELEASE); }

void report_publish(bool print) {
    begin_writing();
    copy_used(&last.report, &report_current);
    end_writing();
    if (print && wanted) print_current();
}

bool report_is_printed(void) { return wanted; }

void report_publish_short(uint32_t side, int32_t other_pid, uint64_t copy_nanoseconds, uint32_t breaches) {
    begin_writing();
    memset(&last.report, 0, offsetof(forkguard_report, torn_holders));
    last.report.ordinal = registry_last_fork();
    last.report.generation = generation_known();
    last.report.side = side;
    last.report.other_pid = other_pid;
    last.report.copy_nanoseconds = copy_nanoseconds;
    last.report.breaches = breaches;
    last.report.stale_thread_ids = side == FORKGUARD_CHILD && !support_cures_thread_ids();
    end_writing();
}

int forkguard_last_report(forkguard_report *report) {
    FOLLOW(last_report, report);
    forkguard_generation(); // a child that nobody told finds out first, and reports that
    memset(report, 0, sizeof *report);
    for (;;) {
        uint32_t sequence = __atomic_load_n(&last.sequence, __ATOMIC_ACQUIRE);
        if (sequence == 0) return ENOENT;
        if (sequence % 2 == 0) {
            copy_used(report, &last.report);
            __atomic_thread_fence(__ATOMIC_ACQUIRE);
            if (__atomic_load_n(&last.sequence, __ATOMIC_RELAXED) == sequence) return 0;
        }
        // The writer copies some two kilobytes; a sleep of a tenth of a millisecond lets it run if it was descheduled.
        platform_sleep(100000);
    }
}

static void copy_run(forkguard_hook_run *run, const char *name, const char *phase, uint64_t nanoseconds) {
    text_copy(run->name, sizeof run->name, name);
    text_copy(run->phase, sizeof run->phase, phase);
    run->nanoseconds = nanoseconds;
}

void report_ran(const char *name, const char *phase, uint64_t nanoseconds) {
    forkguard_hook_run *hooks = report_current.hooks;
    static uint32_t fastest; // of a full list
    uint32_t index = report_current.hooks_count++;
    if (index >= FORKGUARD_REPORT_HOOKS) {
        if (hooks[fastest].nanoseconds >= nanoseconds) return;
        // The others keep their order.
        memmove(&hooks[fastest], &hooks[fastest + 1], (FORKGUARD_REPORT_HOOKS - 1 - fastest) * sizeof *hooks);
        index = FORKGUARD_REPORT_HOOKS - 1;
    }
    copy_run(&hooks[index], name, phase, nanoseconds);
    if (index < FORKGUARD_REPORT_HOOKS - 1) return;
    fastest = 0;
    for (uint32_t i = 1; i < FORKGUARD_REPORT_HOOKS; i++)
        if (hooks[i].nanoseconds < hooks[fastest].nanoseconds) fastest = i;
}

void report_hook(const char *name, const char *phase, int32_t code, uint64_t nanoseconds) {
    uint32_t index = report_current.hook_failures_count++;
    if (index >= FORKGUARD_REPORT_ENTRIES) return;
    forkguard_hook_failure *failure = &report_current.hook_failures[index];
    text_copy(failure->name, sizeof failure->name, name);
    text_copy(failure->phase, sizeof failure->phase, phase);
    failure->code = code;
    failure->milliseconds = (uint32_t)(nanoseconds / 1000000);
}

void report_child(void) {
    last.sequence = 0; // without a wiped page: the parent's, or one that it was writing
}

const char *report_mark_text(uint32_t mark) {
    switch (mark) {
    case FORKGUARD_MARK_TURN: return "it waited for its own turn to fork";
    case FORKGUARD_MARK_CHAIN: return "it was blocked on the forking thread, or on one that waited to fork";
    case FORKGUARD_MARK_LATE: return "it was still inside at the deadline";
    case FORKGUARD_MARK_BREACH: return "it was let in because fork() itself seemed to wait for it";
    case FORKGUARD_MARK_BYPASS: return "the fork was not prepared";
    case FORKGUARD_MARK_ENDED: return "it had ended without unlocking";
    case FORKGUARD_MARK_OWN: return "the forking thread itself holds it";
    default: return "";
    }
}

static bool is_there(const forkguard_holder *holder) { return holder->thread_id || *holder->lock_name || *holder->lock_place; }

static void add_holder(text_buffer *buffer, const forkguard_holder *holder) {
    text_add(buffer, holder->thread_id ? "thread " : "a thread");
    if (holder->thread_id) text_add_signed(buffer, holder->thread_id);
    if (*holder->thread_name) {
        text_add(buffer, " (");
        text_add(buffer, holder->thread_name);
        text_add(buffer, ")");
    }
    if (*holder->lock_name || *holder->lock_place) {
        text_add(buffer, " in '");
        text_add(buffer, *holder->lock_name ? holder->lock_name : "a lock without a name");
        text_add(buffer, "'");
    }
    if (*holder->lock_place) {
        text_add(buffer, " made at ");
        text_add(buffer, holder->lock_place);
    }
}

size_t forkguard_report_format(const forkguard_report *report, char *text, size_t size) {
    text_buffer buffer = {text, size, 0};
    if (size) text[0] = 0;
    text_add(&buffer, "ForkGuard: fork ");
    text_add_number(&buffer, report->ordinal);
    text_add(&buffer, report->side == FORKGUARD_CHILD ? ", in the child: " : ", in the parent: ");
    if (report->error) {
        text_add(&buffer, "no child was made, errno ");
        text_add_signed(&buffer, report->error);
        text_add(&buffer, "; ");
    } else if (report->side == FORKGUARD_PARENT && report->other_pid) {
        text_add(&buffer, "child is process ");
        text_add_signed(&buffer, report->other_pid);
        text_add(&buffer, "; ");
    }
    text_add(&buffer, "generation ");
    text_add_number(&buffer, report->generation);
    text_add(&buffer, report->seen == FORKGUARD_SEEN_LATE ? ", discovered late (the fork ran no handlers)"
                    : report->seen == FORKGUARD_SEEN_NESTED ? ", a raw fork inside a hook, not prepared" : "");
    text_add(&buffer, "\n  waited for its turn ");
    text_add_duration(&buffer, report->turn_nanoseconds);
    text_add(&buffer, ", prepare hooks ");
    text_add_duration(&buffer, report->prepare_nanoseconds);
    text_add(&buffer, ", gate ");
    text_add_duration(&buffer, report->gate_nanoseconds);
    text_add(&buffer, ", copy ");
    text_add_duration(&buffer, report->copy_nanoseconds);
    if (report->side == FORKGUARD_CHILD) {
        text_add(&buffer, ", C phases ");
        text_add_duration(&buffer, report->child_nanoseconds);
    }
    text_add(&buffer, ", hooks after it ");
    text_add_duration(&buffer, report->after_nanoseconds);
    text_add(&buffer, "\n  other threads ");
    text_add_number(&buffer, report->prepared_threads);
    text_add(&buffer, ", windows ");
    text_add_number(&buffer, report->windows);
    text_add(&buffer, ", torn ");
    text_add_number(&buffer, report->torn_holders_count);
    if (report->breaches) {
        text_add(&buffer, ", let in while forking ");
        text_add_number(&buffer, report->breaches);
    }
    text_add(&buffer, report->timed_out ? ", the deadline was reached" : "");
    text_add(&buffer, report->no_turn ? ", another fork's hooks did not end by the deadline" : "");
    text_add(&buffer, report->stale_thread_ids ? ", cached ids of the forking thread are stale" : "");
    if (*report->waited_hook) {
        text_add(&buffer, ": '");
        text_add(&buffer, report->waited_hook);
        text_add(&buffer, "'");
    }
    text_add(&buffer, "\n");
    if (report->foreign_locks) {
        text_add(&buffer, "  foreign locks ");
        text_add_number(&buffer, report->foreign_locks);
        if (report->side == FORKGUARD_CHILD) {
            text_add(&buffer, ", reinitialised ");
            text_add_number(&buffer, report->foreign_reinitialized);
            text_add(&buffer, ", the forking thread's own ");
            text_add_number(&buffer, report->foreign_own);
        }
        text_add(&buffer, "\n");
    }
    if (report->descriptors_tombstoned + report->descriptors_reopened + report->descriptors_kept + report->descriptors_failed != 0) {
        text_add(&buffer, "  descriptors tombstoned ");
        text_add_number(&buffer, report->descriptors_tombstoned);
        text_add(&buffer, ", reopened ");
        text_add_number(&buffer, report->descriptors_reopened);
        text_add(&buffer, ", kept ");
        text_add_number(&buffer, report->descriptors_kept);
        text_add(&buffer, ", failed ");
        text_add_number(&buffer, report->descriptors_failed);
        text_add(&buffer, "\n");
    }
    if (is_there(&report->blocker)) {
        text_add(&buffer, "  held up by ");
        add_holder(&buffer, &report->blocker);
        text_add(&buffer, "\n");
    }
    for (uint32_t i = 0; i < used(report->torn_holders_count, FORKGUARD_REPORT_ENTRIES); i++) {
        text_add(&buffer, "  torn: ");
        add_holder(&buffer, &report->torn_holders[i]);
        text_add(&buffer, ": ");
        text_add(&buffer, report_mark_text(report->torn_holders[i].mark));
        text_add(&buffer, "\n");
    }
    for (uint32_t i = 0; i < used(report->hook_failures_count, FORKGUARD_REPORT_ENTRIES); i++) {
        const forkguard_hook_failure *failure = &report->hook_failures[i];
        text_add(&buffer, "  hook '");
        text_add(&buffer, failure->name);
        text_add(&buffer, "' failed in ");
        text_add(&buffer, failure->phase);
        text_add(&buffer, ": ");
        text_add_signed(&buffer, failure->code);
        text_add(&buffer, " after ");
        text_add_number(&buffer, failure->milliseconds);
        text_add(&buffer, " ms\n");
    }
    if (report->hooks_count) {
        text_add(&buffer, "  hooks ");
        text_add_number(&buffer, report->hooks_count);
        for (uint32_t i = 0; i < used(report->hooks_count, FORKGUARD_REPORT_HOOKS); i++) {
            const forkguard_hook_run *run = &report->hooks[i];
            text_add(&buffer, i == 0 ? ": '" : ", '");
            text_add(&buffer, run->name);
            text_add(&buffer, "' ");
            text_add(&buffer, run->phase);
            text_add(&buffer, " ");
            text_add_duration(&buffer, run->nanoseconds);
        }
        text_add(&buffer, report->hooks_count > FORKGUARD_REPORT_HOOKS ? ", ...\n" : "\n");
    }
    if (report->vanished_count) {
        text_add(&buffer, "  threads that vanished ");
        text_add_number(&buffer, report->vanished_count);
        for (uint32_t i = 0; i < used(report->vanished_count, FORKGUARD_REPORT_THREADS); i++) {
            text_add(&buffer, i == 0 ? ": " : ", ");
            text_add_signed(&buffer, report->vanished[i].thread_id);
            if (*report->vanished[i].name) {
                text_add(&buffer, " (");
                text_add(&buffer, report->vanished[i].name);
                text_add(&buffer, ")");
            }
        }
        text_add(&buffer, report->vanished_count > FORKGUARD_REPORT_THREADS ? ", ...\n" : "\n");
    }
    return buffer.length;
}
