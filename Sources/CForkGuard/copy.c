// Which of several copies of the library leads: the notes, and the walk over them. (copy.h has the protocol.)

#include "copy.h"

#include "report.h"

#include <string.h>

const copy_functions *copy_leader;
bool copy_settled;

#if defined(__ELF__)

#include <elf.h>
#include <link.h>

// It only grows, so that a copy of any version can read the beginning of another's.
typedef struct copy {
    uint32_t version;
    uint32_t leads;
    uint32_t slot_size, lock_size, report_size, token_size; // what a caller makes or reads
    const copy_functions *functions;
} copy;

static const copy_functions functions = {
#define COPY_FIELD(name) .name = forkguard_##name,
    COPY_FUNCTIONS(COPY_FIELD)
#undef COPY_FIELD
};

// The note refers to it, and nothing that a compiler sees.
copy forkguard_this_copy __attribute__((used, visibility("hidden"))) = {
    .version = COPY_VERSION,
    .slot_size = sizeof(forkguard_slot),
    .lock_size = sizeof(forkguard_lock_t),
    .report_size = sizeof(forkguard_report),
    .token_size = sizeof(forkguard_descriptor_t),
    .functions = &functions,
};

#define NOTE_NAME "ForkGuard"
#define NOTE_TYPE 1

// Its content is how far the variable is from it: no relocation at run time, no symbol.
__asm__(".pushsection .note.forkguard, \"a\", %note\n"
        ".balign 4\n"
        ".long 10, 4, 1\n"
        ".asciz \"" NOTE_NAME "\"\n"
        ".balign 4\n"
        ".long forkguard_this_copy - .\n"
        ".popsection\n");

static const copy *copy_in_note(const ElfW(Nhdr) *note) {
    const char *name = (const char *)(note + 1);
    if (note->n_type != NOTE_TYPE || note->n_namesz != sizeof NOTE_NAME || note->n_descsz != sizeof(int32_t)) return NULL;
    if (memcmp(name, NOTE_NAME, sizeof NOTE_NAME) != 0) return NULL;
    const char *content = name + ((sizeof NOTE_NAME + 3) & ~(size_t)3);
    int32_t distance;
    memcpy(&distance, content, sizeof distance);
    return (const copy *)(content + distance);
}

static uint64_t aligned(uint64_t size, uint64_t alignment) { return (size + alignment - 1) & ~(alignment - 1); }

// Whoever made an object may have been careless.
static bool is_loaded(const struct dl_phdr_info *object, const ElfW(Phdr) *part) {
    for (unsigned i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *loaded = &object->dlpi_phdr[i];
        if (loaded->p_type == PT_LOAD && part->p_vaddr >= loaded->p_vaddr && part->p_memsz <= loaded->p_filesz
            && part->p_vaddr - loaded->p_vaddr <= loaded->p_filesz - part->p_memsz)
            return true;
    }
    return false;
}

static int look_into(struct dl_phdr_info *object, size_t size, void *leads) {
    (void)size;
    for (unsigned i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        if (part->p_type != PT_NOTE || !is_loaded(object, part)) continue;
        uint64_t alignment = part->p_align == 8 ? 8 : 4, rest = part->p_memsz;
        const char *at = (const char *)(object->dlpi_addr + part->p_vaddr);
        while (rest >= sizeof(ElfW(Nhdr))) {
            const ElfW(Nhdr) *note = (const ElfW(Nhdr) *)at;
            uint64_t head = aligned(sizeof *note + (uint64_t)note->n_namesz, alignment), all = head + aligned(note->n_descsz, alignment);
            // The last one of a part need not be filled up.
            if (head + note->n_descsz > rest) break;
            const copy *found = copy_in_note(note);
            if (found && found != &forkguard_this_copy && __atomic_load_n(&found->leads, __ATOMIC_ACQUIRE)) {
                *(const copy **)leads = found;
                return 1;
            }
            if (all >= rest) break;
            at += all;
            rest -= all;
        }
    }
    return 0;
}

static bool fits(const copy *other) {
    const copy *own = &forkguard_this_copy;
    return other->version == own->version && other->slot_size == own->slot_size && other->lock_size == own->lock_size
        && other->report_size == own->report_size && other->token_size == own->token_size;
}

// Inside a walk of its own, which holds the dynamic linker's lock: of two copies that start at once one sees the other. (glibc; musl's walk holds nothing. There only the constructors,
// which run one after the other, keep them apart.)
static int settle(struct dl_phdr_info *object, size_t size, void *leads) {
    (void)object, (void)size;
    dl_iterate_phdr(look_into, leads);
    const copy *other = *(const copy **)leads;
    if (other && fits(other)) copy_leader = other->functions;
    else __atomic_store_n(&forkguard_this_copy.leads, 1, __ATOMIC_RELEASE);
    return 1;
}

bool copy_settle(void) {
    const copy *other = NULL;
    dl_iterate_phdr(settle, &other);
    if (other && !copy_leader)
        report_say((const char *const[]){
            "two versions of ForkGuard are in this process, and neither can be led by the other: each guards only what was made with it, and a fork may wait for each until its "
            "deadline", NULL,
        });
    __atomic_store_n(&copy_settled, true, __ATOMIC_RELEASE);
    return copy_leader == NULL;
}

#else

bool copy_settle(void) {
    __atomic_store_n(&copy_settled, true, __ATOMIC_RELEASE);
    return true;
}

#endif
