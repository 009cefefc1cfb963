import CForkGuardTesting

/// A thread of its own, by pthread: Dispatch breaks children.
struct SystemThread {
    private let handle: OpaquePointer

    private final class Start: Sendable {
        let main: @Sendable () -> Void
        init(_ main: @escaping @Sendable () -> Void) { self.main = main }
    }

    init(_ name: String, _ main: @escaping @Sendable () -> Void) {
        let start = Unmanaged.passRetained(Start(main)).toOpaque()
        guard let handle = fgt_thread_start(name, { Unmanaged<Start>.fromOpaque($0).takeRetainedValue().main() }, start) else {
            fatalError("no thread: errno \(fgt_errno())")
        }
        self.handle = handle
    }

    func join() { fgt_thread_join(handle) }
    func abandon() { fgt_thread_abandon(handle) }
}
