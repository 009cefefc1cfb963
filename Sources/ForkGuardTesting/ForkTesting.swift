internal import CForkGuardTesting

#if canImport(FoundationEssentials)
    internal import FoundationEssentials
#else
    internal import Foundation
#endif

/// Runs closures in forked children, and says what became of them. For XCTest and Swift Testing alike: it knows neither.
///
///     let outcome = try ForkTesting.run(while: [{ cache.insert(1) }]) { context in
///         context.expect(cache.isConsistent)
///         return cache.count
///     }
///     XCTAssert(outcome.succeeded, "\(outcome)")
///
/// The child is in a process group of its own, its standard output and error are captured, and it ends with `_exit`: it never comes back
/// into the runner. It is killed at the deadline, and whatever it started in its group with it. A process that the body or a hammer forks,
/// and that comes back from the closure, is ended there, and reported.
///
/// Under `swift test` Swift's backtracer handles crashes: its report is part of the outcome's standard error, and a signal that was raised,
/// not caused by an instruction, may go without effect.
public enum ForkTesting {
    /// Runs the body in one child.
    ///
    /// - Parameters:
    ///   - method: The way to fork.
    ///   - thread: The thread that forks.
    ///   - deadline: For the fork, for the child after it, and for a hammer to return when it is asked to stop: each this long.
    ///   - hammers: Each is called in a loop, in a thread of its own, from before the fork until after the child has ended. The fork
    ///     waits until all have begun.
    ///   - body: What the child does. An error that it throws is a failure in the outcome.
    /// - Throws: ``ForkTestingError`` when there was no trial to speak of. A fork that is refused is an outcome.
    public static func run<Value: Codable & Sendable>(
        _ method: ForkMethod = .forkGuard,
        from thread: ForkThread = .fresh,
        deadline: Duration = .seconds(10),
        while hammers: [@Sendable () -> Void] = [],
        _ body: @escaping @Sendable (ForkContext) throws -> Value
    ) throws -> ForkOutcome<Value> {
        let plan = Plan(method: method, thread: thread, deadline: deadline, body: body)
        ValueCoding.prepare(nil, of: Value.self)
        let hammers = try Hammers(hammers, patience: deadline)
        let outcome = Result { try plan.outcome(repetition: 0) }
        let late = hammers.stop()
        if let late { throw ForkTestingError.hammerDidNotEnd(late, outcome: text(outcome)) }
        return hammers.escaped > 0 ? try outcome.get().escaping() : try outcome.get()
    }

    /// Runs a body without a value in one child; the outcome's value is `true` when it has returned.
    public static func run(
        _ method: ForkMethod = .forkGuard,
        from thread: ForkThread = .fresh,
        deadline: Duration = .seconds(10),
        while hammers: [@Sendable () -> Void] = [],
        _ body: @escaping @Sendable (ForkContext) throws -> Void
    ) throws -> ForkOutcome<Bool> {
        try run(method, from: thread, deadline: deadline, while: hammers) { context -> Bool in
            try body(context)
            return true
        }
    }

    /// Runs the body in many children, one after the other or several at once, while the hammers run all the time, and counts.
    ///
    /// - Parameters:
    ///   - times: How many children.
    ///   - expected: The value that each child must return.
    ///   - method: The way to fork.
    ///   - thread: The thread that forks. With `concurrently` above 1 the calling threads are the runner's own.
    ///   - deadline: For each fork, and for each child after it.
    ///   - stopAfterHung: No further child is made after so many have hung.
    ///   - concurrently: How many trials are under way at once.
    ///   - hammers: Each is called in a loop, in a thread of its own, from before the first fork until after the last child.
    ///   - body: What each child does; ``ForkContext/repetition`` tells them apart.
    public static func repeated<Value: Codable & Sendable & Equatable>(
        _ times: Int,
        expecting expected: Value,
        _ method: ForkMethod = .forkGuard,
        from thread: ForkThread = .fresh,
        deadline: Duration = .seconds(10),
        stopAfterHung: Int = 5,
        concurrently: Int = 1,
        while hammers: [@Sendable () -> Void] = [],
        _ body: @escaping @Sendable (ForkContext) throws -> Value
    ) throws -> ForkCounts {
        let claim = try Guarded(false)
        let plan = Plan(method: method, thread: thread, deadline: deadline, body: body) {
            // Only one child's stack is shown.
            claim.withLock { claimed in
                defer { claimed = true }
                return !claimed
            }
        }
        ValueCoding.prepare(expected, of: Value.self)
        let state = try Guarded(Series(counts: ForkCounts(times: times)))
        let hammers = try Hammers(hammers, patience: deadline)

        @Sendable func work() {
            while let repetition = state.withLock({ $0.next(stopAfterHung: stopAfterHung) }) {
                do {
                    let outcome = try plan.outcome(repetition: repetition)
                    state.withLock { $0.counts.add(outcome.expecting(expected)) }
                } catch {
                    state.withLock { $0.problem = $0.problem ?? error }
                }
            }
        }
        if concurrently <= 1 {
            work()
        } else {
            var threads: [SystemThread] = []
            do {
                for index in 0..<concurrently { threads.append(try SystemThread("fork-series-\(index)", work)) }
            } catch {
                state.withLock { $0.problem = $0.problem ?? error }
            }
            threads.forEach { $0.join() }
        }

        let late = hammers.stop()
        let (counts, problem) = state.withLock { state in
            state.counts.addEscaped(hammers.escaped)
            return (state.counts, state.problem)
        }
        if let late { throw ForkTestingError.hammerDidNotEnd(late, outcome: counts.description) }
        if let problem { throw problem }
        return counts
    }

    /// Runs a body without a value in many children; see the other one.
    public static func repeated(
        _ times: Int,
        _ method: ForkMethod = .forkGuard,
        from thread: ForkThread = .fresh,
        deadline: Duration = .seconds(10),
        stopAfterHung: Int = 5,
        concurrently: Int = 1,
        while hammers: [@Sendable () -> Void] = [],
        _ body: @escaping @Sendable (ForkContext) throws -> Void
    ) throws -> ForkCounts {
        try repeated(
            times, expecting: true, method, from: thread, deadline: deadline, stopAfterHung: stopAfterHung, concurrently: concurrently,
            while: hammers
        ) { context in
            try body(context)
            return true
        }
    }

    private static func text<Value>(_ outcome: Result<ForkOutcome<Value>, any Error>) -> String {
        switch outcome {
        case .success(let outcome): outcome.description
        case .failure(let error): "\(error)"
        }
    }
}

/// What the threads of a series share.
private struct Series {
    var counts: ForkCounts
    var begun = 0
    var problem: (any Error)?

    mutating func next(stopAfterHung: Int) -> Int? {
        guard begun < counts.times, counts.hung < stopAfterHung, problem == nil else { return nil }
        defer { begun += 1 }
        return begun
    }
}

/// A trial with everything but its turn.
private struct Plan<Value: Codable & Sendable>: Sendable {
    let method: ForkMethod
    let thread: ForkThread
    let deadline: Duration
    let body: @Sendable (ForkContext) throws -> Value
    let wantsStack: @Sendable () -> Bool

    init(
        method: ForkMethod, thread: ForkThread, deadline: Duration, body: @escaping @Sendable (ForkContext) throws -> Value,
        wantsStack: @escaping @Sendable () -> Bool = { true }
    ) {
        self.method = method
        self.thread = thread
        self.deadline = deadline
        self.body = body
        self.wantsStack = wantsStack
    }

    func outcome(repetition: Int) throws -> ForkOutcome<Value> {
        let channel = try Channel(capturing: method != .rawCloneSharingFiles)
        let context = ForkContext(repetition: repetition, channel: channel)
        let encoder = ValueCoding.makeEncoder()
        let trial = Trial(method: method, deadline: deadline, channel: channel, wantsStack: wantsStack) { [body] in
            do {
                let value = try body(context)
                fgt_channel_check_child(channel.page)
                send(value, encoder, channel)
            } catch {
                fgt_channel_check_child(channel.page)
                channel.report(.failure, "the body threw \(error)")
            }
        }
        return ForkOutcome(try trial.run(from: thread), channel)
    }
}

private func send(_ value: some Codable, _ encoder: JSONEncoder, _ channel: Channel) {
    do {
        let error = try encoder.encode([value]).withUnsafeBytes { channel.report(.value, $0) }
        if error != 0 { channel.report(.failure, "the value could not be carried back: \(errorText(error))") }
    } catch {
        channel.report(.failure, "the value could not be encoded: \(error)")
    }
}

extension ForkOutcome {
    fileprivate init(_ result: Trial.Result, _ channel: Channel) {
        var value: Value?
        var failures: [String] = []
        var notes: [String] = []
        for piece in channel.pieces() {
            switch piece.tag {
            case .failure: failures.append(String(decoding: piece.bytes, as: UTF8.self))
            case .note: notes.append(String(decoding: piece.bytes, as: UTF8.self))
            case .value:
                do {
                    value = try ValueCoding.decode(Value.self, piece.bytes)
                } catch {
                    failures.append("the value could not be decoded: \(error)")
                }
            }
        }
        if fgt_channel_lost(channel.page) {
            failures.append("the body closed or replaced the descriptor through which the child reports; what it had to say is lost")
        }
        let ending: Ending =
            switch result.ending {
            case .exited(let code): .exited(code)
            case .signalled(let number): .signalled(number)
            case .hung(let stack): .hung(stack: stack)
            case .refused(let error): .refused(error)
            case .escaped: .escaped
            }
        self.init(
            ending: ending, value: value, failures: failures, notes: notes, standardOutput: result.standardOutput,
            standardError: result.standardError)
    }

    /// The same, but a hammer's process came back.
    fileprivate func escaping() -> Self {
        Self(
            ending: .escaped, value: value, failures: failures + ["a process that a hammer had forked came back from the hammer's closure"],
            notes: notes, standardOutput: standardOutput, standardError: standardError)
    }
}

extension ForkOutcome where Value: Equatable {
    /// The same, with a failure if it has another value.
    fileprivate func expecting(_ expected: Value) -> Self {
        guard let value, value != expected else { return self }
        return Self(
            ending: ending, value: value, failures: failures + ["the value is \(value), expected was \(expected)"], notes: notes,
            standardOutput: standardOutput, standardError: standardError)
    }
}

extension ForkCounts {
    fileprivate mutating func add<Value>(_ outcome: ForkOutcome<Value>) {
        made += 1
        switch outcome.ending {
        case .exited: if outcome.succeeded { ok += 1 } else { failed += 1 }
        case .signalled: crashed += 1
        case .hung: hung += 1
        case .refused: refused += 1
        case .escaped: escaped += 1
        }
        if outcome.succeeded { return }
        var isHang = false
        if case .hung = outcome.ending { isHang = true }
        if firstProblem == nil || (isHang && !firstProblemIsHang) {
            firstProblem = outcome.description
            firstProblemIsHang = isHang
        }
    }

    fileprivate mutating func addEscaped(_ hammers: Int) {
        escaped += hammers
        if hammers > 0, firstProblem == nil { firstProblem = "a process that a hammer had forked came back from the hammer's closure" }
    }
}
