// Inside the library: what belongs to this process alone, beside what forkguard/generation.h shows of the page that the kernel wipes in a child.
//
// A child finds zeros here, which is what it should find: nobody's turn, no forker, no report. And the parent may write here right after a fork for
// nothing: the kernel does not share the page with the child, while every other page that is written to then is copied first, at two microseconds
// or so. Where there is no such page a child finds its parent's, so the C phases set it right all the same.

#ifndef FORKGUARD_PROCESS_INTERNAL_H
#define FORKGUARD_PROCESS_INTERNAL_H

#include "forkguard/generation.h"
#include "forkguard/report.h"

FORKGUARD_PRIVATE_BEGIN

typedef struct process_state {
    struct {
        uint32_t guard; // 0 free, 1 taken, 2 taken and somebody sleeps
        uint32_t event; // counts changes of the owner
        uint64_t owner; // serial of the thread whose turn it is; 0: nobody's
        uint64_t tickets;
    } turn;
    struct {
        uint32_t parked; // how many threads sleep on the gate's word
        int32_t thread;  // the forker's kernel id
        uint64_t serial; // and its serial; 0: nobody forks
        uint64_t prepared_at; // 0 while the forker is still preparing
        uint64_t short_way;   // the forker's serial, when it took the short way (atfork.c)
    } forker;
    struct {
        uint32_t sequence; // 0: there is no report; odd while it changes
        forkguard_report report;
    } last;
} process_state;

#define PROCESS_STATE_OFFSET 64
#define process (*(process_state *)(void *)(forkguard_page.whole + PROCESS_STATE_OFFSET))

_Static_assert(sizeof forkguard_page.word <= PROCESS_STATE_OFFSET, "it begins after what is public");
_Static_assert(PROCESS_STATE_OFFSET + sizeof(process_state) <= FORKGUARD_PAGE_SIZE, "it fits on the page");

FORKGUARD_PRIVATE_END

#endif
