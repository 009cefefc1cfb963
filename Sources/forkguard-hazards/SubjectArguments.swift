/// What the program starts itself with, for a parent that forks.
struct SubjectArguments {
    let row: Row
    let load: Load
    let column: Column
    let forks: Int
    /// The number of the first of these forks in the column: varies the moment, and which way to fork comes first.
    let first: Int
    /// Whether a hung child's stack is wanted, which takes seconds.
    let wantsStack: Bool

    static let name = "--subject"

    var words: [String] {
        [Self.name, row.name, load.rawValue, column.rawValue, String(forks), String(first), wantsStack ? "stack" : "no-stack"]
    }

    init(row: Row, load: Load, column: Column, forks: Int, first: Int, wantsStack: Bool) {
        self.row = row
        self.load = load
        self.column = column
        self.forks = forks
        self.first = first
        self.wantsStack = wantsStack
    }

    /// `nil`: not such arguments.
    init?(words: [String]) {
        guard words.count == 7, words[0] == Self.name, let row = Rows.named(words[1]), let load = Load(rawValue: words[2]),
            let column = Column(rawValue: words[3]), let forks = Int(words[4]), let first = Int(words[5])
        else { return nil }
        self.init(row: row, load: load, column: column, forks: forks, first: first, wantsStack: words[6] == "stack")
    }
}
