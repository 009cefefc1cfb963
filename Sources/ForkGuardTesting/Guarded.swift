internal import CForkGuardTesting

/// Some state, its lock, and a way to wait until it has changed. For the runner only: no child touches one, since it may be locked there
/// by a thread that does not exist.
// Sendable because `state` is touched inside of `withLock` only, between the monitor's lock and unlock, and the monitor is made for
// several threads.
final class Guarded<State>: @unchecked Sendable {
    private let monitor: OpaquePointer
    private var state: State

    init(_ state: sending State) throws {
        guard let monitor = fgt_monitor_create() else { throw ForkTestingError.systemCallFailed("a monitor", errno: fgt_errno()) }
        self.monitor = monitor
        self.state = state
    }

    deinit { fgt_monitor_destroy(monitor) }

    /// Whoever waits is woken afterwards.
    func withLock<Result: Sendable>(_ body: (inout State) throws -> Result) rethrows -> Result {
        fgt_monitor_lock(monitor)
        defer {
            fgt_monitor_wake(monitor)
            fgt_monitor_unlock(monitor)
        }
        return try body(&state)
    }

    /// Waits until the condition holds. False when the deadline passed before.
    func wait(until deadline: Deadline, for condition: (State) -> Bool) -> Bool {
        fgt_monitor_lock(monitor)
        defer { fgt_monitor_unlock(monitor) }
        while !condition(state) {
            if !fgt_monitor_wait(monitor, deadline.nanoseconds) { return condition(state) }
        }
        return true
    }
}
