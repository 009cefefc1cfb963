import CBench
import ForkGuard
import Glibc
import NIOConcurrencyHelpers
import Synchronization

// Ratios, in one run: the variants of a comparison take turns, many short rounds each, and medians are compared. The process has a second
// thread all the time, because glibc elides atomics in a single-threaded one.

let benchmarks = [
    ("lock", benchmarkLocks), ("contended", benchmarkContended), ("condition", benchmarkCondition), ("fork", benchmarkForks),
    ("idle", benchmarkIdle), ("resources", benchmarkResources), ("descriptors", benchmarkDescriptors),
    ("pool", benchmarkPools), ("discard", benchmarkDiscards), ("runtime", benchmarkRuntime),
    ("tasks", benchmarkTasks),
]

let arguments = CommandLine.arguments.dropFirst()
if arguments.contains("--help") || arguments.contains(where: { argument in !benchmarks.contains { $0.0 == argument } }) {
    print(
        """
        usage: forkguard-bench [lock] [contended] [condition] [fork] [idle] [resources] [descriptors] [pool] [discard] [runtime] [tasks]
          lock       uncontended lock and unlock, next to NIOLock and Synchronization.Mutex
          contended  2, 4 and 16 threads that hammer one lock, next to NIOLock and others
          condition  1 and 4 pairs of threads that play ping-pong, next to pthread_cond_t
          fork       a fork with 100,000 live ForkMutex, next to the same bytes of plain heap
          idle       a fork of an idle process that has ForkGuard linked, next to one that has not
          resources  what registered resources add to a fork
          descriptors  what adopted descriptors add to a fork
          pool       a pool's check-out and return, next to a ForkMutex and to an array in one
          discard    a pool's discard in a child, of 1 and of 100,000 idle ones
          runtime    metadata, lazy globals, mutexes of a process with the cures of ForkGuardRuntime, next to one that has them off
          tasks      tasks, actors and sleeps in a forked child, next to those of its parent
        All of them when nothing is named. Prints medians, and next to them what is promised.
        """)
    exit(arguments.contains("--help") ? 0 : 64)
}

startIdleThread()

for (name, run) in benchmarks where arguments.isEmpty || arguments.contains(name) { run() }
