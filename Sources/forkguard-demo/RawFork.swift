#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// `fork(2)` itself, which Swift hides: what a library or a host calls that has never heard of ForkGuard.
struct RawFork: Sendable {
    private let function: @convention(c) @Sendable () -> Int32

    /// `nil`: libc does not give it away (a static executable).
    init?() {
        #if canImport(Darwin)
            let everywhere = UnsafeMutableRawPointer(bitPattern: -2)  // RTLD_DEFAULT
        #else
            let everywhere: UnsafeMutableRawPointer? = nil
        #endif
        guard let symbol = dlsym(everywhere, "fork") else { return nil }
        function = unsafeBitCast(symbol, to: (@convention(c) @Sendable () -> Int32).self)
    }

    func callAsFunction() -> Int32 { function() }
}
