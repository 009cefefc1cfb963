/// A row under a load: both columns.
struct Measurement {
    let row: Row
    let load: Load
    private(set) var counts: [Column: Counts] = [.unguarded: Counts(), .guarded: Counts()]
    private var told: [String] = []

    /// Longer without a line than anything takes: a fork's deadline, the child's, a stack.
    private static let silence = 40 * Clock.second

    init(_ row: Row, _ load: Load) {
        self.row = row
        self.load = load
    }

    subscript(column: Column) -> Counts { counts[column] ?? Counts() }

    /// Nothing hung or crashed, or was refused where it must not, and the hammer was where it can do harm.
    var isGood: Bool {
        let counts = self[.guarded]
        return counts.hung + counts.crashed == 0 && row.refusals.allow(counts.refused, under: load) && columnsThatMissed.isEmpty
    }

    /// Where not one of many forks found a hammer inside: those prove nothing.
    private var columnsThatMissed: [Column] {
        load == .hammered ? Column.allCases.filter { self[$0].forks >= Self.many && self[$0].inside == 0 } : []
    }

    private static let many = 10

    /// What there is to say about the first that went wrong of each kind.
    var notes: [String] {
        told + columnsThatMissed.map { "\(row.name), hammered, \($0.rawValue): no fork found a hammer inside; this proves nothing" }
    }

    var json: String {
        "{\"row\":\"\(row.name)\",\"load\":\"\(load.rawValue)\",\"unguarded\":\(self[.unguarded].json(.unguarded)),"
            + "\"guarded\":\(self[.guarded].json(.guarded))}"
    }

    /// Runs subjects until there were so many forks. `progress` is called after each.
    mutating func run(
        _ column: Column, forks: Int, home: String, progress: (Measurement) -> Void
    ) throws(Descriptors.Failure) {
        var counts = Counts()
        var toldOutcomes: Set<Outcome> = []
        var hasToldFailure = false
        while counts.forks < forks, counts.hung < column.enoughHung {
            let arguments = SubjectArguments(
                row: row, load: load, column: column, forks: min(row.forksPerSubject, forks - counts.forks), first: counts.forks,
                wantsStack: !toldOutcomes.contains(.hung))
            var subject = try SubjectProcess(arguments, home: home)
            var last: Outcome?
            reading: while counts.hung < column.enoughHung {
                guard let text = subject.readLine(deadline: Clock.now + Self.silence), let line = SubjectLine(text) else {
                    let (outcome, note) = subject.failure()
                    // Never silently fine: it counts as a fork.
                    counts.add(outcome, inside: false)
                    if !hasToldFailure { tell(note, column) }
                    hasToldFailure = true
                    break reading
                }
                switch line {
                case .child(let outcome, let inside):
                    last = outcome
                    counts.add(outcome, inside: inside)
                    self.counts[column] = counts
                    progress(self)
                case .note(let note):
                    if let last, toldOutcomes.insert(last).inserted { tell(note, column) }
                case .end: break reading
                }
            }
            self.counts[column] = counts
            progress(self)
        }
    }

    private mutating func tell(_ note: String, _ column: Column) {
        told.append("\(row.name), \(load.rawValue), \(column.rawValue): \(note)")
    }
}
