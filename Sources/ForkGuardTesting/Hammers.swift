internal import CForkGuardTesting

/// Closures that are called in a loop, each in a thread of its own.
final class Hammers: Sendable {
    private struct State {
        var begun: [Bool]
        var ended: [Bool]
    }

    private let state: Guarded<State>
    private let page: Channel
    private let threads: [SystemThread]
    private let patience: Duration

    /// Returns when each has begun.
    init(_ hammers: [@Sendable () -> Void], patience: Duration) throws {
        let state = try Guarded(State(begun: hammers.map { _ in false }, ended: hammers.map { _ in false }))
        let page = try Channel(capturing: false)
        self.state = state
        self.page = page
        self.patience = patience
        var threads: [SystemThread] = []
        var problem: (any Error)?
        for (index, hammer) in hammers.enumerated() where problem == nil {
            do {
                threads.append(
                    try SystemThread("fork-hammer-\(index + 1)") {
                        state.withLock { $0.begun[index] = true }
                        while !fgt_channel_stopped(page.page) {
                            hammer()
                            // A process that the hammer forked and that came back here is not the runner, and must run nothing of it.
                            fgt_channel_check_runner(page.page)
                        }
                        state.withLock { $0.ended[index] = true }
                    })
            } catch {
                problem = error
            }
        }
        self.threads = threads
        let started = threads.count
        if problem == nil, !state.wait(until: Deadline(in: patience), for: { !$0.begun.contains(false) }) {
            let late = state.withLock { $0.begun.firstIndex(of: false) ?? 0 }
            problem = ForkTestingError.hammerDidNotBegin("hammer \(late + 1) of \(started)")
        }
        if let problem {
            _ = stop()
            throw problem
        }
    }

    /// Stops and joins them; whoever has not ended by then is named, and abandoned.
    func stop() -> String? {
        fgt_channel_stop(page.page)
        let count = threads.count
        let all = state.wait(until: Deadline(in: patience)) { !$0.ended.prefix(count).contains(false) }
        let ended = state.withLock { $0.ended }
        for (thread, ended) in zip(threads, ended) {
            if ended { thread.join() } else { thread.abandon() }
        }
        fgt_channel_reap_escaped(page.page, 1000)
        guard !all, let late = ended.firstIndex(of: false) else { return nil }
        return "hammer \(late + 1) of \(count) (patience \(patience))"
    }

    /// How many of their processes came back.
    var escaped: Int { Int(fgt_channel_escaped(page.page)) }
}
