/// What holds something that a forked child must not use: connections, descriptors, threads, sessions.
///
/// Register it with ``ForkGuard/register(_:name:discard:)``. All three run on the forking thread.
public protocol ForkSafe: AnyObject, Sendable {
    /// In the parent, before the fork, newest registration first. Other threads are still running and may be waited for, unless they fork.
    func prepareForFork()

    /// In the parent, after the fork, oldest registration first; also when the fork failed.
    func resumeAfterFork()

    /// In the child, before `fork()` returns, oldest registration first: drop what was inherited. No I/O on it and no closing handshake, which the
    /// parent's peer would take for the parent's; no waiting for threads, which are gone. ``ForkMutex`` may be locked here, but one that the
    /// forking thread itself may hold around a raw `fork()` is still its own: use `withLockIfAvailable` for that.
    func discardAfterFork()
}

extension ForkSafe {
    /// Nothing.
    public func prepareForFork() { UnusedPhase.prepare.note(self) }

    /// Nothing.
    public func resumeAfterFork() { UnusedPhase.resume.note(self) }
}

/// When a child calls `discardAfterFork()`.
public enum ForkDiscard: Sendable {
    /// Before `fork()` returns, whoever called it.
    case beforeForkReturns
    /// At the child's first ForkGuard call that is inside no section: children that never use the library pay nothing.
    case onFirstUse
}
