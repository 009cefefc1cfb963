/// A row in a parent: made there by the thread that will fork.
struct Hazard: Sendable {
    /// How many threads hammer.
    var hammers = 3
    /// One turn of a hammer, in `Hammer.inside`; the number is another one each time, in all threads.
    let hammer: @Sendable (Hammer, UInt64) -> Void
    /// What the forking thread does before the fork of this index, when hammered.
    var arrange: (@Sendable (Int) -> Void)?
    /// In the child: does the operation with the index of the fork; whether its result was right. What it was refused it throws.
    let check: @Sendable (Int) throws -> Bool
    /// When there is one, a task calls fork(), and goes on with this in the child.
    var checkInTask: (@Sendable (Int) async -> Bool)?
}
