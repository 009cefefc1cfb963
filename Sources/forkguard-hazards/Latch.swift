import CForkGuardTesting

/// A result that another thread gives. By pthread, and made anew for each use, so that what is tested is who gives it.
// @unchecked: `result` is touched with the monitor locked; the pointer is a constant.
final class Latch<Value: Sendable>: @unchecked Sendable {
    private let monitor: OpaquePointer
    private var result: Value?

    init() {
        guard let monitor = fgt_monitor_create() else { fatalError("no memory") }
        self.monitor = monitor
    }

    deinit { fgt_monitor_destroy(monitor) }

    func give(_ value: Value) {
        fgt_monitor_lock(monitor)
        result = value
        fgt_monitor_wake(monitor)
        fgt_monitor_unlock(monitor)
    }

    func wait() -> Value {
        fgt_monitor_lock(monitor)
        defer { fgt_monitor_unlock(monitor) }
        while true {
            if let result { return result }
            _ = fgt_monitor_wait(monitor, .max)
        }
    }
}
