import ForkGuard
import Glibc
import Wire

/// Counts, by several threads.
final class Counter: Sendable {
    private let count = ForkMutex(0, name: "counter")

    var value: Int { count.withLock { $0 } }
    func add(_ number: Int = 1) { count.withLock { $0 += number } }

    /// Waits until others have counted on. False when they have not in time.
    func rises(_ timeout: Duration = .seconds(10)) -> Bool {
        let before = value
        let deadline = Deadline(in: timeout)
        while value == before, !deadline.hasPassed { sched_yield() }
        return value > before
    }
}
