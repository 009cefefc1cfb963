import ForkGuard

/// What threads count, by name, and the first error that one of them met.
final class Tally: Sendable, CustomStringConvertible {
    private struct State {
        var counts: [String: Int] = [:]
        var last = 0
        var problem: String?
    }

    private let state = ForkMutex(State(), name: "tally")

    func add(_ name: String, _ count: Int = 1, _ problem: String? = nil) {
        state.withLock { state in
            state.counts[name, default: 0] += count
            state.problem = state.problem ?? problem
        }
    }

    /// A number that no other call gets.
    func next() -> Int {
        state.withLock { state in
            state.last += 1
            return state.last
        }
    }

    subscript(name: String) -> Int { state.withLock { $0.counts[name, default: 0] } }

    var description: String {
        let (counts, problem) = state.withLock { ($0.counts, $0.problem) }
        let text = counts.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
        return problem.map { "\(text); first: \($0)" } ?? text
    }
}
