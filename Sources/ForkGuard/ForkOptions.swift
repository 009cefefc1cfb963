/// How ``ForkGuard/fork(options:_:)`` forks: none of these, one, or several in brackets.
public struct ForkOptions: Sendable, Equatable, ExpressibleByArrayLiteral {
    var runsOnCallingThread = false
    /// `nil`: none is closed.
    var kept: Set<Int32>?

    /// All of them. What one of several ``closeInherited(except:)`` keeps is kept.
    public init(arrayLiteral elements: ForkOptions...) {
        for element in elements {
            runsOnCallingThread = runsOnCallingThread || element.runsOnCallingThread
            if let more = element.kept { kept = (kept ?? []).union(more) }
        }
    }

    /// The body runs on the forking thread of the child, which keeps what it holds: so the fork is allowed while this thread holds registered
    /// locks. The Swift runtime's thread id is stale there: the first contended `Synchronization.Mutex` traps.
    public static var onCallingThread: ForkOptions {
        var options: ForkOptions = []
        options.runsOnCallingThread = true
        return options
    }

    /// The child closes every descriptor but 0, 1 and 2, those whose numbers are given here, and those that a ``ForkDescriptor`` stands for, which become what
    /// that says; before its hooks run (close_range(2), Linux 5.9; one by one where there is none).
    public static func closeInherited(except kept: Set<Int32> = []) -> ForkOptions {
        var options: ForkOptions = []
        options.kept = kept
        return options
    }
}
