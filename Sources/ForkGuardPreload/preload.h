// Inside the preload.

#ifndef FORKGUARD_PRELOAD_H
#define FORKGUARD_PRELOAD_H

/// Writes one line to standard error, of up to 500 bytes.
void preload_say(const char *what, const char *value, const char *why);

#endif
