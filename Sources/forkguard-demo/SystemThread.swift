#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// A thread by pthread: neither Dispatch nor Swift concurrency survives in a child.
struct SystemThread: Sendable {
    private final class Body: Sendable {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    #if canImport(Darwin)
        // A pointer that only pthread looks behind.
        nonisolated(unsafe) private let handle: pthread_t
    #else
        private let handle: pthread_t
    #endif

    /// `nil`: the system gives no more threads.
    init?(_ run: @escaping @Sendable () -> Void) {
        let body = Unmanaged.passRetained(Body(run))
        #if canImport(Darwin)
            var thread: pthread_t?
            let failure = pthread_create(&thread, nil, { Self.main($0) }, body.toOpaque())
        #else
            var thread = pthread_t()
            let failure = pthread_create(&thread, nil, { Self.main($0!) }, body.toOpaque())
        #endif
        guard failure == 0 else {
            body.release()
            return nil
        }
        #if canImport(Darwin)
            handle = thread!
        #else
            handle = thread
        #endif
    }

    func join() { pthread_join(handle, nil) }

    private static func main(_ body: UnsafeMutableRawPointer) -> UnsafeMutableRawPointer? {
        Unmanaged<Body>.fromOpaque(body).takeRetainedValue().run()
        return nil
    }
}
