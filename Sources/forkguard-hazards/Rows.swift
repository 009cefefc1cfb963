/// The hazard map.
enum Rows {
    static let all: [Row] = runtime + locks + foundation + library + dispatch + concurrency

    static func named(_ name: String) -> Row? { all.first { $0.name == name } }

    /// The three that are most like it.
    static func nearest(to name: String) -> [String] {
        let distances = all.enumerated().map { (distance: distance(name, $1.name), index: $0) }
        return distances.sorted { ($0.distance, $0.index) < ($1.distance, $1.index) }.prefix(3).map { all[$0.index].name }
    }

    /// How many letters to change, add or leave out.
    private static func distance(_ first: String, _ second: String) -> Int {
        let letters = Array(second)
        var row = Array(0...letters.count)
        for (number, letter) in first.enumerated() {
            var diagonal = row[0]
            row[0] = number + 1
            for (column, other) in letters.enumerated() {
                let changed = diagonal + (letter == other ? 0 : 1)
                diagonal = row[column + 1]
                row[column + 1] = min(changed, diagonal + 1, row[column] + 1)
            }
        }
        return row[letters.count]
    }
}
