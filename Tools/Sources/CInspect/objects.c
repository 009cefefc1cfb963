// What is at an address of a process: libdw.

#include "objects.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/// libstdc++'s; declared here, as its header is for C++.
extern char *__cxa_demangle(const char *name, char *buffer, size_t *length, int *status);

static const Dwfl_Callbacks callbacks = {
    .find_elf = dwfl_linux_proc_find_elf,
    .find_debuginfo = dwfl_standard_find_debuginfo,
};

inspect_objects *inspect_objects_of(pid_t process) {
    inspect_objects *objects = calloc(1, sizeof *objects);
    if (!objects) return NULL;
    objects->dwfl = dwfl_begin(&callbacks);
    if (!objects->dwfl || dwfl_linux_proc_report(objects->dwfl, process) != 0 || dwfl_report_end(objects->dwfl, NULL, NULL) != 0) {
        inspect_objects_free(objects);
        return NULL;
    }
    return objects;
}

void inspect_objects_free(inspect_objects *objects) {
    if (objects->dwfl) dwfl_end(objects->dwfl);
    free(objects);
}

static void copy(char *to, size_t size, const char *from) { snprintf(to, size, "%s", from ? from : ""); }

/// The line of an address. Clang writes no table of which unit has which addresses, and libdw looks nowhere else: then each unit is asked.
static void find_line(Dwfl_Module *module, Dwarf_Addr address, struct inspect_place *place) {
    Dwfl_Line *line = dwfl_module_getsrc(module, address);
    if (line) {
        copy(place->file, sizeof place->file, dwfl_lineinfo(line, NULL, &place->line, NULL, NULL, NULL));
        return;
    }
    Dwarf_Addr bias = 0;
    for (Dwarf_Die *unit = NULL; (unit = dwfl_module_nextcu(module, unit, &bias));) {
        if (dwarf_haspc(unit, address - bias) != 1) continue;
        Dwarf_Line *found = dwarf_getsrc_die(unit, address - bias);
        if (found && dwarf_lineno(found, &place->line) == 0) copy(place->file, sizeof place->file, dwarf_linesrc(found, NULL, NULL));
        return;
    }
}

void inspect_place_of(inspect_objects *objects, uint64_t address, struct inspect_place *place) {
    memset(place, 0, sizeof *place);
    Dwfl_Module *module = dwfl_addrmodule(objects->dwfl, address);
    if (!module) return;
    Dwarf_Addr start = 0;
    const char *name = dwfl_module_info(module, NULL, &start, NULL, NULL, NULL, NULL, NULL);
    copy(place->object, sizeof place->object, name);
    place->object_offset = address - start;
    GElf_Off offset = 0;
    GElf_Sym symbol;
    const char *function = dwfl_module_addrinfo(module, address, &offset, &symbol, NULL, NULL, NULL);
    if (function) {
        int status = -1;
        char *readable = strncmp(function, "_Z", 2) == 0 ? __cxa_demangle(function, NULL, NULL, &status) : NULL;
        copy(place->symbol, sizeof place->symbol, readable ? readable : function);
        free(readable);
        place->symbol_offset = offset;
    }
    find_line(module, address, place);
    if (place->line == 0) place->file[0] = 0; // the compiler's own
}

uint64_t inspect_objects_sum(pid_t process) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/maps", (int)process);
    FILE *maps = fopen(path, "re");
    if (!maps) return 0;
    uint64_t sum = 14695981039346656037u; // FNV-1a, 64 bits
    char *line = NULL;
    size_t size = 0;
    bool any = false;
    while (getline(&line, &size, maps) > 0) {
        char *permissions = strchr(line, ' ');
        if (!permissions || permissions[3] != 'x' || !strchr(line, '/')) continue;
        any = true;
        for (const char *c = line; *c; c++) sum = (sum ^ (uint8_t)*c) * 1099511628211u;
    }
    free(line);
    fclose(maps);
    return any ? sum | 1 : 0;
}
