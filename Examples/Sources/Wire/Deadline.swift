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
    private var milliseconds: Int32 {
        let (seconds, attoseconds) = left.components
        return Int32(clamping: seconds * 1000 + (attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000)
    }

    /// Waits until one of the events of poll(2) is there.
    ///
    /// - Throws: `WireError.timedOut` with what was waited for, `WireError.system`.
    public func wait(for events: Int32, on number: Int32, _ what: String) throws {
        var wanted = pollfd(fd: number, events: Int16(events), revents: 0)
        repeat {
            let ready = poll(&wanted, 1, milliseconds)
            if ready > 0 { return }
            if ready < 0, errno != EINTR { throw WireError.system("poll", errno: errno) }
        } while !hasPassed
        throw WireError.timedOut(what)
    }
}
