// ForkGuard: a multi-threaded process survives fork(2), whoever calls it.
//
// The umbrella header. One header per room; read them in this order.

#ifndef FORKGUARD_H
#define FORKGUARD_H

#include "forkguard/generation.h" // which process is this
#include "forkguard/gate.h"       // no thread is inside a section while a fork copies the process
#include "forkguard/lock.h"       // the fork-aware lock
#include "forkguard/section.h"    // other locks and sections inside the gate
#include "forkguard/condition.h"  // waiting for what a lock protects
#include "forkguard/registry.h"   // who is told about a fork
#include "forkguard/foreign.h"    // locks that are not ours
#include "forkguard/descriptor.h" // what becomes of an inherited descriptor
#include "forkguard/report.h"     // what the last fork did
#include "forkguard/atfork.h"     // forkguard_fork, and the order of the phases
#include "forkguard/child.h"      // the child, as its parent holds it
#include "forkguard/thread.h"     // threads, for the Swift overlay
#include "forkguard/support.h"    // which cures of ForkGuardRuntime are on

#endif
