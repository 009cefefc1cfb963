/// What became of a child.
enum Outcome: String {
    /// It had the right result.
    case ok
    /// ForkGuard said why not: an error before the fork, or a message in the child.
    case refused
    /// Killed at its deadline.
    case hung
    /// Ended by a signal, or with a wrong result.
    case crashed
}
