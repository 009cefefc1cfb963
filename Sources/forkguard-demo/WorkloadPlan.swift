/// How much of everything: the same for both columns.
struct WorkloadPlan: Sendable {
    let children: Int
    let threads: Int
    let seed: UInt64
    /// By child: whether it is forked by a raw `fork()`.
    let isRaw: [Bool]

    /// How many requests a child sends.
    let childRequests = 20
    /// A child that runs longer hangs.
    let childDeadline = 5 * MonotonicClock.second
    /// Children at once. Those that hang stay until their deadline.
    let mostInFlight = 64
    /// Between two forks.
    let longestPause = 16 * MonotonicClock.millisecond
    /// Between two requests of a thread.
    let longestThought = MonotonicClock.millisecond / 2
    /// From the making of the threads to the first fork.
    let start = 20 * MonotonicClock.millisecond
    /// Of a request, short of a child's deadline. A guarded client never waits that long unless the machine stands still.
    let timeout = 2 * MonotonicClock.second

    /// One each: in a process that does not fork no thread ever waits for a connection.
    var connections: Int { threads }
    /// Afterwards nothing is forked any more.
    var longest: UInt64 { max(25 * MonotonicClock.second, UInt64(children) * 100 * MonotonicClock.millisecond) }

    init(children: Int, threads: Int, seed: UInt64, guarded: Bool) {
        self.children = children
        self.threads = threads
        self.seed = seed
        var random = RandomNumbers(seed: seed ^ 0xF0F0)
        isRaw = guarded ? (0..<children).map { $0 % 2 == 1 }.shuffled(using: &random) : Array(repeating: true, count: children)
    }
}

extension [UInt64] {
    /// Of a sorted array, as the nearest rank; 0 of none.
    func percentile(_ percent: Int) -> Int {
        isEmpty ? 0 : Int(self[Swift.max(0, (count * percent + 99) / 100 - 1)])
    }
}
