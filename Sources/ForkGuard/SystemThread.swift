#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#elseif canImport(Darwin)
    internal import Darwin
#endif
internal import CForkGuard

/// A thread by pthread: neither Dispatch nor Swift concurrency survives in a child. Joined or detached once, in the process that made it.
struct SystemThread: Sendable {
    private final class Body: Sendable {
        let name: String?
        let run: @Sendable () -> Void

        init(_ name: String?, _ run: @escaping @Sendable () -> Void) {
            self.name = name
            self.run = run
        }
    }

    #if canImport(Darwin)
        // A pointer that only pthread looks behind.
        nonisolated(unsafe) private let handle: pthread_t
    #else
        private let handle: pthread_t
    #endif

    /// Starts it. The kernel keeps 15 bytes of the name.
    ///
    /// - Throws: ``ForkError/system(call:errno:)``.
    init(name: String? = nil, _ run: @escaping @Sendable () -> Void) throws(ForkError) {
        let body = Unmanaged.passRetained(Body(name, run))
        #if canImport(Darwin)
            var thread: pthread_t?
            let error = pthread_create(&thread, nil, { Self.main($0) }, body.toOpaque())
        #else
            var thread = pthread_t()
            let error = pthread_create(&thread, nil, { Self.main($0!) }, body.toOpaque())
        #endif
        guard error == 0 else {
            body.release()
            throw .system(call: "pthread_create", errno: error)
        }
        #if canImport(Darwin)
            handle = thread!
        #else
            handle = thread
        #endif
    }

    /// Whether the calling thread is this one.
    var isCurrent: Bool { pthread_equal(handle, pthread_self()) != 0 }

    func detach() { pthread_detach(handle) }

    /// Waits until nothing is left of it.
    func join() { pthread_join(handle, nil) }

    /// The same, at most until the deadline, by forkguard_nanoseconds. `id` is its ``currentID``. `false`: it is still there, and still to be joined.
    func join(id: Int32, deadline: UInt64) -> Bool { forkguard_thread_join_(number, id, deadline) != ETIMEDOUT }

    // A pointer where it is not a number: the C library's business.
    #if canImport(Glibc)
        private var number: UInt { handle }
    #else
        private var number: UInt { UInt(bitPattern: handle) }
    #endif

    /// The kernel's number for the calling thread.
    static var currentID: Int32 { forkguard_thread_id_() }

    private static func main(_ context: UnsafeMutableRawPointer) -> UnsafeMutableRawPointer? {
        let body = Unmanaged<Body>.fromOpaque(context).takeRetainedValue()
        if let name = body.name { forkguard_thread_name_(name) }
        body.run()
        return nil
    }
}
