/// The twins of a row.
enum Column: String, CaseIterable {
    /// Nothing of ForkGuard's is used, and its cures are off.
    case unguarded
    /// All cures are on; every second child is forked by `ForkGuard.fork`.
    case guarded

    /// After so many hung or crashed children the column is told well enough: each hung one takes two seconds.
    var enoughHung: Int { self == .unguarded ? 5 : 10 }
}
