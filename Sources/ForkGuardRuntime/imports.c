// Leading imports to wrappers.
//
// An object that calls a function of another one does so through a word in its own table, which the dynamic linker fills in (R_X86_64_JUMP_SLOT
// and GLOB_DAT, R_AARCH64_JUMP_SLOT and GLOB_DAT; ELF gABI, chapter 5, and the processors' supplements). We put our wrapper's address there.
//
// Why not define functions of the same name, which the dynamic linker would find first? Because it finds them first only in an executable: a library that Python loads
// comes after the C library in the order of search. And because Swift's runtime is linked with protected symbols: its own calls of its own
// functions do not look for them. Its metadata accessors call swift_getGenericMetadata directly, and a program that uses the standard library's generic types would go
// around every wrapper of that name. What all of that comes down to are calls out of the runtime, to the C library's mutexes: metadata that is being made is
// guarded by a mutex that its maker holds until it is done (AtomicWaitQueue.h, Swift 5.7 and later). Those calls cannot go around. And they
// are rare: what is in a cache takes no lock.
//
// The words may lie in memory that the dynamic linker has made read-only (PT_GNU_RELRO). Then it is made writable for a moment.

#include "imports.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__x86_64__)
#define IS_IMPORT(type) ((type) == R_X86_64_JUMP_SLOT || (type) == R_X86_64_GLOB_DAT)
#elif defined(__aarch64__)
#define IS_IMPORT(type) ((type) == R_AARCH64_JUMP_SLOT || (type) == R_AARCH64_GLOB_DAT)
#else
#define IS_IMPORT(type) ((void)(type), false)
#endif

// Somewhere in the Swift runtime. Weak: a C program may link the product too.
extern void swift_retain(void) __attribute__((weak));

static struct {
    const void *base;      // where the object with the Swift runtime begins, or NULL
    const void *own_base;  // and the one with this code
    char path[1024];
    bool is_static;
    size_t led;
    struct {
        const char *name;
        size_t count;
    } in_runtime[64];
} found;

bool imports_has_runtime(void) { return found.base != NULL; }
bool imports_runtime_is_static(void) { return found.is_static; }

// ---- objects ----

typedef struct object {
    const char *name;
    uintptr_t base, end;
    const ElfW(Sym) *symbols;
    const char *strings;
    const uint32_t *gnu_hash;
    const ElfW(Rela) *tables[2];
    size_t counts[2];
    uintptr_t relro, relro_end;
} object;

static bool describe(const struct dl_phdr_info *info, object *object) {
    memset(object, 0, sizeof *object);
    object->name = info->dlpi_name ? info->dlpi_name : "";
    object->base = info->dlpi_addr;
    const ElfW(Dyn) *dynamic = NULL;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type == PT_LOAD && object->base + header->p_vaddr + header->p_memsz > object->end)
            object->end = object->base + header->p_vaddr + header->p_memsz;
        if (header->p_type == PT_DYNAMIC) dynamic = (const ElfW(Dyn) *)(object->base + header->p_vaddr);
        if (header->p_type == PT_GNU_RELRO) {
            object->relro = object->base + header->p_vaddr;
            object->relro_end = object->relro + header->p_memsz;
        }
    }
    if (!dynamic) return false;
    size_t sizes[2] = {0}, relative = 0;
    // glibc adds the base to these words where an object may be written to, which vdso's is not.
#define ADDRESS(value) ((value) < object->base ? object->base + (value) : (value))
    for (; dynamic->d_tag != DT_NULL; dynamic++) {
        uintptr_t value = dynamic->d_un.d_ptr;
        switch (dynamic->d_tag) {
        case DT_SYMTAB: object->symbols = (const ElfW(Sym) *)ADDRESS(value); break;
        case DT_STRTAB: object->strings = (const char *)ADDRESS(value); break;
        case DT_GNU_HASH: object->gnu_hash = (const uint32_t *)ADDRESS(value); break;
        case DT_JMPREL: object->tables[0] = (const ElfW(Rela) *)ADDRESS(value); break;
        case DT_RELA: object->tables[1] = (const ElfW(Rela) *)ADDRESS(value); break;
        case DT_PLTRELSZ: sizes[0] = value; break;
        case DT_RELASZ: sizes[1] = value; break;
        case DT_RELACOUNT: relative = value; break;
        case DT_PLTREL: if (value != DT_RELA) return false; break;
        }
    }
#undef ADDRESS
    object->counts[0] = object->tables[0] ? sizes[0] / sizeof(ElfW(Rela)) : 0;
    object->counts[1] = object->tables[1] ? sizes[1] / sizeof(ElfW(Rela)) : 0;
    // The first ones are relative by the linker's promise (DT_RELACOUNT): nothing is imported there.
    if (relative < object->counts[1]) {
        object->tables[1] += relative;
        object->counts[1] -= relative;
    } else {
        object->counts[1] = 0;
    }
    return object->symbols && object->strings;
}

static const char *last_part(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool begins(const char *text, const char *beginning) { return strncmp(text, beginning, strlen(beginning)) == 0; }

// The C library itself, which would call wrappers from inside its own locks; and the sanitizers, which have wrappers of their own.
static bool is_left_alone(const char *path) {
    static const char *const names[] = {"libc.so", "libc-", "ld-linux", "ld-musl", "libpthread", "libdl.", "librt.", "linux-vdso", "libasan", "libtsan", "libubsan", "libclang_rt"};
    const char *name = last_part(path);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (begins(name, names[i])) return true;
    return false;
}

static bool is_runtime(const object *object) {
    if (object->base == (uintptr_t)found.base) return true;
    static const char *const names[] = {"libswiftCore.so", "libswift_Concurrency.so", "libswiftDistributed.so", "libswiftObservation.so", "libswift_Differentiation.so"};
    const char *name = last_part(object->name);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) return true;
    return false;
}

// CoreFoundation is a library of its own, or part of the executable as the Swift runtime is.
static bool is_foundation(const object *object) {
    return strcmp(last_part(object->name), FROM_FOUNDATION) == 0 || (found.is_static && object->base == (uintptr_t)found.base);
}

static bool has_loops(const object *object) { return is_foundation(object) || strcmp(last_part(object->name), FROM_DISPATCH) == 0; }

// ---- finding what is real ----

static int find_executable(struct dl_phdr_info *info, size_t size, void *base) {
    (void)size;
    *(uintptr_t *)base = info->dlpi_addr;
    return 1; // the first one is the executable
}

static int find_own(struct dl_phdr_info *info, size_t size, void *address) {
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        uintptr_t begin = info->dlpi_addr + header->p_vaddr;
        if (header->p_type != PT_LOAD || (uintptr_t)address < begin || (uintptr_t)address >= begin + header->p_memsz) continue;
        found.own_base = (const void *)info->dlpi_addr;
        return 1;
    }
    return 0;
}

// The libraries that functions come from are few, and many functions from each.
static void find_in(const import_table *tables, const char *name, void *library) {
    for (; library && tables->imports; tables++)
        for (size_t i = 0; i < tables->count; i++) {
            const import *import = &tables->imports[i];
            if (*import->real || !(name ? import->library && strcmp(import->library, name) == 0 : !import->library)) continue;
            // What the process calls by this name: of the C library's it may be an interposed one (LD_PRELOAD). Where the name is not global, as in Python, the library's. Others are looked
            // for in their library at once, which is thirty objects quicker.
            void *global = name && strcmp(name, FROM_LIBC) == 0 ? dlsym(RTLD_DEFAULT, import->name) : NULL;
            *import->real = global ? global : dlsym(library, import->name);
        }
}

bool imports_find(const import_table *tables, const char **reason) {
    if (!found.own_base) {
        uintptr_t executable = 0;
        dl_iterate_phdr(find_executable, &executable);
        if (executable == 0) {
            *reason = "the executable is not position independent: its function addresses are its own imports";
            return false;
        }
        dl_iterate_phdr(find_own, (void *)(uintptr_t)imports_find);
    }
    Dl_info info;
    if (!found.base && swift_retain && dladdr((const void *)(uintptr_t)swift_retain, &info) && info.dli_fname) {
        found.base = info.dli_fbase;
        found.is_static = info.dli_fbase == found.own_base;
        strncpy(found.path, info.dli_fname, sizeof found.path - 1);
    }
    static const char *const libraries[] = {FROM_LIBC, FROM_DISPATCH, FROM_CXX, FROM_CONCURRENCY, FROM_SWIFT_DISPATCH};
    for (unsigned i = 0; i < sizeof libraries / sizeof *libraries; i++) {
        void *library = dlopen(libraries[i], RTLD_LAZY | RTLD_NOLOAD);
        find_in(tables, libraries[i], library);
        if (library) dlclose(library);
    }
    if (found.base && !found.is_static) {
        void *runtime = dlopen(found.path, RTLD_LAZY | RTLD_NOLOAD);
        find_in(tables, NULL, runtime);
        if (runtime) dlclose(runtime);
    }
    return true;
}

bool imports_is_libc(const void *function) {
    Dl_info info;
    return function && dladdr(function, &info) && info.dli_fname && strcmp(last_part(info.dli_fname), FROM_LIBC) == 0;
}

// ---- loaded whole ----
//
// dl_iterate_phdr(3) shows an object that another thread is loading before it is relocated; a word that is changed then is lost, and memory that is made read-only then crashes the dynamic
// linker. To open the object again waits until that thread is done.

struct pinned {
    size_t count, size;
    const struct link_map *maps[];
};

typedef struct names {
    size_t count, size;
    char **all;
} names;

static int note_name(struct dl_phdr_info *info, size_t size, void *context) {
    (void)size;
    names *names = context;
    if (names->count < names->size) names->all[names->count] = strdup(info->dlpi_name ? info->dlpi_name : "");
    names->count++;
    return 0;
}

pinned *imports_pin(void) {
    enum { MOST = 1024 };
    names names = {.size = MOST, .all = calloc(MOST, sizeof(char *))};
    pinned *pinned = calloc(1, sizeof *pinned + MOST * sizeof pinned->maps[0]);
    if (names.all && pinned) dl_iterate_phdr(note_name, &names);
    for (size_t i = 0; names.all && pinned && i < names.count && i < names.size; i++) {
        const char *name = names.all[i];
        void *handle = name ? dlopen(*name ? name : NULL, RTLD_LAZY | RTLD_NOLOAD) : NULL;
        if (handle) pinned->maps[pinned->count++] = handle; // glibc's handles are its maps (dlinfo(3), RTLD_DI_LINKMAP)
        free(names.all[i]);
    }
    free(names.all);
    return pinned;
}

void imports_unpin(pinned *pinned) {
    for (size_t i = 0; pinned && i < pinned->count; i++) dlclose((void *)(uintptr_t)pinned->maps[i]);
    free(pinned);
}

// ---- leading ----

// Thousands of imports are looked at, and few are ours: a hash table, at most half full.
#define PLACES 512

// A word that is to be changed.
typedef struct change {
    object object;
    const import *import;
    void **word;
    bool runtime;
} change;

typedef struct lead {
    uint32_t cures;
    change *changes;
    size_t count, size;
    const import *places[PLACES];
} lead;

static unsigned place_of(const char *name) {
    unsigned sum = 0;
    while (*name) sum = sum * 31 + (unsigned char)*name++;
    return sum % PLACES;
}

static void put_in_places(lead *lead, const import_table *tables) {
    for (; tables->imports; tables++)
        for (size_t i = 0; i < tables->count; i++) {
            unsigned place = place_of(tables->imports[i].name);
            while (lead->places[place]) place = (place + 1) % PLACES;
            lead->places[place] = &tables->imports[i];
        }
}

// Swift's and C++'s names are nine of ten, so they are looked at by their first letters; of these only some of Task's and DispatchWorkItem's are led.
static bool may_be_led(const char *name) {
    if (name[0] == '_') return name[1] != 'Z';
    if (name[0] != '$' || name[1] != 's') return true;
    return name[2] == 'S' ? name[3] == 'c' && name[4] == 'T' : name[2] == '8' && begins(name, "$s8Dispatch0A8WorkItemC");
}

static const import *import_of(const lead *lead, const object *object, const char *name, bool runtime) {
    if (!may_be_led(name)) return NULL;
    for (unsigned place = place_of(name); lead->places[place]; place = (place + 1) % PLACES) {
        const import *import = lead->places[place];
        if (strcmp(import->name, name) != 0) continue;
        if (import->only_loops && !has_loops(object)) continue;
        bool wanted = (import->cure & lead->cures) || (runtime && (import->runtime_cure & lead->cures));
        return wanted && *import->real ? import : NULL;
    }
    return NULL;
}

// The page that is writable for a moment, of those that the dynamic linker has protected. An object's words are neighbours.
static struct {
    uintptr_t first, size;
} opened;

static void close_page(void) {
    if (opened.first) mprotect((void *)opened.first, opened.size, PROT_READ);
    opened.first = 0;
}

static bool write_word(const object *object, void **word, void *value) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = (uintptr_t)word & -page;
    bool protected = (uintptr_t)word >= object->relro && (uintptr_t)word < object->relro_end;
    if (protected && first != opened.first) {
        close_page();
        if (mprotect((void *)first, page, PROT_READ | PROT_WRITE) != 0) return false;
        // The page that the protected part ends in was left writable by the dynamic linker.
        if (first + page <= (object->relro_end & -page)) opened.first = first;
        opened.size = page;
    }
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
    return true;
}

static void count_in_runtime(const char *name) {
    for (size_t i = 0; i < sizeof found.in_runtime / sizeof *found.in_runtime; i++) {
        if (found.in_runtime[i].name && strcmp(found.in_runtime[i].name, name) != 0) continue;
        found.in_runtime[i].name = name;
        found.in_runtime[i].count++;
        return;
    }
}

size_t imports_led_in_runtime(const char *name) {
    for (size_t i = 0; i < sizeof found.in_runtime / sizeof *found.in_runtime && found.in_runtime[i].name; i++)
        if (strcmp(found.in_runtime[i].name, name) == 0) return found.in_runtime[i].count;
    return 0;
}

typedef void (*each_import)(const object *object, const char *name, bool runtime, void **word, void *context);

typedef struct walk {
    bool (*wanted)(const object *object); // NULL: all
    each_import each;
    void *context;
} walk;

static int walk_object(struct dl_phdr_info *info, size_t size, void *context) {
    (void)size;
    const walk *walk = context;
    object object;
    if (is_left_alone(info->dlpi_name ? info->dlpi_name : "") || !describe(info, &object)) return 0;
    if (walk->wanted && !walk->wanted(&object)) return 0;
    bool runtime = is_runtime(&object);
    for (unsigned t = 0; t < 2; t++)
        for (size_t i = 0; i < object.counts[t]; i++) {
            const ElfW(Rela) *relocation = &object.tables[t][i];
            if (!IS_IMPORT(ELF64_R_TYPE(relocation->r_info))) continue;
            const char *name = object.strings + object.symbols[ELF64_R_SYM(relocation->r_info)].st_name;
            walk->each(&object, name, runtime, (void **)(object.base + relocation->r_offset), walk->context);
        }
    return 0;
}

static void walk_imports(bool (*wanted)(const object *), each_import each, void *context) {
    walk walk = {wanted, each, context};
    dl_iterate_phdr(walk_object, &walk);
}

static void note_one(const object *object, const char *name, bool runtime, void **word, void *context) {
    lead *lead = context;
    const import *import = import_of(lead, object, name, runtime);
    if (!import) return;
    void *now = __atomic_load_n(word, __ATOMIC_ACQUIRE);
    // Its own wrapper; nothing, for a weak one that its object found nowhere; or another function than the process has by that name: an older version of it, another
    // copy's wrapper. What is not bound yet points into its object.
    bool unbound = (uintptr_t)now >= object->base && (uintptr_t)now < object->end;
    if (now == import->wrapper || !now || (now != *import->real && !unbound)) return;
    if (lead->count < lead->size) lead->changes[lead->count] = (change){*object, import, word, runtime};
    lead->count++;
}

static bool ends_section(const change *change) {
    const char *name = change->import->name;
    return strstr(name, "unlock") || strstr(name, "release") || strstr(name, "abort");
}

static void make(const lead *lead, bool ends) {
    for (size_t i = 0; i < lead->count; i++) {
        const change *change = &lead->changes[i];
        if (ends_section(change) != ends || !write_word(&change->object, change->word, change->import->wrapper)) continue;
        found.led++;
        if (change->runtime) count_in_runtime(change->import->name);
    }
    close_page();
}

static const pinned *only; // of the thread that leads

static bool is_pinned(const object *object) {
    for (size_t i = 0; i < only->count; i++)
        if (only->maps[i]->l_addr == object->base) return true;
    return false;
}

size_t imports_lead(const import_table *tables, uint32_t cures, const pinned *pinned) {
    static change changes[4096]; // more imports than any process has of these names
    static lead lead;
    memset(&lead, 0, sizeof lead);
    lead.cures = cures;
    lead.changes = changes;
    lead.size = sizeof changes / sizeof *changes;
    put_in_places(&lead, tables);
    only = pinned;
    walk_imports(pinned ? is_pinned : NULL, note_one, &lead);
    if (lead.count > lead.size) lead.count = lead.size;
    // What ends a section first: a thread that began one uncounted and ends it counted does no harm, the other way round it would be inside for ever.
    make(&lead, true);
    make(&lead, false);
    return found.led;
}

typedef struct visiting {
    imports_visitor visit;
    void *context;
} visiting;

static void visit_one(const object *object, const char *name, bool runtime, void **word, void *context) {
    const visiting *visiting = context;
    visiting->visit(object->name, name, runtime, __atomic_load_n(word, __ATOMIC_ACQUIRE), visiting->context);
}

void imports_visit(imports_visitor visit, void *context) {
    visiting visiting = {visit, context};
    walk_imports(NULL, visit_one, &visiting);
}

// ---- CoreFoundation ----

typedef struct sought {
    const char *name;
    const void *word;
} sought;

static void look_at_import(const object *object, const char *name, bool runtime, void **word, void *context) {
    (void)runtime;
    sought *sought = context;
    (void)object;
    if (strcmp(name, sought->name) == 0) sought->word = word;
}

const void *imports_foundation_word(const char *name) {
    sought sought = {.name = name};
    walk_imports(is_foundation, look_at_import, &sought);
    return sought.word;
}

typedef struct code {
    void (*visit)(const unsigned char *, size_t, void *);
    void *context;
} code;

static int visit_code(struct dl_phdr_info *info, size_t size, void *context) {
    (void)size;
    const code *code = context;
    object object;
    if (!describe(info, &object) || !is_foundation(&object)) return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type == PT_LOAD && header->p_flags & PF_X)
            code->visit((const unsigned char *)(object.base + header->p_vaddr), header->p_memsz, code->context);
    }
    return 1;
}

void imports_foundation_code(void (*visit)(const unsigned char *, size_t, void *), void *context) {
    code code = {visit, context};
    dl_iterate_phdr(visit_code, &code);
}

// ---- which runtime ----

// Adds up names, so that their order does not count (FNV-1a, 64 bits).
static uint64_t hash_of(const char *name) {
    uint64_t hash = UINT64_C(14695981039346656037);
    for (; *name; name++) hash = (hash ^ (unsigned char)*name) * UINT64_C(1099511628211);
    return hash;
}

static size_t symbols_in(const object *object) {
    // DT_GNU_HASH: number of buckets, first symbol, size of the filter; the last chain ends with an odd word.
    const uint32_t *hash = object->gnu_hash;
    if (!hash) return 0;
    uint32_t buckets = hash[0], first = hash[1], filter = hash[2], last = 0;
    const uint32_t *bucket = hash + 4 + filter * (sizeof(ElfW(Addr)) / 4), *chain = bucket + buckets;
    for (uint32_t i = 0; i < buckets; i++)
        if (bucket[i] > last) last = bucket[i];
    if (last < first) return first;
    while (!(chain[last - first] & 1)) last++;
    return last + 1;
}

static uint64_t sum_of(const object *object, const char *prefix, const char *other) {
    uint64_t sum = 0;
    size_t count = symbols_in(object);
    for (size_t i = 0; i < count; i++) {
        const ElfW(Sym) *symbol = &object->symbols[i];
        const char *name = object->strings + symbol->st_name;
        if (symbol->st_shndx == SHN_UNDEF || ELF64_ST_TYPE(symbol->st_info) != STT_FUNC) continue;
        if (begins(name, prefix) || begins(name, other)) sum += hash_of(name);
    }
    return sum;
}

static int sum_runtime(struct dl_phdr_info *info, size_t size, void *sum) {
    (void)size;
    object object;
    if ((const void *)info->dlpi_addr != found.base || !describe(info, &object)) return 0;
    *(uint64_t *)sum = sum_of(&object, "swift_", "_swift_");
    return 1;
}

uint64_t imports_fingerprint(void) {
    uint64_t sum = 0;
    if (found.base && !found.is_static) dl_iterate_phdr(sum_runtime, &sum);
    return sum;
}

// ---- the memory of an object ----

typedef struct wanted_object {
    const char *name;
    object_memory *memory;
} wanted_object;

static int look_at_memory(struct dl_phdr_info *info, size_t size, void *context) {
    (void)size;
    const wanted_object *wanted = context;
    object object;
    if (strcmp(last_part(info->dlpi_name ? info->dlpi_name : ""), wanted->name) != 0 || !describe(info, &object)) return 0;
    // What is written to begins after what the dynamic linker protects and after the words of imports, which are bound one by one, and led.
    uintptr_t data = object.relro_end, end = data;
    for (unsigned t = 0; t < 2; t++)
        for (size_t i = 0; i < object.counts[t]; i++) {
            uintptr_t word = object.base + object.tables[t][i].r_offset;
            if (IS_IMPORT(ELF64_R_TYPE(object.tables[t][i].r_info)) && word + sizeof(void *) > data) data = word + sizeof(void *);
        }
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        uintptr_t segment_end = object.base + header->p_vaddr + header->p_memsz;
        if (header->p_type == PT_LOAD && (header->p_flags & PF_W) && segment_end > end) end = segment_end;
    }
    *wanted->memory = (object_memory){object.base, object.end, (char *)data, end - data, sum_of(&object, "dispatch_", "_dispatch_")};
    return 1;
}

bool imports_object(const char *name, object_memory *memory) {
    wanted_object wanted = {name, memory};
    return dl_iterate_phdr(look_at_memory, &wanted) == 1;
}

typedef struct thread_data {
    uintptr_t begin;
    void *data;
} thread_data;

static int look_at_thread_data(struct dl_phdr_info *info, size_t size, void *context) {
    (void)size;
    thread_data *wanted = context;
    if (info->dlpi_addr != wanted->begin) return 0;
    wanted->data = info->dlpi_tls_data;
    return 1;
}

void *imports_thread_data(const object_memory *memory) {
    thread_data wanted = {.begin = memory->begin};
    dl_iterate_phdr(look_at_thread_data, &wanted);
    return wanted.data;
}
