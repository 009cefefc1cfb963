// What the host asks of each plugin.

#ifndef PLUGIN_H
#define PLUGIN_H

#include <stdint.h>

typedef struct plugin {
    void (*begin)(void);
    int (*take)(void); // as forkguard_lock
    void (*leave)(void);
    uint64_t (*generation)(void);
    uint32_t (*held)(void);
    uint64_t (*ordinal)(void); // of the last fork
    const int *children, *parents; // how often its hooks ran
} plugin;

typedef const plugin *plugin_entry_function(void);

#endif
