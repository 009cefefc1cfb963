import CBench
import ForkGuard
import Glibc
import NIOConcurrencyHelpers
import Synchronization

// Ratios, in one run: the variants of a comparison take turns, many short rounds each, and medians are compared. The process has a second
// thread all the time, because glibc elides atomics in a single-threaded one.

let arguments = CommandLine.arguments.dropFirst()
if arguments.contains("--help") || arguments.contains(where: { $0 != "lock" && $0 != "fork" }) {
    print(
        """
        usage: forkguard-bench [lock] [fork]
          lock  uncontended lock and unlock, next to NIOLock and Synchronization.Mutex
          fork  a fork with 100,000 live ForkMutex, next to the same bytes of plain heap
        Both when nothing is named. Prints medians in nanoseconds, and ratios.
        """)
    exit(arguments.contains("--help") ? 0 : 64)
}

startIdleThread()

if arguments.isEmpty || arguments.contains("lock") { benchmarkLocks() }
if arguments.isEmpty || arguments.contains("fork") { benchmarkForks() }
