internal import CForkGuardTesting

/// A thread of its own, by pthread: Dispatch breaks children.
// Sendable because the handle is only read, and `join` or `abandon` is called once, by the thread that made it.
final class SystemThread: @unchecked Sendable {
    private let handle: OpaquePointer

    init(_ name: String, _ main: @escaping @Sendable () -> Void) throws {
        let box = Unmanaged.passRetained(Box(main))
        let started = fgt_thread_start(
            name,
            { context in
                // Released by the thread before it runs: in a child that is forked here nothing is left to release.
                Unmanaged<Box>.fromOpaque(context).takeRetainedValue().main()
            }, box.toOpaque())
        guard let started else {
            let error = fgt_errno()
            box.release()
            throw ForkTestingError.systemCallFailed("a thread", errno: error)
        }
        handle = started
    }

    /// Waits for it to end.
    func join() { fgt_thread_join(handle) }

    /// Leaves it to itself.
    func abandon() { fgt_thread_abandon(handle) }

    private final class Box: Sendable {
        let main: @Sendable () -> Void
        init(_ main: @escaping @Sendable () -> Void) { self.main = main }
    }
}
