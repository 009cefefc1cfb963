// What the headers have inline, as functions: for programs that link the shared library, and for other languages, which have no headers. Only that library exports them.

#define FORKGUARD_EMITS_INLINES

#include "forkguard.h"
