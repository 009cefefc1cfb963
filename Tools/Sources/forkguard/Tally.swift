/// How often each thing was there, in the order in which they came, with what was noted of the first of its kind.
struct Tally<Key: Hashable, Note> {
    private(set) var items: [(key: Key, note: Note, count: Int)] = []
    /// How many kinds came after there were as many as are kept.
    private(set) var leftOff = 0
    private var places: [Key: Int] = [:]
    private let limit: Int

    init(limit: Int = 1000) { self.limit = limit }

    mutating func add(_ key: Key, _ note: @autoclosure () -> Note) {
        if let place = places[key] {
            items[place].count += 1
        } else if items.count < limit {
            places[key] = items.count
            items.append((key, note(), 1))
        } else {
            leftOff += 1
        }
    }
}
