// What becomes of an inherited descriptor: tombstone, reopen, keep.
//
// The table has an entry for each number that was ever adopted, in chunks that are never freed. An entry's word says which opening of its number is meant and how
// many are using it, so that a use is one compare-and-swap and no system call:
//
//     serial of the opening (38 bits) | state (2) | uses (24)
//
// Only the opening that a token names can be entered, and while it is in use the number is not closed: whoever closes it marks it, and the use that ends last
// closes it. So no call ever goes to a number that has become somebody else's. (Go's poll.FD has the same idea, for goroutines.)
//
// Adopting and closing are gated sections: a fork finds an entry and the number that it speaks of in agreement. Were a number marked closed here, and copied
// open into a child, the parent's close(2) would not reach the peer. Uses are not gated; a read may last for ever. In a child the uses of vanished threads
// are forgotten.
//
// In a child nothing is asked of the parent's memory but the entries. A tombstone is put over a number by dup3(2) of an O_PATH descriptor: the
// child's reference is dropped, the connection's end is not, since the parent has another; and the number stays taken, so that code which knows only the number, a C
// library say, gets EBADF instead of the child's next connection. Only children of fork(2) come here: one that clone(2) made with CLONE_FILES has the
// parent's own table, where a tombstone would be the parent's. In a child that ran no handlers tokens refuse, and that is all.

#include "descriptor.h"

#include "copy.h"

#include "gate.h"
#include "platform/platform.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "forkguard/lock.h"

#define ENTRIES_IN_CHUNK 1024
#define NUMBERS (1 << 20) // Linux's usual fs.nr_open
#define CHUNKS (NUMBERS / ENTRIES_IN_CHUNK)

#define USES_BITS 24
#define STATE_BITS 2
#define USES_MASK ((UINT64_C(1) << USES_BITS) - 1)
#define SERIAL_SHIFT (USES_BITS + STATE_BITS)

enum state { CLOSED = 0, OPEN, CLOSING, TOMBSTONE };

typedef struct entry {
    uint64_t word;
    uint64_t generation; // that it is usable in
    off_t offset;        // at the fork, of one that is opened again
    uint32_t policy;
} entry;

static entry *chunks[CHUNKS];
static int numbers;       // all that were adopted are below
static uint32_t adopted;  // how many are open or closing

static uint64_t tombstones_of; // the generation of the child that was treated last: the tombstones are its own
static bool reopens; // some were adopted that are opened again
static bool offsets_noted;

struct descriptors_in_child descriptors_in_child;

static uint64_t word_of(uint64_t serial, enum state state, uint64_t uses) { return serial << SERIAL_SHIFT | (uint64_t)state << USES_BITS | uses; }
static uint64_t serial_of(uint64_t word) { return word >> SERIAL_SHIFT; }
static enum state state_of(uint64_t word) { return (enum state)(word >> USES_BITS & ((1u << STATE_BITS) - 1)); }
static uint64_t uses_of(uint64_t word) { return word & USES_MASK; }

static entry *find(int number) {
    if (number < 0 || number >= NUMBERS) return NULL;
    entry *chunk = __atomic_load_n(&chunks[number / ENTRIES_IN_CHUNK], __ATOMIC_ACQUIRE);
    return chunk ? &chunk[number % ENTRIES_IN_CHUNK] : NULL;
}

static uint64_t load(const entry *entry) { return __atomic_load_n(&entry->word, __ATOMIC_ACQUIRE); }
static bool swap(entry *entry, uint64_t *seen, uint64_t wanted) {
    return __atomic_compare_exchange_n(&entry->word, seen, wanted, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

// A lock that nobody else wants: what is left of it is the gated section, and its name in reports. close(2) is a cancellation point, and a thread that is cancelled
// in a section would stay in it.
typedef struct section {
    forkguard_lock_t lock;
    int cancel_state;
} section;

static void enter_section(section *section) {
    forkguard_lock_init(&section->lock, "ForkGuard's descriptors", __FILE__, __LINE__);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &section->cancel_state);
    forkguard_lock(&section->lock);
}

static void leave_section(section *section) {
    forkguard_unlock(&section->lock);
    pthread_setcancelstate(section->cancel_state, &(int){0});
}

static entry *make(int number) {
    entry **chunk = &chunks[number / ENTRIES_IN_CHUNK], *none = NULL;
    if (!__atomic_load_n(chunk, __ATOMIC_ACQUIRE)) {
        entry *fresh = calloc(ENTRIES_IN_CHUNK, sizeof *fresh);
        if (!fresh) return NULL;
        if (!__atomic_compare_exchange_n(chunk, &none, fresh, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) free(fresh);
    }
    return find(number);
}

int forkguard_descriptor_adopt(int number, uint32_t policy, forkguard_descriptor_t *token) {
    FOLLOW(descriptor_adopt, number, policy, token);
    if (policy > FORKGUARD_KEEP) return EINVAL;
    if (number >= NUMBERS) return EMFILE;
    int saved = errno;
    bool open = fcntl(number, F_GETFD) >= 0;
    entry *entry = open ? make(number) : NULL;
    errno = saved;
    if (!entry) return open ? ENOMEM : EBADF;
    section section;
    enter_section(&section);
    for (int seen = __atomic_load_n(&numbers, __ATOMIC_RELAXED); seen <= number;)
        if (__atomic_compare_exchange_n(&numbers, &seen, number + 1, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) break;
    // Closed first, so that who still has an earlier token cannot enter while the rest is written.
    uint64_t seen = load(entry), serial;
    do serial = serial_of(seen) + 1;
    while (!swap(entry, &seen, word_of(serial, CLOSED, 0)));
    if (state_of(seen) != OPEN && state_of(seen) != CLOSING) __atomic_fetch_add(&adopted, 1, __ATOMIC_RELAXED);
    uint64_t generation = forkguard_generation();
    __atomic_store_n(&entry->generation, generation, __ATOMIC_RELAXED);
    __atomic_store_n(&entry->policy, policy, __ATOMIC_RELAXED);
    if (policy == FORKGUARD_REOPEN) __atomic_store_n(&reopens, true, __ATOMIC_RELAXED);
    *token = (forkguard_descriptor_t){.number = number, .serial = serial, .generation = generation};
    seen = word_of(serial, CLOSED, 0);
    swap(entry, &seen, word_of(serial, OPEN, 0));
    leave_section(&section);
    return 0;
}

// Whose it is, when the word is not the token's any more.
static int gone(const forkguard_descriptor_t *token) { return forkguard_is_current(token->generation) ? EBADF : ESTALE; }

static bool is_treated(const entry *entry) { return forkguard_is_current(__atomic_load_n(&entry->generation, __ATOMIC_RELAXED)); }

int forkguard_descriptor_enter(const forkguard_descriptor_t *token) {
    FOLLOW(descriptor_enter, token);
    entry *entry = find(token->number);
    if (!entry) return EBADF;
    uint64_t seen = load(entry);
    do {
        if (serial_of(seen) != token->serial || state_of(seen) == CLOSED || state_of(seen) == CLOSING) return gone(token);
        if (state_of(seen) == TOMBSTONE) return ESTALE;
        if (!is_treated(entry) && __atomic_load_n(&entry->policy, __ATOMIC_RELAXED) != FORKGUARD_KEEP) return ESTALE;
        if (uses_of(seen) >= USES_MASK - 1) return EAGAIN; // closing counts as one more
    } while (!swap(entry, &seen, seen + 1));
    return 0;
}

// In a section: the word is closed. The number follows.
static int close_number(int number) {
    __atomic_fetch_sub(&adopted, 1, __ATOMIC_RELAXED);
    return close(number) == 0 || errno == EINTR ? 0 : errno; // close(2): on Linux the number is free after EINTR too
}

// What nobody treated in this child is the parent's, and so may be the table that it is in.
static void give_up_or_close(entry *entry, int number) {
    if (is_treated(entry)) close_number(number);
    else __atomic_fetch_sub(&adopted, 1, __ATOMIC_RELAXED);
}

void forkguard_descriptor_leave(const forkguard_descriptor_t *token) {
    FOLLOW(descriptor_leave, token);
    entry *entry = find(token->number);
    if (!entry) return;
    uint64_t seen = load(entry);
    for (;;) {
        // Begun in the parent, which counts it: or the number was adopted anew, and this use began before somebody closed it behind our back.
        if (serial_of(seen) != token->serial || uses_of(seen) == 0) return;
        if (state_of(seen) == CLOSING && uses_of(seen) == 1) break;
        if (swap(entry, &seen, seen - 1)) return;
    }
    int saved = errno;
    section section;
    enter_section(&section);
    while (serial_of(seen) == token->serial && uses_of(seen) != 0) {
        bool last = state_of(seen) == CLOSING && uses_of(seen) == 1;
        if (!swap(entry, &seen, last ? word_of(token->serial, CLOSED, 0) : seen - 1)) continue;
        if (last) give_up_or_close(entry, token->number);
        break;
    }
    leave_section(&section);
    errno = saved;
}

// In a section. `*in_use`: somebody else is to close it, and is to be woken.
static int begin_close(entry *entry, const forkguard_descriptor_t *token, bool *in_use) {
    uint64_t seen = load(entry);
    for (;;) {
        if (serial_of(seen) != token->serial) return EBADF;
        uint64_t closed = word_of(token->serial, CLOSED, 0);
        switch (state_of(seen)) {
        case TOMBSTONE:
            if (!swap(entry, &seen, closed)) continue;
            // Not the process's whose table a child that ran no handlers may share; and not what was opened there since, after somebody had closed everything, as
            // daemons do.
            if (forkguard_is_current(tombstones_of) && platform_is_tombstone(token->number)) close(token->number);
            return 0;
        case OPEN:
            if (!is_treated(entry)) {
                if (!swap(entry, &seen, closed)) continue;
                __atomic_fetch_sub(&adopted, 1, __ATOMIC_RELAXED);
                return 0;
            }
            *in_use = uses_of(seen) != 0;
            if (!swap(entry, &seen, *in_use ? word_of(token->serial, CLOSING, uses_of(seen) + 1) : closed)) continue;
            return *in_use ? 0 : close_number(token->number);
        default: return EBADF;
        }
    }
}

int forkguard_descriptor_close(const forkguard_descriptor_t *token) {
    FOLLOW(descriptor_close, token);
    entry *entry = find(token->number);
    if (!entry) return EBADF;
    forkguard_generation(); // a child that nobody told finds out before it looks
    int saved = errno;
    bool in_use = false;
    section section;
    enter_section(&section);
    int error = begin_close(entry, token, &in_use);
    leave_section(&section);
    if (in_use) {
        // Not where others listen on it too.
        if (__atomic_load_n(&entry->policy, __ATOMIC_RELAXED) != FORKGUARD_KEEP) shutdown(token->number, SHUT_RDWR);
        forkguard_descriptor_leave(token);
    }
    errno = saved;
    return error;
}

int forkguard_descriptor_release(const forkguard_descriptor_t *token) {
    FOLLOW(descriptor_release, token);
    entry *entry = find(token->number);
    if (!entry) return EBADF;
    uint64_t seen = load(entry);
    do {
        if (serial_of(seen) != token->serial || state_of(seen) == CLOSED || state_of(seen) == CLOSING) return gone(token);
        if (state_of(seen) == TOMBSTONE || !is_treated(entry)) return ESTALE;
        if (uses_of(seen) != 0) return EBUSY;
    } while (!swap(entry, &seen, word_of(token->serial, CLOSED, 0)));
    __atomic_fetch_sub(&adopted, 1, __ATOMIC_RELAXED);
    return 0;
}

size_t forkguard_descriptor_count(void) {
    FOLLOW(descriptor_count);
    return __atomic_load_n(&adopted, __ATOMIC_RELAXED);
}

bool descriptor_is_used(void) { return __atomic_load_n(&numbers, __ATOMIC_RELAXED) != 0; }

// ---- the fork ----

// By the time that the child looks, the parent may have written more: the offset is shared until the child has its own.
void descriptor_note_offsets(void) {
    if (!__atomic_load_n(&reopens, __ATOMIC_RELAXED)) return;
    int saved = errno, end = __atomic_load_n(&numbers, __ATOMIC_RELAXED);
    for (int number = 0; number < end; number++) {
        entry *entry = find(number);
        if (!entry) {
            number |= ENTRIES_IN_CHUNK - 1;
            continue;
        }
        if (__atomic_load_n(&entry->policy, __ATOMIC_RELAXED) == FORKGUARD_REOPEN && state_of(load(entry)) == OPEN)
            entry->offset = lseek(number, 0, SEEK_CUR);
    }
    offsets_noted = true;
    errno = saved;
}

// Written only where there is something to forget: right after a fork a write copies a page.
void descriptor_forget_offsets(void) {
    if (offsets_noted) offsets_noted = false;
}

// ---- the child ----

// Opened where it is needed first, and closed at the end: an ordinary process has no descriptor of ours.
typedef struct tombstone {
    int number; // -1: none yet, or none to be had
    bool refused;
    bool in_place; // it is a victim's number
} tombstone;

// Puts it over `number`. False: there was no other way than to close the number, which is free now.
static bool bury(tombstone *tombstone, int number) {
    if (tombstone->number < 0 && !tombstone->refused) {
        tombstone->number = platform_open_tombstone();
        if (tombstone->number < 0) {
            // No number was free (EMFILE): the victim's is now.
            close(number);
            tombstone->number = platform_open_tombstone();
            tombstone->refused = tombstone->number < 0;
            tombstone->in_place = tombstone->number == number;
            if (tombstone->in_place) return true;
        }
    }
    // Somebody had closed the number without its token, and the tombstone was opened there.
    if (tombstone->number == number) return tombstone->in_place = true;
    if (tombstone->number >= 0 && platform_replace(tombstone->number, number, true)) return true;
    close(number);
    return false;
}

// The same file, at the same offset, by another open file description. False where it cannot be had: no /proc, no permission, a pipe.
static bool reopen(int number, const off_t *noted) {
    struct stat status;
    if (fstat(number, &status) != 0 || S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode)) return false;
    int flags = fcntl(number, F_GETFL), on_exec = fcntl(number, F_GETFD);
    off_t offset = noted ? *noted : lseek(number, 0, SEEK_CUR);
    if (flags < 0 || (offset < 0 && S_ISREG(status.st_mode))) return false;
    int fresh = platform_reopen(number, flags);
    if (fresh < 0) return false;
    bool done = (offset < 0 || lseek(fresh, offset, SEEK_SET) == offset) && platform_replace(fresh, number, on_exec & FD_CLOEXEC);
    close(fresh);
    return done;
}

void descriptor_child(uint64_t generation) {
    descriptors_in_child = (struct descriptors_in_child){0};
    tombstones_of = generation;
    if (adopted == 0) return;
    tombstone tombstone = {.number = -1};
    for (int pass = 0; pass < 2; pass++) { // files first: each takes a number for a moment
        for (int number = 0; number < numbers; number++) {
            entry *entry = find(number);
            if (!entry) {
                number |= ENTRIES_IN_CHUNK - 1;
                continue;
            }
            enum state state = state_of(entry->word);
            if ((state != OPEN && state != CLOSING) || entry->generation == generation) continue;
            uint64_t serial = serial_of(entry->word);
            if (state == OPEN && entry->policy == FORKGUARD_KEEP) {
                descriptors_in_child.kept++;
            } else if (state == OPEN && entry->policy == FORKGUARD_REOPEN && pass == 0) {
                if (!reopen(number, offsets_noted ? &entry->offset : NULL)) continue;
                descriptors_in_child.reopened++;
            } else if (pass == 1) {
                bool buried = bury(&tombstone, number);
                if (buried) descriptors_in_child.tombstoned++;
                if (!buried || (state == OPEN && entry->policy == FORKGUARD_REOPEN)) descriptors_in_child.failed++;
                entry->word = word_of(serial, buried ? TOMBSTONE : CLOSED, 0);
                adopted--;
                continue;
            } else {
                continue;
            }
            entry->generation = generation;
            entry->word = word_of(serial, OPEN, 0);
        }
    }
    if (tombstone.number >= 0 && !tombstone.in_place) close(tombstone.number);
    offsets_noted = false;
}

static bool is_registered(int number) {
    entry *entry = find(number);
    return entry && state_of(load(entry)) != CLOSED;
}

void descriptor_close_others(const int *kept, size_t count) {
    int first = STDERR_FILENO + 1;
    for (int number = first; number < numbers || count != 0; number++) {
        while (count != 0 && *kept < number) {
            kept++;
            count--;
        }
        // Past those that are registered the next that matters is in the list.
        if (number >= numbers) {
            if (count == 0) break;
            number = *kept;
        }
        if (!(count != 0 && *kept == number) && !is_registered(number)) continue;
        if (first < number) platform_close_range(first, number - 1);
        if (number == INT_MAX) return;
        first = number + 1;
    }
    platform_close_range(first, INT_MAX);
}
