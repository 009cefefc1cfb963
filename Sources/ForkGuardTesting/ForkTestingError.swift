internal import CForkGuardTesting

/// Why a trial could not be made, or what was wrong with it where a value was asked for. The description is a message for a test's log.
public enum ForkTestingError: Error, Sendable, CustomStringConvertible {
    /// A raw method failed with this errno; `ENOSYS` where it is not available.
    case forkFailed(ForkMethod, errno: Int32)
    /// The trial needs something of the system that it did not get: descriptors, memory, a thread.
    case systemCallFailed(String, errno: Int32)
    /// A hammer had not begun when the deadline passed.
    case hammerDidNotBegin(String)
    /// A hammer had not returned from its closure when the deadline had passed since it was asked to stop: it goes on, in a thread that
    /// is abandoned. `outcome` describes what the trials had to say before.
    case hammerDidNotEnd(String, outcome: String)
    /// Somebody else reaped the child: SIGCHLD is ignored, or another thread waits for any child. `outcome` says what is known.
    case childReapedByAnother(pid: Int32)
    /// The outcome is not that of a success: see its description, which is carried here.
    case notSucceeded(String)

    /// A message for a test's log.
    public var description: String {
        switch self {
        case .forkFailed(let method, let errno): "\(method) failed: \(errorText(errno))"
        case .systemCallFailed(let what, let errno): "\(what): \(errorText(errno))"
        case .hammerDidNotBegin(let who): "\(who) has not begun before the deadline"
        case .hammerDidNotEnd(let who, let outcome):
            "\(who) has not returned from its closure since it was asked to stop, and was abandoned; before that: \(outcome)"
        case .childReapedByAnother(let pid):
            "somebody else reaped the child \(pid), so its ending is unknown: is SIGCHLD ignored, or does a thread wait for any child?"
        case .notSucceeded(let outcome): outcome
        }
    }
}

func errorText(_ number: Int32) -> String {
    let text = textFromC(capacity: 256) { fgt_error_text(number, $0, $1) }
    return "\(text) (errno \(number))"
}

/// A string that C writes into a buffer with a zero at its end.
func textFromC(capacity: Int, _ write: (UnsafeMutablePointer<CChar>, Int) -> Void) -> String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: capacity) { buffer in
        guard let start = buffer.baseAddress else { return "" }
        start.pointee = 0
        write(start, capacity)
        return String(cString: start)
    }
}
