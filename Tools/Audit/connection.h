#ifndef AUDIT_CONNECTION_H
#define AUDIT_CONNECTION_H

// The way to `forkguard audit`: one packet, one JSON object. If nobody is at the other end, nothing is said any more.

#include "json.h"
#include "process.h"

void connection_start(const char *path);
// The first packet, as soon as there is a process.
void connection_introduce(void);
void connection_take_over(void);

// The packet begun, with event, pid, tid and time; NULL if nothing can be sent. Until its end all signals are blocked (a handler would find the buffer in use,
// and a thread could be cancelled), and other threads' packets wait.
json *connection_begin(const char *event);
void connection_end(json *packet);
// The same, and waits for the answer.
void connection_ask(json *packet);

// The fork that a packet is about, if it is known.
void connection_add_fork(json *packet, fork_name fork);

// Begins a packet about something that is wrong; the caller adds what belongs to it, and ends it.
json *connection_finding(const char *name, fork_name fork, const char *detail);

// Whether it is the connection's own descriptor.
bool connection_is(int fd);

// Room for whoever has begun a packet.
#define CONNECTION_SCRATCH 8192
extern char connection_scratch[CONNECTION_SCRATCH];

// Reads a file of /proc, ended with a zero; -1 if it cannot.
ssize_t connection_read_file(const char *path, char *buffer, size_t size);

#endif
