import Glibc

/// An instant of the monotonic clock, for waits that consist of several.
public struct Deadline: Sendable {
    private let instant: ContinuousClock.Instant

    /// That far from now.
    public init(in timeout: Duration) { instant = .now + timeout }

    /// What is left, 0 when it has passed.
    public var left: Duration { max(.zero, ContinuousClock.now.duration(to: instant)) }

    /// Whether nothing is left.
    public var hasPassed: Bool { ContinuousClock.now >= instant }

    /// For poll(2): rounded up, so that it does not return too early.
    var milliseconds: Int32 {
        let (seconds, attoseconds) = left.components
        return Int32(clamping: seconds * 1000 + (attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000)
    }
}
