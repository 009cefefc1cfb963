import CForkGuardTesting

/// A thread by pthread: Dispatch, Foundation's and Swift's own threads are hazards themselves.
// @unchecked: the handle is only read, and `join` is called once, by the thread that made it.
final class SystemThread: @unchecked Sendable {
    private let handle: OpaquePointer

    private final class Body: Sendable {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    /// `nil`: the system gives no more threads.
    init?(_ name: String, _ run: @escaping @Sendable () -> Void) {
        let body = Unmanaged.passRetained(Body(run))
        let started = fgt_thread_start(name, { Unmanaged<Body>.fromOpaque($0).takeRetainedValue().run() }, body.toOpaque())
        guard let started else {
            body.release()
            return nil
        }
        handle = started
    }

    func join() { fgt_thread_join(handle) }
}
