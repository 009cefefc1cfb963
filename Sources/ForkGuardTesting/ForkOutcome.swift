internal import CForkGuardTesting

/// What became of one child.
///
///     let outcome = try ForkTesting.run { _ in cache.count }
///     #expect(outcome.value == 3, "\(outcome)")
///
/// The description says all of it, with the stack of a child that hung and what it printed.
public struct ForkOutcome<Value: Codable & Sendable>: Sendable, CustomStringConvertible {
    /// How the child ended.
    public enum Ending: Sendable {
        /// With this code: 0 after the body has returned or thrown.
        case exited(Int32)
        /// By this signal: it crashed.
        case signalled(Int32)
        /// It was still running at the deadline, with these stacks, and was killed. Or the fork itself had not returned in the runner:
        /// then they are the runner's.
        case hung(stack: String)
        /// There was no child: the fork threw this, or failed.
        case refused(any Error)
        /// A process that the body or a hammer had forked came back from the closure, too. It was ended there.
        case escaped
    }

    /// How the child ended.
    public let ending: Ending
    /// What the body returned; nil if it threw, or never returned.
    public let value: Value?
    /// What the body expected in vain, the error that it threw, and what else was not right.
    public let failures: [String]
    /// What the body noted.
    public let notes: [String]
    /// What the child and its descendants wrote to standard output; of very much, the beginning and the end.
    public let standardOutput: String
    /// What they wrote to standard error, the message of a trap for one.
    public let standardError: String

    /// The child returned a value, without a failure, and exited with 0.
    public var succeeded: Bool {
        if case .exited(0) = ending { value != nil && failures.isEmpty } else { false }
    }

    /// The value of a child that succeeded.
    /// - Throws: ``ForkTestingError/notSucceeded(_:)`` with the outcome's description.
    public func get() throws -> Value {
        guard succeeded, let value else { throw ForkTestingError.notSucceeded(description) }
        return value
    }

    /// All of it, over several lines where there is much to say.
    public var description: String {
        var lines = [headline]
        lines += failures.map { "failure: \($0)" }
        lines += notes.map { "note: \($0)" }
        lines += section("standard output", standardOutput)
        lines += section("standard error", standardError)
        if case .hung(let stack) = ending { lines += section("stack", stack) }
        return lines.joined(separator: "\n")
    }

    private var headline: String {
        let known = value.map { value in
            let text = "\(value)"
            return text.utf8.count <= 500 ? ", with the value \(text)" : ", with a value of \(text.utf8.count) bytes as text"
        }
        let with = known ?? ", without a value"
        switch ending {
        case .exited(let code): return "the child exited with \(code)\(with)"
        case .signalled(let number): return "the child was ended by signal \(number) (\(signalName(number)))\(with)"
        case .hung: return "the child hung\(with)"
        case .refused(let error): return "the fork was refused: \(error)"
        case .escaped: return "a second process came back from the closure into the runner, and was ended there\(with)"
        }
    }

    private func section(_ title: String, _ text: String) -> [String] {
        text.isEmpty
            ? [] : ["\(title):", text.split(separator: "\n", omittingEmptySubsequences: false).map { "    \($0)" }.joined(separator: "\n")]
    }
}

func signalName(_ number: Int32) -> String {
    textFromC(capacity: 128) { fgt_signal_name(number, $0, $1) }
}
