// Inside the product: leading the imports of loaded objects to wrappers.

#ifndef FORKGUARD_IMPORTS_H
#define FORKGUARD_IMPORTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "forkguard/base.h"

FORKGUARD_PRIVATE_BEGIN

// Where the real ones are, as dlopen(3) knows it; NULL: the Swift runtime.
#define FROM_LIBC "libc.so.6"
#define FROM_DISPATCH "libdispatch.so"
#define FROM_CXX "libstdc++.so.6"
#define FROM_SWIFT_DISPATCH "libswiftDispatch.so"
#define FROM_FOUNDATION "libFoundation.so"
#define FROM_CORE "libswiftCore.so"
#define FROM_CONCURRENCY "libswift_Concurrency.so"

/// What a call has in a register.
typedef uintptr_t word;

/// One function that is led through the gate.
typedef struct import {
    const char *name;
    const char *library; // one of the above
    void *wrapper;
    void **real;    // found at start
    uint32_t cure;  // enum forkguard_runtime_cures, with which it is led in every object
    uint32_t runtime_cure; // the one with which it is led in the Swift runtime's objects only, or 0
    bool only_loops; // led in the objects with event loops only: libdispatch and CoreFoundation
} import;

/// Tables of them, up to an empty one.
typedef struct import_table {
    const import *imports;
    size_t count;
} import_table;

/// Finds what is real. False when the process cannot be helped, with the reason.
bool imports_find(const import_table *tables, const char **reason);

/// Objects that are loaded whole, and stay so until they are let go. NULL: no memory. Waits for who is loading one now; so not under a lock that constructors may want.
typedef struct pinned pinned;
pinned *imports_pin(void);
void imports_unpin(pinned *pinned);

/// Leads the imports of these objects, or of all (`pinned` is NULL: nobody loads one meanwhile), for these cures; returns how many there are now. One thread at a time.
size_t imports_lead(const import_table *tables, uint32_t cures, const pinned *pinned);

/// Whether this is the C library's own function.
bool imports_is_libc(const void *function);

/// Visits every import of every object that is not left alone.
typedef void (*imports_visitor)(const char *object, const char *name, bool runtime, void *word, void *context);
void imports_visit(imports_visitor visit, void *context);

/// The word by which CoreFoundation's object imports `name`, or NULL; and that object's code, one visit for each part.
const void *imports_foundation_word(const char *name);
void imports_foundation_code(void (*visit)(const unsigned char *code, size_t size, void *context), void *context);

/// How many of the Swift runtime's own imports of `name` are led.
size_t imports_led_in_runtime(const char *name);

/// The loaded object whose file has this name: where it lies, the memory that it writes to but for its imports, and a sum over the names that it exports. False: there is none.
typedef struct object_memory {
    uintptr_t begin, end;
    char *data;
    size_t size;
    uint64_t fingerprint;
} object_memory;
bool imports_object(const char *name, object_memory *memory);

/// The object's variables of the calling thread; NULL: it has not used them.
void *imports_thread_data(const object_memory *memory);

/// A sum over the names that the Swift runtime exports: which version it is. 0 where it is part of the executable.
uint64_t imports_fingerprint(void);

/// Whether the Swift runtime is in this process, and whether it is linked into the executable.
bool imports_has_runtime(void);
bool imports_runtime_is_static(void);

FORKGUARD_PRIVATE_END

#endif
