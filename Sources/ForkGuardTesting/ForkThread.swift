/// The thread that forks.
public enum ForkThread: Sendable, CaseIterable {
    /// A new thread for each fork. A fork that never returns in the runner is then found out by the deadline, with the runner's stacks.
    case fresh
    /// The thread that calls the runner, the main one, say. Nothing can end the wait for a fork that never returns there.
    case calling
}
