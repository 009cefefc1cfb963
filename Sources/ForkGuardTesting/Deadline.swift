internal import CForkGuardTesting

/// An instant of the monotonic clock.
struct Deadline: Sendable {
    let nanoseconds: UInt64

    static let never = Deadline(nanoseconds: .max)

    init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

    init(in duration: Duration) {
        let (seconds, attoseconds) = duration.components
        let span = max(0, min(Double(seconds) * 1e9 + Double(attoseconds) * 1e-9, 1e18))
        nanoseconds = fgt_now_ns() + UInt64(span)
    }

    var millisecondsLeft: Int32 {
        let now = fgt_now_ns()
        return nanoseconds <= now ? 0 : Int32(min((nanoseconds - now + 999_999) / 1_000_000, 1_000_000))
    }

    var hasPassed: Bool { fgt_now_ns() >= nanoseconds }
}
