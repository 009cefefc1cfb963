/// What the parent has done, and what its other threads do at the fork.
enum Load: String {
    /// They have done the operation, and are parked.
    case idle
    /// They do it in a tight loop.
    case hammered
    /// There are none, and nobody has done it: a child that fails here fails for another reason than the fork.
    case alone

    /// Those that the map is of.
    static let usual: [Load] = [.idle, .hammered]

    var defaultForks: Int { self == .hammered ? 100 : 20 }
}
