import ForkGuard

/// Asks for echoes of what nobody else asks for, and counts whose answers come.
final class Echoes: Sendable {
    struct Counts: Codable, Equatable, Sendable, CustomStringConvertible {
        var asked = 0
        var right = 0
        /// Answers to somebody else's question.
        var crossed = 0
        /// By errors that are to be expected.
        var failed = 0
        var failedUnexpectedly = 0

        static func allRight(_ count: Int) -> Counts { Counts(asked: count, right: count) }

        static func + (left: Counts, right: Counts) -> Counts {
            Counts(
                asked: left.asked + right.asked, right: left.right + right.right, crossed: left.crossed + right.crossed,
                failed: left.failed + right.failed, failedUnexpectedly: left.failedUnexpectedly + right.failedUnexpectedly)
        }

        var description: String { "\(asked) asked, \(right) right, \(crossed) crossed, \(failed + failedUnexpectedly) failed" }
    }

    private struct State {
        var counts = Counts()
        var firstError: String?
    }

    private let who: String
    private let isExpected: @Sendable (any Error) -> Bool
    private let echo: @Sendable (String) throws -> String?
    private let state = ForkMutex(State(), name: "echoes")

    init(
        of who: String, expecting isExpected: @escaping @Sendable (any Error) -> Bool = { _ in false },
        _ echo: @escaping @Sendable (String) throws -> String?
    ) {
        self.who = who
        self.isExpected = isExpected
        self.echo = echo
    }

    var counts: Counts { state.withLock { $0.counts } }
    var firstError: String? { state.withLock { $0.firstError } }

    func ask() {
        let number = state.withLock { state in
            state.counts.asked += 1
            return state.counts.asked
        }
        do {
            let isRight = try echo("\(who)-\(number)") == "\(who)-\(number)"
            state.withLock { isRight ? ($0.counts.right += 1) : ($0.counts.crossed += 1) }
        } catch {
            let text = "\(error)"
            let isExpected = isExpected(error)
            state.withLock { state in
                isExpected ? (state.counts.failed += 1) : (state.counts.failedUnexpectedly += 1)
                if state.firstError == nil { state.firstError = text }
            }
        }
    }

    func ask(_ times: Int) -> Counts {
        for _ in 0..<times { ask() }
        return counts
    }

    /// The same once in the parent, before anybody else does it and before it forks: what the Swift runtime makes at first use, it makes under locks that a fork may
    /// leave locked.
    func rehearse() {
        let rehearsal = Echoes(of: "rehearsal", expecting: isExpected, echo).ask(2)
        _ = rehearsal + rehearsal == .allRight(2)
    }
}
