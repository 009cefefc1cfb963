#ifndef FORKGUARD_INSPECT_OBJECTS_H
#define FORKGUARD_INSPECT_OBJECTS_H

#include "CInspect.h"

#include <elfutils/libdwfl.h>

struct inspect_objects {
    Dwfl *dwfl;
    bool attached; // libdw takes a process for its stacks once
};

#endif
