/// What the parent's other threads do at the fork.
enum Load: String, CaseIterable {
    /// They have done the operation, and are parked.
    case idle
    /// They do it in a tight loop.
    case hammered

    var defaultForks: Int { self == .idle ? 20 : 100 }
}
