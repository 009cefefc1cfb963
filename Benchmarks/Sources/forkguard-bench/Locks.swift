import ForkGuard
import NIOConcurrencyHelpers
import Synchronization

/// Uncontended lock and unlock around an increment.
func benchmarkLocks() {
    let guarded = ForkMutex(0)
    let nio = NIOLockedValueBox(0)
    let nioLock = NIOLock()
    nonisolated(unsafe) var nioValue = 0
    let standard = Standard()
    let medians = interleaved(
        rounds: 200, calls: 20_000,
        [
            ("ForkMutex", { calls in for _ in 0..<calls { guarded.withLock { $0 &+= 1 } } }),
            ("NIOLock", { calls in for _ in 0..<calls { nioLock.withLock { nioValue &+= 1 } } }),
            ("NIOLockedValueBox", { calls in for _ in 0..<calls { nio.withLockedValue { $0 &+= 1 } } }),
            ("Synchronization.Mutex", { calls in for _ in 0..<calls { standard.mutex.withLock { $0 &+= 1 } } }),
            (
                "generation check",
                { calls in for _ in 0..<calls where !ForkGuard.isCurrent(1) { fatalError("this process was forked") } }
            ),
        ])
    print("uncontended lock and unlock, medians of 200 interleaved rounds, nanoseconds")
    for (name, value) in zip(["ForkMutex", "NIOLock", "NIOLockedValueBox", "Synchronization.Mutex", "generation check"], medians) {
        print("  \(name): \(rounded(value))")
    }
    print("  ForkMutex / NIOLock: \(rounded(medians[0] / medians[1]))  (promised: at most 1.0)")
    print("  ForkMutex / Synchronization.Mutex: \(rounded(medians[0] / medians[3]))  (promised: at most 0.5)")
}

private final class Standard: Sendable {
    let mutex = Mutex(0)
}
