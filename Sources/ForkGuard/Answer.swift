/// Where a worker's thread leaves what became of a request, and whoever wants to know waits for it.
final class Answer<Response: Sendable>: Sendable {
    private let outcome: ForkMutex<Result<Response, any Error>?>
    private let given = ForkCondition()

    init(file: StaticString, line: UInt32) {
        outcome = ForkMutex(nil, name: nil, ifTorn: .rebuild { nil }, file: file, line: line)
    }

    func give(_ result: Result<Response, any Error>) {
        outcome.withLock { outcome in
            outcome = result
            given.broadcast()
        }
    }

    /// `nil` when it was not given in time.
    func wait(deadline: UInt64) -> Result<Response, any Error>? {
        given.wait(outcome, deadline: deadline, until: { $0 != nil }) { $0 } ?? nil
    }
}
