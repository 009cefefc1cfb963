/// First come, first served. Its ends cost nothing; taking out of the middle looks at all.
struct Line<Element: AnyObject & Sendable>: Sendable {
    // Taken from the end of `next`, which is refilled from `arrived`, turned around.
    private var arrived: [Element] = []
    private var next: [Element] = []

    var count: Int { arrived.count + next.count }

    mutating func append(_ element: Element) { arrived.append(element) }

    mutating func removeFirst() -> Element? {
        if next.isEmpty {
            next = arrived.reversed()
            arrived.removeAll(keepingCapacity: true)
        }
        return next.popLast()
    }

    /// False when it is not in there.
    mutating func remove(_ element: Element) -> Bool {
        if let index = arrived.firstIndex(where: { $0 === element }) {
            arrived.remove(at: index)
        } else if let index = next.firstIndex(where: { $0 === element }) {
            next.remove(at: index)
        } else {
            return false
        }
        return true
    }

    mutating func removeAll() -> [Element] {
        defer { (arrived, next) = ([], []) }
        return next.reversed() + arrived
    }
}
