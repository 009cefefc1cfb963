/// What a lock under test protects: two numbers that are the same whenever nobody is inside.
// @unchecked: touched only with that lock held. Where the lock is broken in a child, the numbers may differ: that is what is looked for.
final class Protected: @unchecked Sendable {
    private var first = 0
    private var second = 0

    /// Inside of the lock for a while; two fifths of a millisecond, so that a fork finds somebody inside, and finds nobody soon.
    func change() {
        first += 1
        Clock.hold(microseconds: 400)
        second += 1
    }

    /// In the child, inside of the lock: whether nobody was cut off in the middle, and it works.
    func isWhole() -> Bool {
        let wasWhole = first == second
        first += 1
        second += 1
        return wasWhole && first == second
    }
}
