/// How ``ForkGuard/fork(options:_:)`` forks.
public struct ForkOptions: OptionSet, Sendable {
    /// The bits.
    public let rawValue: UInt32

    /// Options from their bits.
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// The body runs on the forking thread of the child, which keeps what it holds: so the fork is allowed while this thread holds registered
    /// locks. The Swift runtime's thread id is stale there: the first contended `Synchronization.Mutex` traps.
    public static let onCallingThread = ForkOptions(rawValue: 1)
}
