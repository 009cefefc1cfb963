import CForkGuardTesting
import Foundation

/// Nanoseconds of a clock that nobody sets.
enum Clock {
    static let second: UInt64 = 1_000_000_000
    static let millisecond: UInt64 = 1_000_000

    static var now: UInt64 { fgt_now_ns() }

    /// How long poll(2) may wait for this deadline.
    static func milliseconds(until deadline: UInt64) -> Int32 {
        let now = now
        return now >= deadline ? 0 : Int32(clamping: (deadline - now) / millisecond + 1)
    }

    /// What a holder does inside: it must be there for a while, and another thread shall have the processor.
    static func hold(microseconds: Int) {
        var time = timespec(tv_sec: 0, tv_nsec: microseconds * 1000)
        nanosleep(&time, nil)
    }
}
