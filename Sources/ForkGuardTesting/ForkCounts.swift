/// What became of many children, counted.
///
///     let counts = try ForkTesting.repeated(500, while: [hammer]) { $0.expect(cache.isConsistent) }
///     XCTAssert(counts.succeeded, "\(counts)")
public struct ForkCounts: Sendable, CustomStringConvertible {
    /// How many trials were asked for.
    public let times: Int
    /// The children that succeeded.
    public internal(set) var ok = 0
    /// Those that ended by themselves with another value than the expected one, with a failure, or with another exit code than 0.
    public internal(set) var failed = 0
    /// Those that were killed at the deadline.
    public internal(set) var hung = 0
    /// Those that a signal ended.
    public internal(set) var crashed = 0
    /// The forks that threw or failed.
    public internal(set) var refused = 0
    /// The trials of which a second process came back, and the hammers' processes that did.
    public internal(set) var escaped = 0
    /// The description of the first outcome that is not ok; of the first that hung when there is one, since that has the stack.
    public internal(set) var firstProblem: String?

    /// How many trials were made: fewer than ``times`` when too many hung.
    public internal(set) var made = 0

    /// All of the trials that were asked for were made, and went well.
    public var succeeded: Bool { ok == times && escaped == 0 }

    /// One line of numbers, then the first problem.
    public var description: String {
        var line = "\(ok) ok, \(failed) failed, \(hung) hung, \(crashed) crashed, \(refused) refused, \(escaped) escaped"
        if made < times { line += " (\(times - made) of \(times) not tried)" }
        return firstProblem.map { "\(line)\nfirst problem: \($0)" } ?? line
    }

    var firstProblemIsHang = false
}
